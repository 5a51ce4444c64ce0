//! `Cell`: one meta cluster that holds tenants' control planes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a cell is and what it offers.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "Cell",
    plural = "cells",
    category = "skep",
    status = "CellStatus",
    derive = "PartialEq",
    doc = "A meta cluster.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Zones", type_ = "string", json_path = ".spec.zones"),
    printcolumn(name = "Tenants", type_ = "integer", json_path = ".status.tenants"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.readyNodes"),
    printcolumn(name = "Gateway", type_ = "string", json_path = ".spec.gateway.address"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 40 characters that starts with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.region == oldSelf.region").message("region is immutable").field_path(".region"),
    validation = Rule::new("!has(oldSelf.pool) || (has(self.pool) && self.pool == oldSelf.pool)")
        .message("pool is immutable").field_path(".pool"),
    validation = Rule::new("has(self.provider) == has(oldSelf.provider) && (!has(self.provider) || self.provider == oldSelf.provider)")
        .message("provider is immutable").field_path(".provider"),
    validation = Rule::new("!has(self.provider) || has(self.pool)")
        .message("a cell that a provider makes belongs to a pool").field_path(".pool"),
    validation = Rule::new("!has(oldSelf.nodesPerZone) || (has(self.nodesPerZone) && self.nodesPerZone >= oldSelf.nodesPerZone)")
        .message("a cell only grows").field_path(".nodesPerZone")
)]
pub struct CellSpec {
    /// The `CellPool` that the cell belongs to; a cell of none takes tenants, and no pool counts on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 40))]
    pub pool: Option<String>,
    /// The region that the cell is in.
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 30))]
    pub region: String,
    /// The domain of its tenants' host names.
    #[schemars(length(min = 1, max = 100))]
    pub domain: String,
    /// The zones that it spans.
    #[schemars(length(min = 1, max = 9))]
    pub zones: Vec<String>,
    /// The ranges that the cell uses itself and no tenant may.
    pub network: CellNetwork,
    /// The way in for its tenants.
    pub gateway: Gateway,
    /// No new tenants while true; those that are there stay.
    #[serde(default)]
    pub cordoned: bool,
    /// Who makes the cell and removes it with this object, such as `local`; a cell of none is made elsewhere and registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 20))]
    pub provider: Option<String>,
    /// How many nodes the provider makes in each zone, one when left out; it only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub nodes_per_zone: Option<u8>,
}

/// The ranges of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CellNetwork {
    /// The range of the nodes.
    pub nodes: String,
    /// The range of the pods.
    pub pods: String,
    /// The range of the services.
    pub services: String,
}

/// The way in for a cell's tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The address, `host:port`, at which every tenant's host name is served by SNI.
    pub address: String,
}

/// What stands of a cell.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the agent last checked in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_in: Option<Time>,
    /// The version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The Kubernetes version of the meta cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// How many of its nodes are ready.
    #[serde(default)]
    pub ready_nodes: i32,
    /// How many control planes it holds.
    #[serde(default)]
    pub tenants: i32,
    /// What each zone has and what is taken of it, as the agent measured it with its last check-in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub capacity: Vec<ZoneCapacity>,
    /// The state in the standard form, `Ready` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What one zone of a cell has and what is taken of it, as quantities by dimension: `cpu`, `memory`, `pods`, `volumes`,
/// `datastore`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZoneCapacity {
    /// The zone's name.
    pub name: String,
    /// How many of its nodes are ready.
    #[serde(default)]
    pub ready_nodes: i32,
    /// Whether it has nodes and none of them is ready and takes pods.
    #[serde(default)]
    pub lost: bool,
    /// What its nodes that are ready and take pods can give to them, and its volumes.
    #[serde(default)]
    pub allocatable: BTreeMap<String, String>,
    /// What the cell's own pods have asked for of it.
    #[serde(default)]
    pub system: BTreeMap<String, String>,
    /// What the pods of tenants have asked for of it, and the volumes that they hold.
    #[serde(default)]
    pub committed: BTreeMap<String, String>,
}
