//! How nodes get another version: one at a time, drained before and looked at after.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use skep_provider::workers;
use skep_runtime::conditions::to_second;
use skep_runtime::wait_for;

use super::join::supervisor;
use super::session::Session;
use crate::client::{Context, Failure};
use crate::platform::progress::Display;

/// How long a node whose machine was started again may take to be ready with its new version.
const READY_LIMIT: Duration = Duration::from_mins(3);

/// Upgrades these nodes, or all of the cluster.
pub(super) async fn upgrade(
    cluster: &str,
    names: &[String],
    force: bool,
    context: &Context,
) -> Result<(), Failure> {
    let session = Session::open(cluster, context).await?;
    let nodes: Api<Node> = Api::all(session.client.clone());
    let all = nodes
        .list(&ListParams::default())
        .await
        .context("cannot list the nodes")?
        .items;
    if let Some(stranger) = names
        .iter()
        .find(|name| !all.iter().any(|node| node.name_any() == **name))
    {
        return Err(Failure::NotFound(format!(
            "cluster {cluster} has no node {stranger}; see `skep node list {cluster}`"
        )));
    }
    let target = format!("v{}", session.version().await?);
    let is_due = |node: &&Node| {
        let is_named = names.is_empty() || names.contains(&node.name_any());
        is_named && (force || version_of(node) != Some(target.as_str()))
    };
    let due: Vec<String> = all.iter().filter(is_due).map(ResourceExt::name_any).collect();
    if due.is_empty() {
        println!("every node runs {target} already");
        return Ok(());
    }
    let display = Display::brief();
    for name in &due {
        let result = session.upgrade(name, &target, &display).await;
        if result.is_err() {
            display.clear();
        }
        result?;
    }
    display.clear();
    println!("{} run {target}", due.join(", "));
    Ok(())
}

fn version_of(node: &Node) -> Option<&str> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    Some(info.kubelet_version.as_str())
}

fn is_ready_since(node: &Node, since: Timestamp) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|known| {
        let told = known
            .last_heartbeat_time
            .as_ref()
            .is_some_and(|time| time.0 >= since);
        known.type_ == "Ready" && known.status == "True" && told
    })
}

impl Session {
    async fn upgrade(&self, name: &str, target: &str, display: &Display) -> Result<(), Failure> {
        let artifacts = self.artifacts(display).await?;
        let supervisor = supervisor()?;
        let place = self.ground.place_with(&supervisor);
        let drained = self.drain(name);
        display
            .step(
                "drain",
                &format!("pods leave {name}"),
                Some(Duration::from_secs(20)),
                drained,
            )
            .await?;
        let begun = to_second(Timestamp::now());
        let upgraded = async {
            workers::upgrade_worker(&place, &self.tenant.cpid, name, &artifacts)
                .await
                .map_err(Failure::from_error)
        };
        display
            .step(
                "upgrade",
                &format!("{name} gets {target}"),
                Some(Duration::from_secs(15)),
                upgraded,
            )
            .await?;
        self.await_version(name, target, begun).await?;
        let nodes: Api<Node> = Api::all(self.client.clone());
        let uncordon = Patch::Merge(json!({"spec": {"unschedulable": null}}));
        nodes
            .patch(name, &PatchParams::default(), &uncordon)
            .await
            .with_context(|| format!("cannot uncordon node {name}"))?;
        Ok(())
    }

    /// Waits until the node's kubelet of this version has told since then that it is ready.
    async fn await_version(&self, name: &str, target: &str, since: Timestamp) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let runs = |node: Option<&Node>| {
            node.is_some_and(|node| is_ready_since(node, since) && version_of(node) == Some(target))
        };
        wait_for(nodes, name, runs, READY_LIMIT).await.map_err(|late| {
            Failure::TimedOut(format!(
                "node {name} does not run {target}: {late}; it stays cordoned: see the log of its kubelet"
            ))
        })
    }
}
