//! A second real meta cluster: made by `skep cell create`, registered by token, used by a tenant, and given back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod agents;
mod hub_away;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_e2e::platform::{eventually, run};
use skep_e2e::{Namespace, Output, Platform, Tenant};
use tokio::process::Command;

const CELL: &str = "two";
const TENANT: &str = "second";

/// Runs `kubectl` in the second cell with its administrator's rights.
async fn in_cell(platform: &Platform, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("kubectl");
    let kubeconfig = platform.home.join("cells").join(CELL).join("hub.kubeconfig");
    run(command.arg("--kubeconfig").arg(kubeconfig).args(arguments), None).await
}

async fn cordon(platform: &Platform, cell: &str, is_cordoned: bool) {
    let patch = json!({"spec": {"cordoned": is_cordoned}}).to_string();
    let arguments = ["patch", "cell", cell, "--type=merge", "-p", &patch];
    platform.kubectl(&arguments).await.unwrap().success().unwrap();
}

/// A kubeconfig names the region's one front, whichever cell holds the cluster.
async fn has_the_front_of_demo(platform: &Platform, tenant: &Tenant) {
    let demo = Tenant::of(platform, "demo").await.unwrap();
    let server = |tenant: &Tenant| {
        let config: Value = serde_saphyr::from_str(&tenant.kubeconfig().unwrap()).unwrap();
        config["clusters"][0]["cluster"]["server"].clone()
    };
    assert_eq!(server(tenant), server(&demo), "the region has one front");
}

async fn serves(tenant: &Tenant) {
    let space = Namespace::create(tenant, "cells").await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "speaks"},
        "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-c", "echo begun; sleep 36000"]}]},
    });
    space.apply(&pod.to_string()).await.unwrap();
    let wait = ["wait", "--for=condition=Ready", "pod/speaks", "--timeout=180s"];
    space.kubectl(&wait).await.unwrap().success().unwrap();
    // Logs and commands take the way back from the apiserver to the node.
    eventually("the pod's log is read", || async {
        let log = space.kubectl(&["logs", "speaks"]).await?.success()?;
        ensure!(log.trim() == "begun", "{log}");
        Ok(())
    })
    .await
    .unwrap();
    let echo = ["exec", "speaks", "--", "echo", "heard"];
    assert_eq!(
        space.kubectl(&echo).await.unwrap().success().unwrap().trim(),
        "heard"
    );
}

