//! `EtcdRestore`: the data of a datastore are replaced by a snapshot, once a person has seen what is lost by it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The condition that says whether the snapshot was read whole and may be restored.
pub const VERIFIED: &str = "Verified";

/// Which snapshot takes the place of a datastore's data.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "EtcdRestore",
    plural = "etcdrestores",
    category = "skep",
    namespaced,
    status = "EtcdRestoreStatus",
    derive = "PartialEq",
    doc = "The replacement of an etcd cluster's data by a snapshot.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Approved", type_ = "boolean", json_path = ".spec.approved"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".status.snapshot"),
    printcolumn(name = "Loss", type_ = "string", json_path = ".status.loss"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.snapshot) == has(oldSelf.snapshot) && has(self.owner) == has(oldSelf.owner)")
        .message("only approved may change; create another restore"),
    validation = Rule::new("!oldSelf.approved || self.approved").message("approved may not be taken back; what was begun goes on").field_path(".approved")
)]
pub struct EtcdRestoreSpec {
    /// The name of the `EtcdCluster` in the same namespace.
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("only approved may change; create another restore"))]
    pub cluster: String,
    /// The snapshot's name in the store; the newest where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("only approved may change; create another restore"))]
    pub snapshot: Option<String>,
    /// Whose snapshot: the unique id of the datastore that it was taken of; the same one's where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("only approved may change; create another restore"))]
    pub owner: Option<String>,
    /// Whether to begin: set it once `status.loss` was read.
    #[serde(default)]
    pub approved: bool,
}

/// What became of a restore.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdRestoreStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The snapshot that was read whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The revision that it holds at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Time>,
    /// What is lost by it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// The state in the standard form, `Ready` first; `Verified` once the snapshot was read whole, `Progressing`
    /// from when the datastore was asked until the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
