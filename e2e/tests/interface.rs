//! The way back by an interface: apiservers in the tenant's own network reach kubelets with no agent's help.
//!
//! The profile and the cluster are this test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use skep_e2e::platform::eventually;
use skep_e2e::{Namespace, Platform, Tenant};

/// Of profile and cluster.
const NAME: &str = "interface";

/// A copy of the standard profile whose control planes have interfaces.
async fn create_profile(platform: &Platform) {
    let get = ["get", "clusterprofile", "standard", "-o", "json"];
    let standard = platform.kubectl(&get).await.unwrap().json().unwrap();
    let mut profile = json!({
        "apiVersion": standard["apiVersion"], "kind": standard["kind"],
        "metadata": {"name": NAME}, "spec": standard["spec"],
    });
    profile["spec"]["parameters"]["wayBack"] = json!("interface");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), profile.to_string()).unwrap();
    let apply = ["apply", "--server-side", "-f", file.path().to_str().unwrap()];
    platform.kubectl(&apply).await.unwrap().success().unwrap();
}

/// The control plane's namespace in the cell.
async fn namespace(platform: &Platform) -> String {
    format!("cp-{}", platform.cpid(NAME).await.unwrap())
}

/// Removes the agents; the operator brings them back within ten minutes.
async fn without_agents(tenant: &Tenant) {
    eventually("no agent is left", || async {
        let delete = [
            "-n",
            "kube-system",
            "delete",
            "daemonset",
            "konnectivity-agent",
            "--ignore-not-found",
        ];
        tenant.kubectl(&delete).await?.success()?;
        ensure!(agents(tenant).await?.is_empty(), "there are agents");
        Ok(())
    })
    .await
    .unwrap();
}

async fn agents(tenant: &Tenant) -> Result<String> {
    let get = [
        "-n",
        "kube-system",
        "get",
        "pods",
        "-l",
        "k8s-app=konnectivity-agent",
        "-o",
        "name",
    ];
    tenant.kubectl(&get).await?.success()
}

/// The log is read and a command is run while there is no agent.
async fn logs_and_exec_work(tenant: &Tenant, space: &Namespace<'_>) {
    without_agents(tenant).await;
    eventually("the log comes, and there is no agent", || async {
        let log = space.kubectl(&["logs", "shell"]).await?.success()?;
        let said = space
            .kubectl(&["exec", "shell", "--", "echo", "inside"])
            .await?
            .success()?;
        ensure!(log == "begun\n" && said == "inside\n", "{log}{said}");
        let agents = agents(tenant).await?;
        ensure!(agents.is_empty(), "with {agents}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn logs_and_exec_need_no_agent_and_no_node_leads_into_the_cell() {
    let platform = Platform::connect().unwrap();
    create_profile(&platform).await;
    let further = ["--profile", NAME, "--availability", "Single"];
    let tenant = Tenant::create(&platform, NAME, &further).await.unwrap();
    // The apiserver was there before its tenant's network was.
    platform
        .skep(&["node", "add", NAME])
        .await
        .unwrap()
        .success()
        .unwrap();
    let space = Namespace::create(&tenant, "back").await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-c", "echo begun; sleep 36000"],
        }]},
    });
    space.apply(&pod.to_string()).await.unwrap();
    let wait = ["wait", "--for=condition=Ready", "pod/shell", "--timeout=180s"];
    space.kubectl(&wait).await.unwrap().success().unwrap();
    logs_and_exec_work(&tenant, &space).await;

    no_node_leads_into_the_cell(&platform, &tenant).await;

    // One that starts now finds the network there.
    let cell = namespace(&platform).await;
    let replace = [
        "-n",
        &cell,
        "delete",
        "pods",
        "-l",
        "skep.dev/component=kube-apiserver",
        "--wait",
    ];
    platform.kubectl(&replace).await.unwrap().success().unwrap();
    eventually("the new apiserver answers", || async {
        tenant.kubectl(&["get", "nodes"]).await?.success()
    })
    .await
    .unwrap();
    logs_and_exec_work(&tenant, &space).await;

    drop(space);
    let delete = ["cluster", "delete", NAME, "--wait", "--timeout", "10m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    platform
        .kubectl(&["delete", "clusterprofile", NAME])
        .await
        .unwrap()
        .success()
        .unwrap();
}

/// A tenant may call any address its node's. Its apiserver, which is a pod of the cell, must not go there.
async fn no_node_leads_into_the_cell(platform: &Platform, tenant: &Tenant) {
    let path = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    let address = platform
        .kubectl(&["get", "nodes", "-o", path])
        .await
        .unwrap()
        .success()
        .unwrap();
    let node: Value = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "trap"}, "spec": {"unschedulable": true},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    });
    let create = tenant
        .kubectl_with(&["create", "-f", "-"], &node.to_string())
        .await;
    create.unwrap().success().unwrap();
    // The cell's own API server, which tells everybody its version.
    let read = ["get", "--raw", "/api/v1/nodes/https:trap:6443/proxy/version"];
    let answer = tenant.kubectl(&read).await.unwrap();
    tenant
        .kubectl(&["delete", "node", "trap"])
        .await
        .unwrap()
        .success()
        .unwrap();
    assert!(
        answer.status != 0 && answer.stderr.contains("connection refused"),
        "{answer:?}"
    );
}
