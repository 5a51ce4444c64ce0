//! What carries a tenant's traffic is killed: it resumes, and nothing else restarts.
//!
//! Alone, since it breaks what other tests use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::json;
use skep_e2e::containers::{self, Container};
use skep_e2e::platform::eventually;
use skep_e2e::{Namespace, Platform, Tenant};

async fn demo() -> (Platform, Tenant, String) {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::of(&platform, "demo").await.unwrap();
    let cpid = platform.cpid("demo").await.unwrap();
    (platform, tenant, format!("cp-{cpid}"))
}

async fn of_cell(platform: &Platform, namespace: &str) -> Vec<Container> {
    let pods = platform
        .kubectl(&["-n", namespace, "get", "pods", "-o", "json"])
        .await
        .unwrap();
    containers::running(&pods.json().unwrap())
}

async fn of_tenant(tenant: &Tenant) -> Vec<Container> {
    let pods = tenant
        .kubectl(&["-n", "kube-system", "get", "pods", "-o", "json"])
        .await
        .unwrap();
    containers::running(&pods.json().unwrap())
}

fn restarts(all: &[Container]) -> BTreeMap<&str, i64> {
    all.iter()
        .map(|container| (container.name.as_str(), container.restarts))
        .collect()
}

/// Waits until exactly the killed ones were restarted, each once.
async fn only_these_restarted<F>(before: &[Container], killed: &[&Container], mut now: impl FnMut() -> F)
where
    F: Future<Output = Vec<Container>>,
{
    let mut wanted = restarts(before);
    for container in killed {
        *wanted.get_mut(container.name.as_str()).unwrap() += 1;
    }
    eventually("what was killed runs again", || {
        let now = now();
        let wanted = &wanted;
        async move {
            let now = now.await;
            ensure!(
                restarts(&now) == *wanted,
                "{:?} instead of {wanted:?}",
                restarts(&now)
            );
            Ok(())
        }
    })
    .await
    .unwrap();
}

/// Logs of the demo's web server, which come over the way back.
async fn logs_come(tenant: &Tenant) {
    eventually("logs come", || async {
        let logs = [
            "-n",
            "kube-system",
            "logs",
            "-l",
            "k8s-app=kube-proxy",
            "--tail=1",
        ];
        tenant.kubectl(&logs).await?.success()
    })
    .await
    .unwrap();
}

/// A pod that stays, and in which `kubectl` can be run with the pod's own account.
async fn asker(tenant: &Tenant) -> Namespace<'_> {
    let space = Namespace::create(tenant, "asker").await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asker"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": "localhost/kube-proxy:v1.36.3", "imagePullPolicy": "IfNotPresent",
            "command": ["kubectl", "proxy"],
        }]},
    });
    space.apply(&pod.to_string()).await.unwrap();
    let wait = ["wait", "--for=condition=Ready", "pod/asker", "--timeout=120s"];
    space.kubectl(&wait).await.unwrap().success().unwrap();
    space
}

/// The pod asks its API by the address that the node's Envoy holds.
async fn it_reaches_its_api(space: &Namespace<'_>) {
    eventually("a pod reaches its API", || async {
        let ask = ["exec", "asker", "--", "kubectl", "get", "--raw", "/version"];
        let answer = space.kubectl(&ask).await?.success()?;
        ensure!(answer.contains("gitVersion"), "{answer}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_killed_gateway_is_back_and_nothing_else_restarts() {
    let (platform, tenant, namespace) = demo().await;
    let space = asker(&tenant).await;
    let (gateways, planes) = (
        of_cell(&platform, "skep-system").await,
        of_cell(&platform, &namespace).await,
    );
    let killed: Vec<&Container> = gateways
        .iter()
        .filter(|found| found.name.contains("/skep-gateway-"))
        .collect();
    assert_eq!(killed.len(), 3);
    for gateway in &killed {
        containers::kill_container(gateway).unwrap();
    }
    only_these_restarted(&gateways, &killed, || of_cell(&platform, "skep-system")).await;
    eventually("the API answers through the gateway", || async {
        tenant.kubectl(&["get", "namespaces"]).await?.success()
    })
    .await
    .unwrap();
    logs_come(&tenant).await;
    it_reaches_its_api(&space).await;
    assert_eq!(restarts(&planes), restarts(&of_cell(&platform, &namespace).await));
}

#[tokio::test]
async fn a_killed_envoy_of_a_node_is_back_and_nothing_else_restarts() {
    let (_, tenant, _) = demo().await;
    let space = asker(&tenant).await;
    let before = of_tenant(&tenant).await;
    let killed: Vec<&Container> = before
        .iter()
        .filter(|found| found.name.contains("/skep-api-proxy-"))
        .collect();
    assert!(killed.len() >= 2, "{before:?}");
    for envoy in &killed {
        containers::kill_container(envoy).unwrap();
    }
    only_these_restarted(&before, &killed, || of_tenant(&tenant)).await;
    it_reaches_its_api(&space).await;
}

#[tokio::test]
async fn killed_servers_of_the_way_back_are_back_and_no_apiserver_restarts() {
    let (platform, tenant, namespace) = demo().await;
    let before = of_cell(&platform, &namespace).await;
    let killed: Vec<&Container> = before
        .iter()
        .filter(|found| found.name.ends_with("/konnectivity"))
        .collect();
    assert_eq!(killed.len(), 2, "{before:?}");
    for server in &killed {
        containers::kill_container(server).unwrap();
    }
    only_these_restarted(&before, &killed, || of_cell(&platform, &namespace)).await;
    logs_come(&tenant).await;
}

#[tokio::test]
async fn a_killed_machine_is_started_again_by_up() {
    let (platform, tenant, namespace) = demo().await;
    let space = asker(&tenant).await;
    let instance = std::env::var("SKEP_INSTANCE").unwrap();
    let machine = format!("{instance}-{}-1", namespace.trim_start_matches("cp-"));
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(&format!("/{machine}/")) || cgroup.contains(&format!("/{machine}\n")) {
            let pid = nix::unistd::Pid::from_raw(pid);
            killed += i32::from(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).is_ok());
        }
    }
    assert!(killed > 3, "{killed} processes of {machine}");
    platform.skep(&["up"]).await.unwrap().success().unwrap();
    eventually("the node is ready and its pods serve", || async {
        let nodes = platform
            .skep(&["node", "list", "demo", "-o", "json"])
            .await?
            .json()?;
        let nodes = nodes.as_array().unwrap();
        ensure!(nodes.iter().all(|node| node["ready"] == true), "{nodes:#?}");
        Ok(())
    })
    .await
    .unwrap();
    logs_come(&tenant).await;
    it_reaches_its_api(&space).await;
}
