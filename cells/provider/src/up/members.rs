//! The cluster of an instance: begun or awaited, joined by its nodes, and given its services.

use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;

use super::{Outcome, Run};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::host::process;
use crate::join::Membership;
use crate::spec::{Node, Role};

/// The API is back within 20 s of its machine's start, later where other builds run.
const API_LIMIT: Duration = Duration::from_mins(3);
const NODES_LIMIT: Duration = Duration::from_mins(3);

impl Run<'_> {
    fn membership(&self) -> Membership<'_> {
        Membership {
            cell: self.cell,
            layout: self.layout,
            hierarchies: self.hierarchies,
            artifacts: self.artifacts,
        }
    }

    /// Begins the cluster, or waits for the one that there is.
    pub(super) async fn control_plane(&self) -> Result<Outcome, Error> {
        let membership = self.membership();
        let Some(first) = self.cell.nodes.first() else {
            return Ok(Outcome::Nothing);
        };
        let is_member = membership.is_member(first);
        if is_member {
            membership.export_kubeconfig(first)?;
        } else {
            membership.init(first, self.inside(first)?).await?;
        }
        let cluster = Cluster::open(&self.layout.kubeconfig()).await?;
        if cluster.is_ready().await && is_member {
            return Ok(Outcome::Nothing);
        }
        cluster.wait_ready(API_LIMIT, &self.logs_hint()).await?;
        Ok(Outcome::Done)
    }

    /// Makes every node a member, and waits until all are ready.
    pub(super) async fn nodes(&self) -> Result<Outcome, Error> {
        let membership = self.membership();
        let cluster = Cluster::open(&self.layout.kubeconfig()).await?;
        let missing: Vec<_> = self
            .cell
            .nodes
            .iter()
            .filter(|node| !membership.is_member(node))
            .collect();
        let (planes, workers): (Vec<_>, Vec<_>) =
            missing.iter().partition(|node| node.role == Role::ControlPlane);
        let join_planes = async {
            // One after the other: each adds a member to etcd.
            for node in planes {
                membership.join(node, self.inside(node)?, &cluster).await?;
            }
            Ok(())
        };
        let join_workers = try_join_all(
            workers
                .into_iter()
                .map(|node| async { membership.join(node, self.inside(node)?, &cluster).await }),
        );
        tokio::try_join!(join_planes, join_workers)?;
        cluster
            .settle_nodes(
                self.cell,
                |node| self.started_at(node),
                NODES_LIMIT,
                &self.logs_hint(),
            )
            .await?;
        Ok(if missing.is_empty() {
            Outcome::Nothing
        } else {
            Outcome::Done
        })
    }

    /// When a node's machine was started: what the API knows from before says nothing of it.
    fn started_at(&self, node: &Node) -> Option<Timestamp> {
        process::started_at(self.inside(node).ok()?.init)
    }

    pub(super) async fn services(&self) -> Result<Outcome, Error> {
        let cluster = Cluster::open(&self.layout.kubeconfig()).await?;
        let Some(first) = self.cell.nodes.first() else {
            return Ok(Outcome::Nothing);
        };
        let had_class = cluster.ensure_storage_class().await?;
        if cluster.is_dns_settled().await? {
            return Ok(if had_class {
                Outcome::Nothing
            } else {
                Outcome::Done
            });
        }
        self.membership().install_dns(first, self.inside(first)?).await?;
        cluster.settle_dns().await?;
        Ok(Outcome::Done)
    }

    fn logs_hint(&self) -> String {
        format!("see the logs in {}", self.layout.home().join("log").display())
    }
}
