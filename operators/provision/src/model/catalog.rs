//! What a platform offers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A profile: a kind of cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileInfo {
    /// The name.
    pub name: String,
    /// One line that says what it is for.
    pub summary: String,
    /// The versions that it offers, newest first.
    pub versions: Vec<String>,
    /// The size classes that it offers.
    pub classes: Vec<String>,
}

/// A Kubernetes version on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionInfo {
    /// The version.
    #[schema(example = "1.36.3")]
    pub version: String,
    /// Whether a cluster that names none gets this one.
    pub default: bool,
    /// The profiles that offer it.
    pub profiles: Vec<String>,
}

/// A size class on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassInfo {
    /// The name.
    pub name: String,
    /// The CPU set aside for each apiserver.
    pub api_server_cpu: String,
    /// The most memory of each apiserver.
    pub api_server_memory: String,
    /// How many apiservers a zone-redundant cluster has.
    pub api_server_replicas: i32,
    /// The size of each datastore volume.
    pub volume_size: String,
}

/// A region on offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionInfo {
    /// The name.
    pub name: String,
    /// The zones.
    pub zones: Vec<String>,
    /// Whether a new cluster can be placed there now.
    pub available: bool,
}
