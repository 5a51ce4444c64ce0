//! `TenantCluster`: what a tenant wants. A namespace is a project.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Availability;

/// What a tenant wants of its cluster; everything has a default.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "TenantCluster",
    plural = "tenantclusters",
    shortname = "tc",
    category = "skep",
    namespaced,
    status = "TenantClusterStatus",
    derive = "PartialEq",
    doc = "A Kubernetes cluster that a tenant asked for.",
    selectable = ".spec.class",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Class", type_ = "string", json_path = ".status.class"),
    printcolumn(name = "Cell", type_ = "string", json_path = ".status.cell"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Cpid", type_ = "string", json_path = ".status.cpid", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 40 characters that starts with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.availability == oldSelf.availability").message("availability is immutable").field_path(".availability"),
    validation = Rule::new("self.profile == oldSelf.profile").message("profile is immutable").field_path(".profile"),
    validation = Rule::new("!has(oldSelf.region) || (has(self.region) && self.region == oldSelf.region)")
        .message("region is immutable").field_path(".region"),
    validation = Rule::new("has(self.network) == has(oldSelf.network) && (!has(self.network) || self.network == oldSelf.network)")
        .message("network is immutable").field_path(".network")
)]
pub struct TenantClusterSpec {
    /// The Kubernetes version, such as 1.36.3; the newest of the platform where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^v?[0-9]+\.[0-9]+\.[0-9]+$"), length(max = 20))]
    pub version: Option<String>,
    /// The `ClusterProfile` that says what kind of cluster this is.
    #[serde(default = "default_profile")]
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 40))]
    pub profile: String,
    /// The `SizeClass`: `auto` lets the platform choose and change it.
    #[serde(default)]
    pub class: ClassChoice,
    /// The region; the platform's only one where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"), length(max = 30))]
    pub region: Option<String>,
    /// How the control plane is spread over zones.
    #[serde(default)]
    pub availability: Availability,
    /// The tenant's own address ranges; the profile's where they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// While true, a deletion is refused.
    #[serde(default)]
    pub deletion_protection: bool,
}

fn default_profile() -> String {
    "standard".to_owned()
}

impl Default for TenantClusterSpec {
    fn default() -> Self {
        Self {
            version: None,
            profile: default_profile(),
            class: ClassChoice::default(),
            region: None,
            availability: Availability::default(),
            network: None,
            deletion_protection: false,
        }
    }
}

/// The size class that a tenant asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClassChoice {
    /// The platform chooses, starting small, and changes it as the tenant grows.
    #[default]
    Auto,
    /// Pinned to small.
    Small,
    /// Pinned to medium.
    Medium,
    /// Pinned to large.
    Large,
}

/// A tenant's address ranges.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!isCIDR(self.pods) || !isCIDR(self.services) || (!cidr(self.pods).containsCIDR(self.services) && !cidr(self.services).containsCIDR(self.pods))")
        .message("the ranges of pods and services overlap").field_path(".services")
)]
pub struct Network {
    /// The range of the pods, such as 198.19.0.0/17.
    #[x_kube(validation = Rule::new("isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self).masked() == cidr(self)").message("must be an IPv4 network such as 198.19.0.0/17, with no host bits set"))]
    #[schemars(length(max = 43))]
    pub pods: String,
    /// The range of the services, such as 198.19.128.0/20.
    #[x_kube(validation = Rule::new("isCIDR(self) && cidr(self).ip().family() == 4 && cidr(self).masked() == cidr(self)").message("must be an IPv4 network such as 198.19.128.0/20, with no host bits set"))]
    #[schemars(length(max = 43))]
    pub services: String,
}

/// What stands of a tenant's cluster.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The identity of the control plane, fixed at birth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpid: Option<String>,
    /// The cell that holds the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// The Kubernetes version that was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The size class that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The host name under which the tenant's API is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The address, `host:port`, at which that name is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The revision of the record that the cell has made true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The state in the standard form, `Ready` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
