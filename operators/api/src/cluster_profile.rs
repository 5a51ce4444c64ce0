//! `ClusterProfile`: what kind of cluster a tenant gets.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::tenant_cluster::Network;

/// What a profile gives to a control plane.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "skep.dev",
    version = "v1alpha1",
    kind = "ClusterProfile",
    plural = "clusterprofiles",
    category = "skep",
    derive = "PartialEq",
    doc = "A kind of cluster.",
    printcolumn(name = "Summary", type_ = "string", json_path = ".spec.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterProfileSpec {
    /// One line that says what the profile is for.
    #[schemars(length(min = 1, max = 200))]
    pub summary: String,
    /// The versions that are offered, newest first, the first being the default.
    #[schemars(length(min = 1, max = 20))]
    pub versions: Vec<String>,
    /// The size classes that are offered, the first being the one that `auto` starts with.
    #[schemars(length(min = 1, max = 3))]
    pub classes: Vec<String>,
    /// The address ranges of a tenant that names none.
    pub network: Network,
    /// Where images come from, such as `localhost`.
    #[schemars(length(min = 1, max = 200))]
    pub image_repository: String,
    /// The etcd version.
    pub etcd_version: String,
    /// The images of what runs inside a tenant, by part.
    // Never left out when it is written: templates are strict and name it.
    #[serde(default)]
    pub images: BTreeMap<String, String>,
    /// The storage class of the datastore's volumes.
    pub storage_class: String,
    /// The handlebars template that renders a control plane, with strict mode on.
    #[schemars(length(min = 1, max = 65536))]
    pub template: String,
    /// Further values for the template.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}
