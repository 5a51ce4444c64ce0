//! `skep status`: hub, cell, zones and tenants at one glance.
//!
//! It reads and changes nothing.

use anyhow::Result;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use skep_api::{Cell, TenantCluster};
use skep_core::{SYSTEM_NAMESPACE, labels, reasons};

/// One line of the status.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Hub, cell, zone, node, operator or cluster.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// Whether it does what it should.
    pub ready: bool,
    /// Where it is reached, or what it runs on.
    pub place: String,
    /// What is waited for, or what it runs.
    pub detail: String,
}

/// Reads the whole platform's state, hub first.
pub async fn read(client: &Client) -> Result<Vec<Row>> {
    let everything = ListParams::default();
    let nodes: Api<Node> = Api::all(client.clone());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let cells: Api<Cell> = Api::all(client.clone());
    let clusters: Api<TenantCluster> = Api::all(client.clone());
    let (nodes, deployments, daemon_sets, cells, clusters) = tokio::try_join!(
        nodes.list(&everything),
        deployments.list(&everything),
        daemon_sets.list(&everything),
        cells.list(&everything),
        clusters.list(&everything),
    )?;
    let mut rows: Vec<Row> = deployments.iter().map(deployment).collect();
    rows.extend(daemon_sets.iter().map(daemon_set));
    let hub_ready = rows.iter().all(|row| row.ready);
    let hub = Row {
        kind: "hub",
        name: "hub".into(),
        ready: hub_ready,
        place: client.default_namespace().to_owned(),
        detail: format!("{} operators", rows.len()),
    };
    rows.insert(
        0,
        Row {
            place: SYSTEM_NAMESPACE.into(),
            ..hub
        },
    );
    rows.extend(cells.iter().map(cell));
    rows.extend(zones(&nodes.items));
    rows.extend(clusters.iter().map(cluster));
    Ok(rows)
}

fn deployment(deployment: &Deployment) -> Row {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let available = deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    operator(deployment.name_any(), available, wanted)
}

fn daemon_set(daemon_set: &DaemonSet) -> Row {
    let status = daemon_set.status.as_ref();
    let wanted = status.map_or(0, |status| status.desired_number_scheduled);
    let available = status.and_then(|status| status.number_available).unwrap_or(0);
    operator(daemon_set.name_any(), available, wanted)
}

fn operator(name: String, available: i32, wanted: i32) -> Row {
    let detail = format!("{available} of {wanted} pods");
    Row {
        kind: "operator",
        name,
        ready: available >= wanted && wanted > 0,
        place: SYSTEM_NAMESPACE.into(),
        detail,
    }
}

fn cell(cell: &Cell) -> Row {
    let conditions = cell.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let (ready, message) = readiness(conditions);
    let tenants = cell.status.as_ref().map_or(0, |status| status.tenants);
    let detail = if ready {
        format!("{tenants} control planes")
    } else {
        message
    };
    Row {
        kind: "cell",
        name: cell.name_any(),
        ready,
        place: cell.spec.gateway.address.clone(),
        detail,
    }
}

fn zones(nodes: &[Node]) -> Vec<Row> {
    let mut rows: Vec<Row> = nodes.iter().map(node).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

fn node(node: &Node) -> Row {
    let zone = node
        .labels()
        .get(labels::TOPOLOGY_ZONE)
        .cloned()
        .unwrap_or_default();
    let status = node.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or(&[]);
    let ready = conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let version = status.and_then(|status| status.node_info.as_ref());
    let version = version
        .map(|info| info.kubelet_version.clone())
        .unwrap_or_default();
    Row {
        kind: "zone",
        name: zone,
        ready,
        place: node.name_any(),
        detail: version,
    }
}

fn cluster(cluster: &TenantCluster) -> Row {
    let status = cluster.status.clone().unwrap_or_default();
    let (ready, message) = readiness(&status.conditions);
    let project = cluster.namespace().unwrap_or_default();
    let project = project.strip_prefix("project-").unwrap_or(&project).to_owned();
    let version = status.version.unwrap_or_default();
    let class = status.class.unwrap_or_default();
    let detail = if ready {
        format!("v{version} {class}")
    } else {
        message
    };
    let place = status
        .endpoint
        .map(|endpoint| format!("https://{endpoint}"))
        .unwrap_or_default();
    Row {
        kind: "cluster",
        name: format!("{project}/{}", cluster.name_any()),
        ready,
        place,
        detail,
    }
}

fn readiness(conditions: &[Condition]) -> (bool, String) {
    conditions
        .iter()
        .find(|condition| condition.type_ == reasons::READY)
        .map_or((false, "not seen yet".to_owned()), |ready| {
            (ready.status == "True", ready.message.clone())
        })
}
