//! What a tenant's users do with a cluster that has nodes: Services, names, logs, exec, copies, tunnels, metrics,
//! volumes, and pods that speak to their own API.
//!
//! The cluster is `demo`, with the worker that `skep up` gave it and one more of `e2e/run`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_e2e::platform::{eventually, run};
use skep_e2e::{Namespace, Platform, Tenant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const BUSYBOX: &str = "localhost/busybox:1";
/// It holds kubectl, too.
const KUBERNETES: &str = "localhost/kube-proxy:v1.36.3";

async fn demo() -> Tenant {
    Tenant::of(&Platform::connect().unwrap(), "demo").await.unwrap()
}

/// Names of the nodes that are ready.
async fn nodes(tenant: &Tenant) -> Vec<String> {
    let list = tenant
        .kubectl(&["get", "nodes", "-o", "json"])
        .await
        .unwrap()
        .json()
        .unwrap();
    let is_ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array().unwrap();
        conditions
            .iter()
            .any(|known| known["type"] == "Ready" && known["status"] == "True")
    };
    let ready = list["items"].as_array().unwrap().iter().filter(is_ready);
    ready
        .map(|node| node["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A pod that runs one command.
fn pod(name: &str, image: &str, command: &[&str], node: Option<&str>) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeName": node,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": command}],
        },
    })
    .to_string()
}

/// The log of a pod that ran to its end, whatever the end.
async fn outcome(space: &Namespace<'_>, name: &str) -> Result<String> {
    eventually(&format!("pod {name} ends"), || async {
        let output = ["get", "pod", name, "-o", "jsonpath={.status.phase}"];
        let phase = space.kubectl(&output).await?.success()?;
        ensure!(phase == "Succeeded" || phase == "Failed", "it is {phase}");
        Ok(())
    })
    .await?;
    space.kubectl(&["logs", name]).await?.success()
}

async fn wait_ready(space: &Namespace<'_>, what: &str) {
    let condition = if what.starts_with("pod/") {
        "Ready"
    } else {
        "Available"
    };
    let arguments = [
        "wait",
        &format!("--for=condition={condition}"),
        what,
        "--timeout=120s",
    ];
    space.kubectl(&arguments).await.unwrap().success().unwrap();
}

#[tokio::test]
async fn pods_of_either_node_reach_a_service_by_its_name() {
    let tenant = demo().await;
    let space = Namespace::create(&tenant, "service").await.unwrap();
    let all = nodes(&tenant).await;
    assert!(all.len() >= 2, "{all:?}");
    let server = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "hello"}}, "template": {
            "metadata": {"labels": {"app": "hello"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent",
                    "command": ["/bin/sh", "-c",
                        "mkdir -p /tmp/www && echo hello > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                }],
            },
        }},
    });
    space.apply(&server.to_string()).await.unwrap();
    let expose = ["expose", "deployment", "hello", "--port=80", "--target-port=8080"];
    space.kubectl(&expose).await.unwrap().success().unwrap();
    wait_ready(&space, "deployment/hello").await;
    let url = format!("http://hello.{}.svc.cluster.local/", space.name);
    for (index, node) in all.iter().enumerate() {
        let name = format!("client-{index}");
        let script = format!(
            "for i in 1 2 3 4 5; do timeout 5 wget -q -O - {url} && timeout 5 wget -q -O - http://hello/ && exit 0; \
             sleep 1; done; exit 1"
        );
        space
            .apply(&pod(&name, BUSYBOX, &["/bin/sh", "-c", &script], Some(node)))
            .await
            .unwrap();
        let log = outcome(&space, &name).await.unwrap();
        assert_eq!(
            log.lines().filter(|line| *line == "hello").count(),
            2,
            "on {node}: {log}"
        );
    }
}