async fn nothing_is_left(platform: &Platform, cell: &str) {
    let instance = std::env::var("SKEP_INSTANCE").unwrap();
    let prefix = format!("{instance}--{cell}");
    eventually("nothing of the cell is left", || async {
        let mut left: Vec<PathBuf> = Vec::new();
        for dir in [
            "/run/netns",
            "/run/skep/instances",
            "/sys/fs/cgroup/skep",
            "/sys/fs/cgroup/cpu/skep",
        ] {
            let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
            left.extend(names.map(|entry| entry.path()).filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix) && !name.ends_with(".lock")
            }));
        }
        left.extend(Some(platform.home.join("cells").join(cell)).filter(|path| path.exists()));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(left.is_empty() && !mounts.contains(&prefix), "{left:?}");
        let get = [
            "get",
            "cells,clusterregistrations,registrationtokens,namespaces",
            "-o",
            "name",
        ];
        let objects = platform.kubectl(&get).await?.success()?;
        let of_cell = |line: &&str| {
            {
                line.contains("registration")
                    || line.ends_with(&format!("/{cell}"))
                    || line.ends_with(&format!("/skep-cell-{cell}"))
            }
        };
        let objects: Vec<&str> = objects.lines().filter(of_cell).collect();
        ensure!(objects.is_empty(), "{objects:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// A cluster of nodes is made, registers, holds a tenant with a node, and is removed: minutes.
#[tokio::test]
async fn a_second_meta_cluster_is_made_holds_a_tenant_and_goes_without_a_trace() {
    let platform = Platform::connect().unwrap();
    clean(&platform).await;
    let create = ["cell", "create", CELL, "--timeout", "8m"];
    platform.skep(&create).await.unwrap().success().unwrap();
    let again = platform.skep(&create).await.unwrap();
    assert!(again.status == 5 && again.stderr.contains("already"), "{again:?}");
    let get = [
        "get",
        "clusterregistrations",
        "-o",
        "jsonpath={.items[*].spec.cell}",
    ];
    assert_eq!(platform.kubectl(&get).await.unwrap().success().unwrap(), CELL);

    cordon(&platform, "local", true).await;
    let tenant = Tenant::create(&platform, TENANT, &["--availability", "Single"]).await;
    cordon(&platform, "local", false).await;
    let tenant = tenant.unwrap();
    assert_eq!(placed(&platform, TENANT).await.unwrap(), Ok(CELL.to_owned()));
    let cpid = platform.cpid(TENANT).await.unwrap();
    let planes = ["get", "controlplanes", "-A", "-o", "name"];
    let here = platform.kubectl(&planes).await.unwrap().success().unwrap();
    let there = in_cell(&platform, &planes).await.unwrap().success().unwrap();
    assert!(
        !here.contains(&cpid) && there.contains(&cpid),
        "here {here}, there {there}"
    );

    has_the_front_of_demo(&platform, &tenant).await;

    platform
        .skep(&["node", "add", TENANT])
        .await
        .unwrap()
        .success()
        .unwrap();
    serves(&tenant).await;
    agents::each_sees_only_its_own(&platform).await;
    hub_away::both_cells_go_on(&platform, &tenant).await;

    let refused = platform.skep(&["cell", "delete", CELL]).await.unwrap();
    assert!(
        refused.status == 5 && refused.stderr.contains(&format!("default/{TENANT}")),
        "{refused:?}"
    );
    let delete = ["cluster", "delete", TENANT, "--wait", "--timeout", "10m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    let delete = ["cell", "delete", CELL, "--wait", "--timeout", "5m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    nothing_is_left(&platform, CELL).await;
}

/// The cell that the planner orders.
const ORDERED: &str = "local-2";
/// More tenants than the first cell may promise room for, without overcommitment.
const MOST: u32 = 6;

/// Removes what a run that was cut off left.
async fn clean(platform: &Platform) {
    let fills = (1..=MOST).map(|number| format!("fill-{number}"));
    for name in fills.chain([TENANT.to_owned(), hub_away::CALM.to_owned()]) {
        drop(platform.skep(&["cluster", "delete", &name, "--wait"]).await);
    }
    for cell in [CELL, ORDERED] {
        drop(platform.skep(&["cell", "delete", cell, "--wait"]).await);
    }
}

async fn set_pool(platform: &Platform, spec: Value) {
    let patch = json!({"spec": spec}).to_string();
    let arguments = ["patch", "cellpool", "local", "--type=merge", "-p", &patch];
    platform.kubectl(&arguments).await.unwrap().success().unwrap();
}

async fn cluster(platform: &Platform, name: &str) -> Result<Value> {
    let get = [
        "-n",
        "project-default",
        "get",
        "tenantcluster",
        name,
        "-o",
        "json",
    ];
    platform.kubectl(&get).await?.json()
}

/// The cell that a cluster was given, or why it has none.
async fn placed(platform: &Platform, name: &str) -> Result<std::result::Result<String, String>> {
    let found = cluster(platform, name).await?;
    if let Some(cell) = found["status"]["cell"].as_str() {
        return Ok(Ok(cell.to_owned()));
    }
    let conditions = found["status"]["conditions"]
        .as_array()
        .context("nothing is said of it")?;
    let scheduled = conditions
        .iter()
        .find(|told| told["type"] == "Scheduled")
        .context("it was not looked at")?;
    ensure!(scheduled["reason"] == "NoCell", "{scheduled}");
    Ok(Err(scheduled["message"].as_str().unwrap_or_default().to_owned()))
}

/// Makes clusters until one finds no room; returns them all, that one last, with what it is told.
async fn fill(platform: &Platform) -> (Vec<String>, String) {
    let mut made = Vec::new();
    for number in 1..=MOST {
        let name = format!("fill-{number}");
        platform
            .skep(&["cluster", "create", &name])
            .await
            .unwrap()
            .success()
            .unwrap();
        made.push(name.clone());
        let found = eventually("the cluster is looked at", || placed(platform, &name))
            .await
            .unwrap();
        match found {
            Ok(cell) => assert_eq!(cell, "local", "{name}"),
            Err(why) => return (made, why),
        }
    }
    panic!("{MOST} clusters found room in the first cell");
}

/// The pool's limits are set low; from there on nobody does anything but make clusters and delete them. Minutes: a meta cluster of
/// three nodes is made.
#[tokio::test]
async fn the_planner_orders_a_cell_where_tenants_find_no_room_and_gives_it_back() {
    let platform = Platform::connect().unwrap();
    clean(&platform).await;
    let order = json!({"mode": "Automatic", "idleSeconds": 20});
    let low = json!({"maxCells": 2, "overcommitPercent": null, "order": order});
    set_pool(&platform, low).await;
    let (clusters, why) = fill(&platform).await;
    println!(
        "{} of {} wait: {why}",
        clusters[clusters.len() - 1],
        clusters.len()
    );
    assert!(
        ["cpu", "memory", "pods", "volumes", "datastore"]
            .iter()
            .any(|resource| why.contains(&format!("{resource} of zone"))),
        "{why}"
    );
    let last = clusters.last().unwrap();
    let explained = platform
        .skep(&["cell", "plan", "--explain"])
        .await
        .unwrap()
        .success()
        .unwrap();
    println!("{explained}");
    assert!(
        explained.contains("pool local") && explained.contains("binds"),
        "{explained}"
    );

    // The cell comes, and the cluster with it.
    let tenant = Tenant::of_waiting(&platform, last).await.unwrap();
    assert_eq!(placed(&platform, last).await.unwrap(), Ok(ORDERED.to_owned()));
    tenant
        .kubectl(&["get", "namespaces"])
        .await
        .unwrap()
        .success()
        .unwrap();
    has_the_front_of_demo(&platform, &tenant).await;
    platform
        .skep(&["node", "add", last])
        .await
        .unwrap()
        .success()
        .unwrap();
    serves(&tenant).await;
    let events = [
        "get",
        "events.events.k8s.io",
        "-A",
        "-o",
        "jsonpath={.items[*].reason}",
    ];
    let events = platform.kubectl(&events).await.unwrap().success().unwrap();
    assert!(events.contains("CellOrdered"), "{events}");

    for name in &clusters {
        platform
            .skep(&["cluster", "delete", name])
            .await
            .unwrap()
            .success()
            .unwrap();
    }
    eventually("the cell is given back", || async {
        let cells = platform
            .kubectl(&["get", "cells", "-o", "name"])
            .await?
            .success()?;
        ensure!(!cells.contains(ORDERED), "{cells}");
        Ok(())
    })
    .await
    .unwrap();
    nothing_is_left(&platform, ORDERED).await;
    let as_before = json!({"maxCells": null, "order": {"mode": null, "idleSeconds": null},
        "overcommitPercent": {"cpu": 1000, "memory": 400, "pods": 200, "volumes": 200, "datastore": 200}});
    set_pool(&platform, as_before).await;
}
