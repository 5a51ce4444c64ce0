//! How nodes leave a cluster: drained, deleted there, and their machines removed here.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use skep_provider::workers;

use super::session::Session;
use crate::client::{Context, Failure};
use crate::platform::cells::{Ground, standing};

/// How long pods of a node that goes may take to end.
const DRAIN_LIMIT: Duration = Duration::from_mins(2);

pub(super) async fn delete(
    cluster: &str,
    names: &[String],
    force: bool,
    context: &Context,
) -> Result<(), Failure> {
    let session = Session::open(cluster, context).await?;
    let nodes: Api<Node> = Api::all(session.client.clone());
    let local = workers::workers(&session.ground.home, &session.tenant.cpid).map_err(Failure::from_error)?;
    for name in names {
        let is_node = nodes
            .get_opt(name)
            .await
            .context("cannot read the nodes")?
            .is_some();
        if !is_node && !local.iter().any(|worker| worker.name == *name) {
            return Err(Failure::NotFound(format!(
                "cluster {cluster} has no node {name}; see `skep node list {cluster}`"
            )));
        }
        if is_node && !force {
            session.drain(name).await?;
        }
        match nodes.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => drop(result.with_context(|| format!("cannot delete node {name}"))?),
        }
    }
    remove_machines(&session.ground, &session.tenant.cpid, names).await
}

/// Removes the machines that a cluster has here, for instance when it is deleted.
pub async fn remove_all(cpid: &str, context: &Context) -> Result<(), Failure> {
    for ground in standing(&context.home)? {
        let local = workers::workers(&ground.home, cpid).map_err(Failure::from_error)?;
        if local.is_empty() {
            continue;
        }
        let names: Vec<_> = local.into_iter().map(|worker| worker.name).collect();
        remove_machines(&ground, cpid, &names).await?;
    }
    Ok(())
}

async fn remove_machines(ground: &Ground, cpid: &str, names: &[String]) -> Result<(), Failure> {
    workers::remove_workers(&ground.place(), cpid, names)
        .await
        .map(drop)
        .map_err(Failure::from_error)
}

impl Session {
    /// Moves pods away as `kubectl drain` does: cordon, then evictions, which disruption budgets may hold up.
    pub(super) async fn drain(&self, name: &str) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
        nodes
            .patch(name, &PatchParams::default(), &cordon)
            .await
            .with_context(|| format!("cannot cordon node {name}"))?;
        let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
        loop {
            let left = self.evictable(name).await?;
            if left.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                let pods: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
                return Err(Failure::TimedOut(format!(
                    "pods {} do not leave node {name}; look at their disruption budgets, or use --force",
                    pods.join(", ")
                )));
            }
            for pod in left
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            {
                let pods: Api<Pod> =
                    Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
                // A budget that holds it up is asked again.
                drop(pods.evict(&pod.name_any(), &EvictParams::default()).await);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Pods of a node that a drain must move: not those of `DaemonSets`, and not what the kubelet runs by itself.
    async fn evictable(&self, node: &str) -> Result<Vec<Pod>, Failure> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let all = pods
            .list(&on_node)
            .await
            .with_context(|| format!("cannot list the pods of {node}"))?;
        let stays = |pod: &Pod| {
            let owned = pod
                .owner_references()
                .iter()
                .any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node");
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            owned || matches!(phase, Some("Succeeded" | "Failed"))
        };
        Ok(all.items.into_iter().filter(|pod| !stays(pod)).collect())
    }
}
