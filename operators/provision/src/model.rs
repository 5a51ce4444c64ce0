//! What travels over HTTP: bodies of requests and answers, shared with the command-line client.
//!
//! Plain data; what a request must keep to is checked in [`crate::fields`] and the routes.

mod catalog;
mod cluster;
mod project;

pub use catalog::{ClassInfo, ProfileInfo, RegionInfo, VersionInfo};
pub(crate) use cluster::time_text;
pub use cluster::{
    Availability, Class, Cluster, ClusterEvent, ClusterState, Condition, Credentials, Network, NewCluster,
    NewKubeconfig, PatchCluster,
};
pub use project::{NewProject, NewToken, Project, Token};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// Give this as `continue` for the next page; absent on the last one.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that fits one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}
