//! The nodes of a cluster as rows, with what is known of their machines here.

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;
use skep_provider::workers;

use super::session::Session;
use crate::client::Failure;
use crate::client::output::{Tabular, age};

/// One node as a row.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    ready: bool,
    version: String,
    zone: String,
    address: String,
    pods: String,
    created_at: Option<String>,
    local: bool,
}

impl Tabular for Row {
    const HEADINGS: &'static [&'static str] = &[
        "NAME", "READY", "VERSION", "ZONE", "AGE", "ADDRESS", "PODS", "LOCAL",
    ];
    const NARROW: usize = 5;

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.ready { "True" } else { "False" }.to_owned(),
            self.version.clone(),
            self.zone.clone(),
            age(self.created_at.as_deref(), Timestamp::now()),
            self.address.clone(),
            self.pods.clone(),
            if self.local { "yes" } else { "no" }.to_owned(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Session {
    pub(super) async fn rows(&self) -> Result<Vec<Row>, Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let all = nodes
            .list(&ListParams::default())
            .await
            .context("cannot list the nodes")?;
        let local = workers::workers(&self.ground.home, &self.tenant.cpid).map_err(Failure::from_error)?;
        let is_local = |name: &str| local.iter().any(|worker| worker.name == name);
        Ok(all
            .iter()
            .map(|node| row(node, is_local(&node.name_any())))
            .collect())
    }
}

pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn row(node: &Node, local: bool) -> Row {
    let status = node.status.clone().unwrap_or_default();
    let addresses = status.addresses.unwrap_or_default();
    let address = addresses
        .into_iter()
        .find(|address| address.type_ == "InternalIP");
    Row {
        name: node.name_any(),
        ready: is_ready(node),
        version: status
            .node_info
            .map(|info| info.kubelet_version)
            .unwrap_or_default(),
        zone: node
            .labels()
            .get("topology.kubernetes.io/zone")
            .cloned()
            .unwrap_or_default(),
        address: address.map(|address| address.address).unwrap_or_default(),
        pods: node
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_cidr.clone())
            .unwrap_or_default(),
        created_at: node
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.to_string()),
        local,
    }
}
