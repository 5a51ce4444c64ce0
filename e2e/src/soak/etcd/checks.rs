//! What must hold of a site when all is over.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use skep_api::etcd_cluster::EtcdCluster;

use super::stage::Site;

impl Site<'_> {
    /// Checks that nothing in the namespace changes any more, and that the operator lives and asks for no change.
    ///
    /// # Errors
    /// What was written.
    pub async fn is_silent(&mut self, long: Duration) -> Result<()> {
        // What the last change led to is still written.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (before, asked) = (self.versions().await?, self.operator.changes()?);
        tokio::time::sleep(long).await;
        self.tend_operator()?;
        let after = self.versions().await?;
        let changed: Vec<&String> = after.symmetric_difference(&before).collect();
        ensure!(
            changed.is_empty(),
            "after all faults this was still written or deleted: {changed:?}"
        );
        let asked = self.operator.changes()? - asked;
        ensure!(
            asked == 0,
            "after all faults the operator still asked for {asked} changes"
        );
        Ok(())
    }

    async fn versions(&self) -> Result<BTreeSet<String>> {
        let mut versions = BTreeSet::new();
        self.add::<EtcdCluster>(&mut versions).await?;
        self.add::<Pod>(&mut versions).await?;
        self.add::<PersistentVolumeClaim>(&mut versions).await?;
        self.add::<Secret>(&mut versions).await?;
        self.add::<Service>(&mut versions).await?;
        self.add::<PodDisruptionBudget>(&mut versions).await?;
        self.add::<Event>(&mut versions).await?;
        Ok(versions)
    }

    async fn add<K>(&self, versions: &mut BTreeSet<String>) -> Result<()>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client(), &self.place.namespace);
        for object in api.list(&ListParams::default()).await? {
            let version = object.resource_version().unwrap_or_default();
            versions.insert(format!("{} {} {version}", K::kind(&()), object.name_any()));
        }
        Ok(())
    }

    /// Checks that every volume that was ever made is still there: the cluster's policy is to keep them.
    ///
    /// # Errors
    /// Which is gone.
    pub async fn has_all_volumes(&self) -> Result<()> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client(), &self.place.namespace);
        let claims = claims.list(&ListParams::default()).await?;
        // A claim that is being deleted stays as long as a pod uses it.
        let kept = claims
            .iter()
            .filter(|claim| claim.metadata.deletion_timestamp.is_none());
        let there: BTreeSet<String> = kept.filter_map(ResourceExt::uid).collect();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_volume = path.extension().is_some_and(|extension| extension == "img");
            ensure!(
                !is_volume || there.contains(&name),
                "the claim of volume {name} was deleted"
            );
        }
        Ok(())
    }
}