#[tokio::test]
async fn logs_exec_copy_attach_and_tunnels_work() {
    let tenant = demo().await;
    let space = Namespace::create(&tenant, "back").await.unwrap();
    let script = "mkdir -p /tmp/www; echo served > /tmp/www/index.html; echo begun; httpd -p 8080 -h /tmp/www; \
                  while read -r line; do echo \"heard $line\"; done; sleep 3600";
    let mut object: Value =
        serde_json::from_str(&pod("shell", BUSYBOX, &["/bin/sh", "-c", script], None)).unwrap();
    object["spec"]["containers"][0]["stdin"] = json!(true);
    space.apply(&object.to_string()).await.unwrap();
    wait_ready(&space, "pod/shell").await;

    let log = eventually("the log is there", || async {
        let log = space.kubectl(&["logs", "shell"]).await?.success()?;
        ensure!(log.contains("begun"), "{log}");
        Ok(log)
    });
    assert_eq!(log.await.unwrap(), "begun\n");
    let echoed = space.kubectl(&[
        "exec",
        "shell",
        "--",
        "/bin/sh",
        "-c",
        "echo inside; cat /tmp/www/index.html",
    ]);
    assert_eq!(echoed.await.unwrap().success().unwrap(), "inside\nserved\n");

    copies_both_ways(&space).await;
    tunnel_serves(&space).await;
    attached_input_is_heard(&space).await;
}

async fn copies_both_ways(space: &Namespace<'_>) {
    let directory = tempfile::tempdir().unwrap();
    let (there, back) = (directory.path().join("there"), directory.path().join("back"));
    let content = "copied ".repeat(10_000);
    std::fs::write(&there, &content).unwrap();
    let copy = ["cp", there.to_str().unwrap(), "shell:/tmp/copy"];
    space.kubectl(&copy).await.unwrap().success().unwrap();
    let copy = ["cp", "shell:/tmp/copy", back.to_str().unwrap()];
    space.kubectl(&copy).await.unwrap().success().unwrap();
    assert_eq!(std::fs::read_to_string(back).unwrap(), content);
}

