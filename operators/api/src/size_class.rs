//! `SizeClass`: resources and parameters of small, medium and large control planes.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::control_plane::ComponentResources;

/// What a class gives to a control plane.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "SizeClass",
    plural = "sizeclasses",
    category = "skep",
    derive = "PartialEq",
    doc = "A size class of control planes.",
    printcolumn(name = "Order", type_ = "integer", json_path = ".spec.order"),
    printcolumn(name = "ApiServerMemory", type_ = "string", json_path = ".spec.apiServer.memoryLimit"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name in ['small', 'medium', 'large']").message("metadata.name must be small, medium or large")
)]
#[serde(rename_all = "camelCase")]
pub struct SizeClassSpec {
    /// Where the class stands among the others, smallest first.
    #[schemars(range(min = 1, max = 9))]
    pub order: i32,
    /// kube-apiserver.
    pub api_server: ComponentResources,
    /// How many apiservers a zone-redundant tenant has.
    #[schemars(range(min = 1, max = 9))]
    pub api_server_replicas: i32,
    /// `--max-requests-inflight` of each apiserver.
    #[schemars(range(min = 1, max = 10000))]
    pub max_requests_inflight: i32,
    /// `--max-mutating-requests-inflight` of each apiserver.
    #[schemars(range(min = 1, max = 10000))]
    pub max_mutating_requests_inflight: i32,
    /// kube-controller-manager.
    pub controller_manager: ComponentResources,
    /// kube-scheduler.
    pub scheduler: ComponentResources,
    /// etcd.
    pub etcd: ComponentResources,
    /// The size of each etcd member's volume.
    pub etcd_volume_size: String,
    /// The most bytes that the database may hold.
    #[schemars(range(min = 67_108_864_i64, max = 8_589_934_592_i64))]
    pub etcd_quota_bytes: i64,
    /// Further values for the profile's templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}
