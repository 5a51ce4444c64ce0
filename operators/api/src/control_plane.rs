//! `ControlPlane`: one tenant's control plane in its cell, resolved from profile and class.
//!
//! Cluster-scoped and named after the `cpid`; made by the agent alone.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Availability, TenantReference, tenant_cluster::Network};

/// Everything that a cell needs to know to run one tenant's control plane.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "ControlPlane",
    plural = "controlplanes",
    shortname = "cp",
    category = "skep",
    status = "ControlPlaneStatus",
    derive = "PartialEq",
    doc = "One tenant's control plane; named after its cpid.",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.tenant.project"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.tenant.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^c[a-z2-7]{9}$')").message("metadata.name must be the cpid")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.network == oldSelf.network").message("network is immutable").field_path(".network"),
    validation = Rule::new("self.region == oldSelf.region && self.domain == oldSelf.domain").message("region and domain are immutable").field_path(".region")
)]
pub struct ControlPlaneSpec {
    /// The tenant that this control plane is for.
    pub tenant: TenantReference,
    /// The Kubernetes version without a leading `v`.
    #[schemars(regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+$"))]
    pub version: String,
    /// The profile that this was resolved from.
    pub profile: String,
    /// The size class that this was resolved from.
    pub class: String,
    /// The region, part of the host names.
    pub region: String,
    /// The domain, part of the host names.
    pub domain: String,
    /// How the control plane is spread over zones.
    pub availability: Availability,
    /// The tenant's address ranges.
    pub network: Network,
    /// The datastore.
    pub etcd: EtcdTemplate,
    /// kube-apiserver.
    pub api_server: ComponentTemplate,
    /// kube-controller-manager.
    pub controller_manager: ComponentTemplate,
    /// kube-scheduler.
    pub scheduler: ComponentTemplate,
    /// The server of the way back, beside each kube-apiserver; without it logs, exec, webhooks and aggregated APIs
    /// reach no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub konnectivity: Option<SidecarTemplate>,
    /// The images of what runs inside the tenant, by part; a part that is not named is not installed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// Values for what runs inside the tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// A container beside another.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarTemplate {
    /// The image reference.
    #[schemars(length(min = 1, max = 300))]
    pub image: String,
    /// What it asks for and may take.
    pub resources: ComponentResources,
}

/// One component of a control plane as its class sizes it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentTemplate {
    /// The image reference.
    #[schemars(length(min = 1, max = 300))]
    pub image: String,
    /// How many pods run.
    #[schemars(range(min = 0, max = 9))]
    pub replicas: i32,
    /// What the pod asks for and may take.
    pub resources: ComponentResources,
    /// Further arguments, `--name` without the dashes to value; checked against an allow-list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, String>,
}

/// CPU and memory of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentResources {
    /// The CPU that is set aside, such as `50m`.
    pub cpu: String,
    /// The memory that is set aside, such as `256Mi`.
    pub memory: String,
    /// The most memory that it may take, such as `1Gi`.
    pub memory_limit: String,
    /// The soft limit of a Go program's heap, such as `768MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go_memory_limit: Option<String>,
}

/// The datastore of a control plane.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdTemplate {
    /// The etcd version.
    #[schemars(regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+$"))]
    pub version: String,
    /// The image reference.
    #[schemars(length(min = 1, max = 300))]
    pub image: String,
    /// The number of members.
    #[x_kube(validation = Rule::new("self == 1 || self == 3 || self == 5").message("must be 1, 3 or 5"))]
    pub members: i32,
    /// The size of each member's volume, such as `2Gi`.
    pub volume_size: String,
    /// The storage class of the volumes.
    pub storage_class: String,
    /// The most bytes that the database may hold.
    #[schemars(range(min = 67_108_864_i64, max = 8_589_934_592_i64))]
    pub quota_bytes: i64,
    /// What each member asks for and may take.
    pub resources: ComponentResources,
}

/// What stands of a control plane.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Kubernetes version that every apiserver runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The host name of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The certificate of the cluster CA, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// The state in the standard form, `Ready` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