async fn tunnel_serves(space: &Namespace<'_>) {
    let mut tunnel = space
        .command(&["port-forward", "pod/shell", ":8080"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tunnel.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(Duration::from_mins(1), lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    // "Forwarding from 127.0.0.1:40123 -> 8080"
    let address = first.split_whitespace().nth(2).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", &format!("http://{address}/")]);
    let answer = run(&mut curl, None).await.unwrap().success().unwrap();
    assert_eq!(answer, "served\n");
    tunnel.kill().await.unwrap();
}

async fn attached_input_is_heard(space: &Namespace<'_>) {
    let mut attached = space
        .command(&["attach", "-i", "shell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = attached.stdin.take().unwrap();
    let mut stdout = attached.stdout.take().unwrap();
    let heard = async {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.contains("heard you") {
            stdin.write_all(b"you\n").await.unwrap();
            stdin.flush().await.unwrap();
            if let Ok(read) = tokio::time::timeout(Duration::from_secs(2), stdout.read(&mut buffer)).await {
                text.push_str(&String::from_utf8_lossy(&buffer[..read.unwrap()]));
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), heard)
        .await
        .expect("the pod hears what is typed");
    attached.kill().await.unwrap();
}

/// What `skep up` says last, typed as it stands.
#[tokio::test]
async fn the_last_line_of_up_works() {
    let tenant = demo().await;
    let mut tunnel = tenant
        .command(&["port-forward", "service/web", ":80"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tunnel.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_mins(1), lines.next_line());
    let line = line.await.unwrap().unwrap().unwrap();
    let address = line.split_whitespace().nth(2).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", &format!("http://{address}/")]);
    let answer = run(&mut curl, None).await.unwrap().success().unwrap();
    assert!(answer.starts_with("Hello from a pod"), "{answer}");
    tunnel.kill().await.unwrap();
}

#[tokio::test]
async fn metrics_are_an_aggregated_api() {
    let tenant = demo().await;
    eventually("top shows every node", || async {
        let top = tenant
            .kubectl(&["top", "nodes", "--no-headers"])
            .await?
            .success()?;
        let known = nodes(&tenant).await.len();
        ensure!(top.lines().count() >= known.min(2), "{top}");
        Ok(())
    })
    .await
    .unwrap();
    let pods = tenant.kubectl(&["top", "pods", "-n", "kube-system", "--no-headers"]);
    let pods = pods.await.unwrap().success().unwrap();
    assert!(pods.contains("coredns"), "{pods}");
    let service = tenant
        .kubectl(&["get", "apiservice", "v1beta1.metrics.k8s.io", "-o", "json"])
        .await
        .unwrap()
        .json()
        .unwrap();
    // The check of its certificate is on.
    assert!(
        !service["spec"]["insecureSkipTLSVerify"]
            .as_bool()
            .unwrap_or(false)
    );
    assert!(
        service["spec"]["caBundle"]
            .as_str()
            .is_some_and(|bundle| !bundle.is_empty())
    );
}

#[tokio::test]
async fn a_pod_asks_its_own_api_with_its_service_account() {
    let tenant = demo().await;
    let space = Namespace::create(&tenant, "account").await.unwrap();
    let grant = [
        "create",
        "rolebinding",
        "reads",
        "--clusterrole=view",
        &format!("--serviceaccount={}:default", space.name),
    ];
    space.kubectl(&grant).await.unwrap().success().unwrap();
    // client-go takes address, token and authority from where every pod has them.
    let command = ["kubectl", "get", "pods", "-o", "name"];
    space
        .apply(&pod("asks", KUBERNETES, &command, None))
        .await
        .unwrap();
    let log = outcome(&space, "asks").await.unwrap();
    assert_eq!(log.trim(), "pod/asks", "{log}");

    // By name, which needs the tenant's DNS, and is in the certificate.
    let files = "/var/run/secrets/kubernetes.io/serviceaccount";
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "own", "cluster": {
            "server": "https://kubernetes.default.svc", "certificate-authority": format!("{files}/ca.crt"),
        }}],
        "users": [{"name": "own", "user": {"tokenFile": format!("{files}/token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "own", "user": "own", "namespace": space.name}}],
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kubeconfig"},
        "data": {"config": kubeconfig.to_string()},
    });
    space.apply(&map.to_string()).await.unwrap();
    let command = [
        "kubectl",
        "--kubeconfig=/kubeconfig/config",
        "get",
        "pods",
        "by-name",
        "-o",
        "name",
    ];
    let mut object: Value = serde_json::from_str(&pod("by-name", KUBERNETES, &command, None)).unwrap();
    object["spec"]["volumes"] = json!([{"name": "kubeconfig", "configMap": {"name": "kubeconfig"}}]);
    object["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "kubeconfig", "mountPath": "/kubeconfig"}]);
    space.apply(&object.to_string()).await.unwrap();
    let log = outcome(&space, "by-name").await.unwrap();
    assert_eq!(log.trim(), "pod/by-name", "{log}");
}

#[tokio::test]
async fn a_claim_gets_a_volume_that_outlives_its_pod() {
    let tenant = demo().await;
    let space = Namespace::create(&tenant, "volume").await.unwrap();
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    });
    space.apply(&claim.to_string()).await.unwrap();
    let with_volume = |name: &str, script: &str| {
        let mut object: Value =
            serde_json::from_str(&pod(name, BUSYBOX, &["/bin/sh", "-c", script], None)).unwrap();
        object["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        object["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
        object.to_string()
    };
    space
        .apply(&with_volume("writes", "echo kept > /data/file"))
        .await
        .unwrap();
    outcome(&space, "writes").await.unwrap();
    space
        .kubectl(&["delete", "pod", "writes"])
        .await
        .unwrap()
        .success()
        .unwrap();
    space
        .apply(&with_volume("reads", "cat /data/file"))
        .await
        .unwrap();
    let log = outcome(&space, "reads").await.context("the second pod").unwrap();
    assert_eq!(log, "kept\n");
}
