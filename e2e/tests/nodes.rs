//! Workers of a tenant: they join from a network of the tenant's own through the gateway, run pods, and go again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;
use skep_e2e::platform::{eventually, run};
use skep_e2e::{Platform, Tenant};
use tokio::process::Command;

async fn nodes(platform: &Platform) -> Vec<Value> {
    let list = platform
        .skep(&["node", "list", "demo", "-o", "json"])
        .await
        .unwrap();
    list.json().unwrap().as_array().unwrap().clone()
}

async fn field(platform: &Platform, object: &[&str], path: &str) -> String {
    let output = format!("jsonpath={{{path}}}");
    let arguments = [&["get"], object, &["-o", &output]].concat();
    platform.kubectl(&arguments).await.unwrap().success().unwrap()
}

/// How `curl` ends that connects to a port of the front from a worker's network.
async fn reach(netns: &str, front: &str, port: u16) -> i32 {
    let url = format!("https://{front}:{port}/");
    let mut command = Command::new("nsenter");
    command.args([
        &format!("--net=/run/netns/{netns}"),
        "curl",
        "-ks",
        "-o",
        "/dev/null",
        "--connect-timeout",
        "3",
        &url,
    ]);
    run(&mut command, None).await.unwrap().status
}

async fn pods_run(platform: &Platform) {
    let tenant = Tenant::of(platform, "demo").await.unwrap();
    let create = [
        "create",
        "deployment",
        "runs",
        "--image=localhost/pause:3.10.2",
        "--replicas=2",
    ];
    tenant.kubectl(&create).await.unwrap().success().unwrap();
    let wait = [
        "wait",
        "--for=condition=Available",
        "deployment/runs",
        "--timeout=60s",
    ];
    tenant.kubectl(&wait).await.unwrap().success().unwrap();
    tenant
        .kubectl(&["delete", "deployment", "runs"])
        .await
        .unwrap()
        .success()
        .unwrap();
}

/// A machine of a tenant reaches the gateway and nothing else of the cell.
async fn the_cell_is_closed(platform: &Platform, cpid: &str, machine: &str) {
    let netns = format!("{}-{cpid}-{machine}", std::env::var("SKEP_INSTANCE").unwrap());
    let front = field(platform, &["cell", "local"], ".spec.gateway.address").await;
    let front = front.split(':').next().unwrap();
    // 7: no connection; 35: a connection that the gateway ends, because it names no tenant.
    assert_eq!(
        reach(&netns, front, 6443).await,
        7,
        "the cell's own API is reached from a tenant's network"
    );
    assert_eq!(reach(&netns, front, 443).await, 35);
}

/// Drained, started anew with this build's programs, and taking pods again.
async fn a_node_is_upgraded(platform: &Platform, name: &str) {
    let due = platform.skep(&["node", "upgrade", "demo", name]).await.unwrap();
    assert!(due.success().unwrap().contains("already"));
    let upgrade = platform
        .skep(&["node", "upgrade", "demo", name, "--force"])
        .await
        .unwrap();
    assert!(upgrade.success().unwrap().contains(name));
    let tenant = Tenant::of(platform, "demo").await.unwrap();
    let node = tenant
        .kubectl(&["get", "node", name, "-o", "json"])
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(node["spec"]["unschedulable"], Value::Null, "{node:#}");
    let pods = [
        "-n",
        "kube-system",
        "wait",
        "pods",
        "--for=condition=Ready",
        "--timeout=120s",
    ];
    let on_node = format!("--field-selector=spec.nodeName={name}");
    let wait = [&pods[..], &[on_node.as_str()]].concat();
    tenant.kubectl(&wait).await.unwrap().success().unwrap();
}

/// Long, because two machines start, join and end.
#[tokio::test]
async fn workers_join_run_pods_and_go() {
    let platform = Platform::connect().unwrap();
    let add = ["node", "add", "demo", "--count", "2", "-o", "json"];
    let added = platform.skep(&add).await.unwrap().json().unwrap();
    let added = added.as_array().unwrap();
    assert_eq!(added.len(), 2, "{added:#?}");
    let names: Vec<&str> = added.iter().map(|node| node["name"].as_str().unwrap()).collect();
    let joined: Vec<Value> = nodes(&platform).await;
    let joined: Vec<&Value> = joined
        .iter()
        .filter(|node| names.contains(&node["name"].as_str().unwrap()))
        .collect();
    assert!(
        joined.len() == 2
            && joined
                .iter()
                .all(|node| node["ready"] == true && node["version"] == "v1.36.3"),
        "{joined:#?}"
    );
    let zones: BTreeSet<_> = joined.iter().map(|node| node["zone"].as_str().unwrap()).collect();
    assert_eq!(zones.len(), 2, "{joined:#?}");

    let cpid = platform.cpid("demo").await.unwrap();
    pods_run(&platform).await;
    the_cell_is_closed(&platform, &cpid, machine_of(names[0])).await;

    a_node_is_upgraded(&platform, names[0]).await;

    let missing = platform
        .skep(&["node", "delete", "demo", "nobody"])
        .await
        .unwrap();
    assert_eq!(missing.status, 3, "{}", missing.stderr);
    assert!(missing.stderr.contains("nobody"), "{}", missing.stderr);
    platform
        .skep(&["node", "delete", "demo", names[0], names[1]])
        .await
        .unwrap()
        .success()
        .unwrap();
    let left = nodes(&platform).await;
    assert!(
        left.iter()
            .all(|node| !names.contains(&node["name"].as_str().unwrap()))
    );
    eventually("no network of the two workers is left", || async {
        let all = std::fs::read_dir("/run/netns")?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let left: Vec<_> = all
            .filter(|netns| {
                names
                    .iter()
                    .any(|name| netns.ends_with(&format!("-{cpid}-{}", machine_of(name))))
            })
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The number of a worker's machine, which its node's name ends with.
fn machine_of(name: &str) -> &str {
    name.rsplit('-').next().unwrap()
}
