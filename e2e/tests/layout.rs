//! What `skep up` leaves running: real nodes in three zones, operators as pods, and `demo` spread over zones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use skep_api::{ControlPlane, TenantCluster};
use skep_core::labels::TOPOLOGY_ZONE;
use skep_e2e::Platform;

async fn zones_of(client: &Client, namespace: &str, selector: &str) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let nodes: Api<Node> = Api::all(client.clone());
    let mut zones = BTreeSet::new();
    for pod in pods.list(&ListParams::default().labels(selector)).await.unwrap() {
        let node = pod.spec.unwrap().node_name.expect("the pod has a node");
        zones.insert(nodes.get(&node).await.unwrap().labels()[TOPOLOGY_ZONE].clone());
    }
    zones
}

async fn demo_namespace(client: &Client) -> String {
    let demo: Api<TenantCluster> = Api::namespaced(client.clone(), "project-default");
    format!(
        "cp-{}",
        demo.get("demo").await.unwrap().status.unwrap().cpid.unwrap()
    )
}

#[tokio::test]
async fn three_ready_nodes_in_three_zones_run_the_pinned_version() {
    let platform = Platform::connect().unwrap();
    let arguments = [
        "get",
        "nodes",
        "-L",
        "topology.kubernetes.io/zone",
        "--no-headers",
    ];
    let listed = platform.kubectl(&arguments).await.unwrap().success().unwrap();
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{listed}");
    assert!(
        rows.iter().all(|row| row[1] == "Ready" && row[4] == "v1.36.3"),
        "{listed}"
    );
    let zones: BTreeSet<&str> = rows.iter().map(|row| *row.last().unwrap()).collect();
    assert_eq!(zones, BTreeSet::from(["a", "b", "c"]), "{listed}");
}

#[tokio::test]
async fn every_operator_is_a_pod_of_the_cell() {
    let platform = Platform::connect().unwrap();
    let client = platform.hub().await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "skep-system");
    let names: BTreeSet<String> = deployments
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let expected = ["skep-agent", "skep-builder", "skep-cell", "skep-hub"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client, "skep-system");
    for daemon_set in daemon_sets.list(&ListParams::default()).await.unwrap() {
        let status = daemon_set.status.clone().unwrap();
        assert_eq!(status.number_available, Some(3), "{}", daemon_set.name_any());
    }
}

#[tokio::test]
async fn no_controller_runs_as_a_process_of_the_host() {
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let (Ok(command), Ok(namespace)) = (
            std::fs::read(path.join("cmdline")),
            std::fs::read_link(path.join("ns/pid")),
        ) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let is_controller = command.contains("skep run ") || command.contains(" run --controllers");
        assert!(!(is_controller && namespace == own), "{command}");
    }
}

#[tokio::test]
async fn demo_is_spread_over_the_zones() {
    let platform = Platform::connect().unwrap();
    let client = platform.hub().await.unwrap();
    let namespace = demo_namespace(&client).await;
    let api_servers = zones_of(&client, &namespace, "app.kubernetes.io/component=kube-apiserver").await;
    assert!(api_servers.len() >= 2, "apiservers are in {api_servers:?}");
    // The API is ready with two members; the third joins behind it.
    let wait = [
        "-n",
        &namespace,
        "wait",
        "--for=condition=Ready",
        "etcdcluster/etcd",
        "--timeout=120s",
    ];
    platform.kubectl(&wait).await.unwrap().success().unwrap();
    let members = zones_of(&client, &namespace, "app.kubernetes.io/component=etcd").await;
    assert_eq!(members.len(), 3, "members are in {members:?}");
}

#[tokio::test]
async fn status_shows_hub_cell_zones_and_demo_all_ready() {
    let platform = Platform::connect().unwrap();
    let rows = platform
        .skep(&["status", "-o", "json"])
        .await
        .unwrap()
        .json()
        .unwrap();
    let rows = rows.as_array().unwrap();
    for kind in ["hub", "operator", "cell", "zone", "cluster"] {
        assert!(
            rows.iter().any(|row| row["kind"] == kind),
            "no {kind} in {rows:#?}"
        );
    }
    let demo = rows
        .iter()
        .find(|row| row["name"] == "default/demo")
        .expect("demo is listed");
    assert!(
        demo["place"].as_str().unwrap().starts_with("https://api.c"),
        "{demo}"
    );
    assert_eq!(demo["ready"], true, "{demo}");
    assert!(
        rows.iter()
            .filter(|row| row["kind"] != "cluster")
            .all(|row| row["ready"] == true),
        "{rows:#?}"
    );
}

#[tokio::test]
async fn the_cell_pulls_with_an_identity_that_reaches_its_own_namespace_alone() {
    let platform = Platform::connect().unwrap();
    let can = async |verb: &str, what: &str, further: &[&str]| {
        let mut arguments = vec![
            "auth",
            "can-i",
            verb,
            what,
            "--as",
            "skep:cell:local",
            "--as-group",
            "skep:cells",
        ];
        arguments.extend(further);
        platform.kubectl(&arguments).await.unwrap().stdout.trim() == "yes"
    };
    let own = ["-n", "skep-cell-local"];
    assert!(can("list", "deploymentrecords.skep.dev", &own).await);
    let own_status = ["-n", "skep-cell-local", "--subresource=status"];
    assert!(can("patch", "deploymentrecords.skep.dev", &own_status).await);
    assert!(!can("patch", "deploymentrecords.skep.dev", &own).await);
    assert!(!can("create", "deploymentrecords.skep.dev", &own).await);
    assert!(!can("list", "deploymentrecords.skep.dev", &["-n", "skep-cell-other"]).await);
    assert!(!can("list", "tenantclusters.skep.dev", &["-n", "project-default"]).await);
    assert!(!can("get", "secrets", &["-n", "skep-system"]).await);
}

#[tokio::test]
async fn record_and_control_plane_carry_the_revision_and_the_trace_of_the_request() {
    let platform = Platform::connect().unwrap();
    let client = platform.hub().await.unwrap();
    let cpid = demo_namespace(&client).await.trim_start_matches("cp-").to_owned();
    let records: Api<skep_api::DeploymentRecord> = Api::namespaced(client.clone(), "skep-cell-local");
    let record = records.get(&cpid).await.unwrap();
    let control_planes: Api<ControlPlane> = Api::all(client);
    let control_plane = control_planes.get(&cpid).await.unwrap();
    assert_eq!(
        record.status.as_ref().unwrap().observed_revision.as_ref(),
        Some(&record.spec.revision)
    );
    assert_eq!(control_plane.spec, record.spec.control_plane);
    let trace = &record.annotations()[skep_core::labels::TRACEPARENT];
    assert_eq!(
        &control_plane.annotations()[skep_core::labels::TRACEPARENT],
        trace
    );
}
