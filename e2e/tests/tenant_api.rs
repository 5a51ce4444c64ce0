//! What a tenant's user does with `demo` through the gateway: everything that `kubectl` can do without nodes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::process::Stdio;
use std::time::Duration;

use skep_e2e::platform::eventually;
use skep_e2e::{Platform, Tenant};
use tokio::io::{AsyncBufReadExt, BufReader};

async fn demo() -> (Platform, Tenant) {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::of(&platform, "demo").await.unwrap();
    (platform, tenant)
}

#[tokio::test]
async fn version_and_identity_are_those_that_were_promised() {
    let (_, tenant) = demo().await;
    let version = tenant
        .kubectl(&["get", "--raw", "/version"])
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(version["gitVersion"], "v1.36.3");
    let who = tenant
        .kubectl(&["auth", "whoami", "-o", "json"])
        .await
        .unwrap()
        .json()
        .unwrap();
    let info = &who["status"]["userInfo"];
    assert!(
        info["username"].as_str().unwrap().starts_with("skep:user:"),
        "{info}"
    );
    let groups: Vec<&str> = info["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g.as_str().unwrap())
        .collect();
    assert!(
        groups.contains(&"skep:tenant-admins") && !groups.contains(&"system:masters"),
        "{groups:?}"
    );
}

#[tokio::test]
async fn a_deployment_makes_pods_that_wait_for_a_node() {
    let (_, tenant) = demo().await;
    tenant
        .kubectl(&["create", "namespace", "pending"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let create = [
        "-n",
        "pending",
        "create",
        "deployment",
        "web",
        "--image=localhost/web",
        "--replicas=2",
    ];
    let create = [&create[..], &["--dry-run=client", "-o", "json"]].concat();
    let mut deployment = tenant.kubectl(&create).await.unwrap().json().unwrap();
    // Such a node there is not.
    deployment["spec"]["template"]["spec"]["nodeSelector"] = serde_json::json!({"skep.dev/none": ""});
    tenant
        .kubectl_with(&["create", "-f", "-"], &deployment.to_string())
        .await
        .unwrap()
        .success()
        .unwrap();
    eventually("two pods are pending", || async {
        let pods = tenant
            .kubectl(&["-n", "pending", "get", "pods", "-o", "json"])
            .await?
            .json()?;
        let phases: Vec<_> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["status"]["phase"].clone())
            .collect();
        anyhow::ensure!(phases == ["Pending", "Pending"], "{phases:?}");
        Ok(())
    })
    .await
    .unwrap();
    tenant
        .kubectl(&["delete", "namespace", "pending", "--timeout=120s"])
        .await
        .unwrap()
        .success()
        .unwrap();
}

#[tokio::test]
async fn server_side_apply_keeps_its_field_manager() {
    let (_, tenant) = demo().await;
    let manifest =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied, namespace: default}\ndata: {a: b}\n";
    let apply = ["apply", "--server-side", "--field-manager=e2e", "-f", "-"];
    for _ in 0..2 {
        tenant
            .kubectl_with(&apply, manifest)
            .await
            .unwrap()
            .success()
            .unwrap();
    }
    let get = [
        "get",
        "configmap",
        "applied",
        "-o",
        "json",
        "--show-managed-fields",
    ];
    let object = tenant.kubectl(&get).await.unwrap().json().unwrap();
    assert_eq!(object["metadata"]["managedFields"][0]["manager"], "e2e");
    assert_eq!(object["metadata"]["managedFields"][0]["operation"], "Apply");
    tenant
        .kubectl(&["delete", "configmap", "applied"])
        .await
        .unwrap()
        .success()
        .unwrap();
}

#[tokio::test]
async fn a_watch_through_the_gateway_sees_objects_of_a_new_kind_at_once() {
    let (platform, tenant) = demo().await;
    let definition = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: bees.e2e.skep.dev}
spec:
  group: e2e.skep.dev
  names: {kind: Bee, plural: bees}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";
    tenant
        .kubectl_with(&["apply", "-f", "-"], definition)
        .await
        .unwrap()
        .success()
        .unwrap();
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd/bees.e2e.skep.dev",
        "--timeout=60s",
    ];
    tenant.kubectl(&wait).await.unwrap().success().unwrap();
    let kubeconfig = tenant.kubeconfig().unwrap();
    let path = platform.home.join("e2e/watch.kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    let mut watch = tokio::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&path)
        .args(["get", "bees", "--watch", "-o", "name"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let bee = "apiVersion: e2e.skep.dev/v1\nkind: Bee\nmetadata: {name: maja}\n";
    eventually("the kind is served", || async {
        tenant.kubectl_with(&["apply", "-f", "-"], bee).await?.success()
    })
    .await
    .unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
    assert_eq!(
        seen.expect("the watch is silent").unwrap().unwrap(),
        "bee.e2e.skep.dev/maja"
    );
    watch.kill().await.unwrap();
    std::fs::remove_file(path).unwrap();
    tenant
        .kubectl(&["delete", "crd", "bees.e2e.skep.dev"])
        .await
        .unwrap()
        .success()
        .unwrap();
}

#[tokio::test]
async fn namespaces_come_and_go() {
    let (_, tenant) = demo().await;
    tenant
        .kubectl(&["create", "namespace", "short-lived"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let delete = ["delete", "namespace", "short-lived", "--wait", "--timeout=120s"];
    tenant.kubectl(&delete).await.unwrap().success().unwrap();
    let gone = tenant
        .kubectl(&["get", "namespace", "short-lived"])
        .await
        .unwrap();
    assert!(
        gone.status != 0 && gone.stderr.contains("NotFound"),
        "{}",
        gone.stderr
    );
}

#[tokio::test]
async fn another_name_in_the_handshake_reaches_no_tenant() {
    let (platform, tenant) = demo().await;
    let kubeconfig = tenant.kubeconfig().unwrap();
    let server_name = kubeconfig
        .lines()
        .find(|line| line.contains("tls-server-name"))
        .unwrap()
        .to_owned();
    let other = kubeconfig.replace(
        server_name.trim(),
        "tls-server-name: api.caaaaaaaaa.local.skep.internal",
    );
    let path = platform.home.join("e2e/other-name.kubeconfig");
    std::fs::write(&path, other).unwrap();
    let output = skep_e2e::platform::run(
        tokio::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&path)
            .args(["get", "--raw", "/version", "--request-timeout=20s"]),
        None,
    )
    .await
    .unwrap();
    std::fs::remove_file(path).unwrap();
    assert_ne!(output.status, 0, "{}", output.stdout);
}
