//! The platform stopped and started again: nothing restarts that is right, data is kept, nothing is left.
//!
//! One test in one order, because each step needs the state that the one before it left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use skep_e2e::leftovers::Snapshot;
use skep_e2e::platform::eventually;
use skep_e2e::{Platform, Tenant};

/// Every container of the cell with its restarts and its start.
async fn containers(platform: &Platform) -> BTreeMap<String, String> {
    let pods: Api<Pod> = Api::all(platform.hub().await.unwrap());
    let mut found = BTreeMap::new();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        for status in pod
            .status
            .clone()
            .unwrap_or_default()
            .container_statuses
            .unwrap_or_default()
        {
            let id = status.container_id.clone().unwrap_or_default();
            let name = format!(
                "{}/{}/{}",
                pod.namespace().unwrap_or_default(),
                pod.name_any(),
                status.name
            );
            found.insert(name, format!("{} restarts, {id}", status.restart_count));
        }
    }
    found
}

async fn demo_answers(platform: &Platform) -> Result<()> {
    let tenant = Tenant::of(platform, "demo").await?;
    let kept = tenant
        .kubectl(&["get", "configmap", "kept", "-o", "jsonpath={.data.who}"])
        .await?
        .success()?;
    ensure!(kept == "me", "{kept}");
    Ok(())
}

fn before() -> Snapshot {
    let path = std::env::var("SKEP_BEFORE").expect("e2e/run writes what was there before");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Kills every process of the instance at once, without a word to any of them.
fn kill_everything(platform: &Platform) {
    let machines = platform.home.join("machines");
    let machines = machines.to_str().unwrap().to_owned();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&machines) {
            let pid = entry.file_name().to_string_lossy().into_owned();
            drop(Command::new("kill").args(["-9", &pid]).output());
        }
    }
}

/// An object of demo's that must outlive everything but the last `down`.
async fn keep_something(platform: &Platform) {
    let tenant = Tenant::of(platform, "demo").await.unwrap();
    let again = ["delete", "configmap", "kept", "--ignore-not-found"];
    tenant.kubectl(&again).await.unwrap().success().unwrap();
    let keep = ["create", "configmap", "kept", "--from-literal=who=me"];
    tenant.kubectl(&keep).await.unwrap().success().unwrap();
}

fn nothing_is_left(after: &str) {
    let left = Snapshot::take().unwrap().beyond(&before());
    assert!(left.is_empty(), "left after {after}: {left:#?}");
}

/// Long, because the platform starts three times: once on its data, twice after its end.
#[tokio::test]
async fn it_repeats_keeps_is_repaired_and_goes() {
    let platform = Platform::connect().unwrap();
    keep_something(&platform).await;

    // A further `up` restarts nothing, once the last datastore member has joined.
    let wait = [
        "wait",
        "--for=condition=Ready",
        "etcdclusters",
        "--all",
        "-A",
        "--timeout=180s",
    ];
    platform.kubectl(&wait).await.unwrap().success().unwrap();
    let running = containers(&platform).await;
    platform.skep(&["up"]).await.unwrap().success().unwrap();
    assert_eq!(containers(&platform).await, running);

    // Down with the data kept, and up again: the same clusters with the same objects.
    platform
        .skep(&["down", "--keep"])
        .await
        .unwrap()
        .success()
        .unwrap();
    nothing_is_left("down --keep");
    platform.skep(&["up"]).await.unwrap().success().unwrap();
    let platform = Platform::connect().unwrap();
    eventually("demo answers with what it held", || demo_answers(&platform))
        .await
        .unwrap();

    // Every process killed at once: `up` starts what is missing, over the same data.
    kill_everything(&platform);
    platform.skep(&["up"]).await.unwrap().success().unwrap();
    let platform = Platform::connect().unwrap();
    eventually("demo answers after the kill", || demo_answers(&platform))
        .await
        .unwrap();

    // Killed again and then taken down: nothing is left, and a second `down` has nothing to do.
    kill_everything(&platform);
    platform.skep(&["down"]).await.unwrap().success().unwrap();
    nothing_is_left("down after a kill");
    platform.skep(&["down"]).await.unwrap().success().unwrap();
}
