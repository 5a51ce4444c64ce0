//! What a round waits for, while an operator that died as it was told is started again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use skep_api::etcd_cluster::{EtcdCluster, EtcdTrust, TrustPhase};

use super::stage::{CLUSTER, PATIENCE, Site};

/// How long it must be whole.
const SETTLED: Duration = Duration::from_secs(3);

impl Site<'_> {
    /// Waits until all members serve and nothing is under way, and it stays so for a while: what just happened may not be
    /// noticed yet.
    ///
    /// # Errors
    /// When that takes too long; with what the status says.
    pub async fn wait_until_whole(&mut self, members: i32) -> Result<()> {
        self.wait_until(members, true).await
    }

    /// Waits until the status says that all members serve, whatever pods are left.
    pub(super) async fn wait_until_told(&mut self, members: i32) -> Result<()> {
        self.wait_until(members, false).await
    }

    async fn wait_until(&mut self, members: i32, has_only_their_pods: bool) -> Result<()> {
        let begun = Instant::now();
        let mut since: Option<Instant> = None;
        loop {
            self.tend_operator()?;
            let object = self.clusters().get(CLUSTER).await?;
            let is_whole =
                is_whole(&object, members) && (!has_only_their_pods || self.is_running(members).await?);
            since = is_whole.then(|| since.unwrap_or_else(Instant::now));
            if since.is_some_and(|since| since.elapsed() > SETTLED) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let status = serde_json::to_string(&object.status)?;
                bail!(
                    "it is not whole after {PATIENCE:?}; see {}: {status}",
                    self.directory.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether as many pods as there are members run and are ready: an operator that has lost events may not know yet.
    async fn is_running(&self, members: i32) -> Result<bool> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &self.place.namespace);
        let pods = pods.list(&ListParams::default()).await?;
        let is_ready = |pod: &Pod| {
            let conditions = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
        };
        Ok(pods.items.len() == usize::try_from(members)? && pods.iter().all(is_ready))
    }

    /// Has the authorities replaced, as the person does whose clients read their Secret at every connection.
    ///
    /// # Errors
    /// When that takes too long; with what the status says.
    pub async fn rotate(&mut self) -> Result<()> {
        self.change(json!({"authorityRotation": 1})).await?;
        let begun = Instant::now();
        loop {
            self.tend_operator()?;
            let object = self.clusters().get(CLUSTER).await?;
            let status = object.status.unwrap_or_default();
            if let Some(EtcdTrust { revision, phase }) = &status.trust {
                if object.spec.client_trust.as_ref() != Some(revision) {
                    self.change(json!({"clientTrust": revision})).await?;
                }
                if *phase == TrustPhase::Settled {
                    return Ok(());
                }
            }
            // Every member is made anew in each of three steps.
            if begun.elapsed() > 3 * PATIENCE {
                let status = serde_json::to_string(&status)?;
                bail!(
                    "its authorities are not replaced; see {}: {status}",
                    self.directory.display()
                )
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until a pod is no member's any more.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn wait_until_changed(&mut self, pod: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.tend_operator()?;
            let status = self.clusters().get(CLUSTER).await?.status.unwrap_or_default();
            if !status.members.iter().any(|member| member.pod == pod) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{pod} lost its data and is still a member"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn is_whole(object: &EtcdCluster, members: i32) -> bool {
    let Some(status) = &object.status else {
        return false;
    };
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let is_current = status.observed_generation == object.metadata.generation;
    status.bootstrapped
        && is_current
        && status.intent.is_none()
        && status.ready_members == members
        && usize::try_from(members).is_ok_and(|members| status.members.len() == members)
        && ready.is_some_and(|condition| condition.status == "True")
}
