//! `CellPool`: how many cells of one kind a region may have, and what each keeps free.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policy of a pool of cells; everything but the region has a default.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "CellPool",
    plural = "cellpools",
    category = "skep",
    status = "CellPoolStatus",
    derive = "PartialEq",
    doc = "A region's policy for cells of one kind.",
    printcolumn(name = "Sufficient", type_ = "string", json_path = ".status.conditions[?(@.type=='Sufficient')].status"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Cells", type_ = "integer", json_path = ".status.cells"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxCells"),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".status.wanted"),
    printcolumn(name = "Binds", type_ = "string", json_path = ".status.binding.resource"),
    printcolumn(name = "Used%", type_ = "integer", json_path = ".status.binding.percent"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 40 characters that starts with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.region == oldSelf.region").message("region is immutable").field_path(".region"),
    validation = Rule::new("self.minCells <= self.maxCells").message("must be at most maxCells").field_path(".minCells"),
    validation = Rule::new("!has(self.overcommitPercent) || self.overcommitPercent.all(key, key in ['cpu', 'memory', 'pods', 'volumes', 'datastore'] && self.overcommitPercent[key] >= 100 && self.overcommitPercent[key] <= 100000)")
        .message("must be 100 to 100000 for cpu, memory, pods, volumes or datastore").field_path(".overcommitPercent")
)]
pub struct CellPoolSpec {
    /// The region of its cells.
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 30))]
    pub region: String,
    /// The fewest cells that the pool shall have.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_cells: i32,
    /// The most cells that the pool may have.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_cells: i32,
    /// The size class of which each cell keeps room for one tenant more, so that a tenant that grows finds it.
    #[serde(default)]
    pub headroom: Headroom,
    /// How long an ordered cell takes until it is ready, in minutes: what a forecast looks ahead once there is a history.
    #[serde(default = "a_day")]
    #[schemars(range(min = 1, max = 525_600))]
    pub lead_minutes: i32,
    /// What a cell costs, in thousandths of a dollar an hour.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub price_milli: i64,
    /// What all cells may cost together, in thousandths of a dollar an hour; without limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub budget_milli: Option<i64>,
    /// No cell is ordered and none is emptied while true.
    #[serde(default)]
    pub stopped: bool,
    /// The zones of a new cell and what tenants may take of each, as quantities of `cpu`, `memory`, `pods`, `volumes` and
    /// `datastore`; as the first of its cells that reports when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub zones: Vec<PoolZone>,
    /// How many percent of what nodes can give may be promised to tenants, by dimension: 100, or more where they take less than
    /// they ask for; 100 for those that are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 5))]
    pub overcommit_percent: BTreeMap<String, i32>,
    /// How further cells are ordered; none are where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<PoolOrder>,
}

/// How a pool's further cells are ordered, and what they are like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolOrder {
    /// Who makes them: the value of `spec.provider` of the cells.
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 20))]
    pub provider: String,
    /// Whether what is wanted is ordered, and whether somebody has to agree.
    #[serde(default)]
    pub mode: OrderMode,
    /// How many cells the pool may have by approval; read in the mode `Approval` alone.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub approved: i32,
    /// The domain of their tenants' host names.
    #[schemars(length(min = 1, max = 100))]
    pub domain: String,
    /// The zones of each.
    #[schemars(length(min = 1, max = 9))]
    pub zones: Vec<String>,
    /// Nodes in each zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub nodes_per_zone: Option<u8>,
    /// For how many seconds a cell must have held no tenant before it is given back; only cells that were ordered are.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub idle_seconds: i64,
    /// The networks that they may take, each once; those of cells that are there are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub networks: Vec<PoolNetwork>,
}

/// Whether a pool orders what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OrderMode {
    /// It says what it would order.
    #[default]
    Shadow,
    /// It orders as many cells as were approved.
    Approval,
    /// It orders by itself.
    Automatic,
}

/// The network of one further cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolNetwork {
    /// The range of the nodes.
    pub nodes: String,
    /// The range of the pods.
    pub pods: String,
    /// The range of the services.
    pub services: String,
    /// Where its gateway will be, `host:port`.
    pub gateway: String,
}

fn an_hour() -> i64 {
    3600
}

fn one() -> i32 {
    1
}

fn a_day() -> i32 {
    24 * 60
}

/// What a cell keeps free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Headroom {
    /// Nothing.
    None,
    /// Room for a small tenant.
    Small,
    /// Room for a medium tenant.
    Medium,
    /// Room for a large tenant.
    #[default]
    Large,
}

/// A zone of a new cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolZone {
    /// The zone's name.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 63))]
    pub name: String,
    /// What tenants may take of it.
    pub allocatable: BTreeMap<String, String>,
}

/// What stands of a pool.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellPoolStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many cells take tenants or keep those that they have.
    #[serde(default)]
    pub cells: i32,
    /// How many tenants they hold.
    #[serde(default)]
    pub tenants: i32,
    /// How many cells more the planner would order now.
    #[serde(default)]
    pub wanted: i32,
    /// The dimension that is the scarcest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<PoolBinding>,
    /// When more cells were first wanted, while they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_since: Option<Time>,
    /// Cells that were ordered and hold no tenant, with since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub idle: Vec<IdleCell>,
    /// The state in the standard form, `Sufficient` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A cell without tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleCell {
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: Time,
}

/// The scarcest dimension of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolBinding {
    /// Its name.
    pub resource: String,
    /// What tenants take of what they may take, in percent.
    pub percent: i32,
}
