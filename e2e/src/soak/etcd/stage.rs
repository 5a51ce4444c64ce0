//! Where rounds take place: one kube-apiserver for all, and a namespace with an operator of its own for each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::etcd_cluster::EtcdCluster;
use skep_testing::{Cluster, Options, binaries};
use tokio::task::JoinHandle;

use super::hosts::Hosts;
use super::inside;
use super::kubelet::{Kubelet, ZONES};
use super::machine::{Machines, Volume};
use super::operator::Operator;
use super::writers::{self, Place};

/// The longest that a cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long it must be whole.
const SETTLED: Duration = Duration::from_secs(3);
const CLUSTER: &str = "etcd";

/// What all rounds share.
pub struct Stage {
    cluster: Cluster,
    kubeconfig: PathBuf,
    directory: PathBuf,
    hosts: Hosts,
    porcupine: PathBuf,
}

impl Stage {
    /// Sets it; what an earlier run left in the directory goes.
    ///
    /// # Errors
    /// When something cannot be made or does not start.
    pub async fn set() -> Result<Self> {
        let directory = crate::bench::directory()?.with_file_name("soak").join("etcd");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        std::fs::create_dir_all(&directory)?;
        let hosts = Hosts::new(inside::furnish(&directory)?);
        let porcupine = inside::porcupine()?;
        let cluster = Cluster::start(&Options::default()).await;
        cluster.install_definitions().await;
        for zone in ZONES {
            let name = format!("node-{zone}");
            let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name});
            let node =
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
            cluster.apply(node).await;
        }
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig().to_string())?;
        Ok(Self {
            cluster,
            kubeconfig,
            directory,
            hosts,
            porcupine,
        })
    }
}

/// One round's namespace.
pub struct Site<'a> {
    stage: &'a Stage,
    /// How its cluster is reached.
    pub place: Place,
    /// What its members run on.
    pub machines: Machines,
    directory: PathBuf,
    kubelet: JoinHandle<()>,
    operator: Operator,
    /// How often the operator died by itself.
    pub deaths: u32,
}

impl<'a> Site<'a> {
    /// Opens one with a cluster of so many members, and an operator that dies after so many calls where that is given.
    ///
    /// # Errors
    /// When the cluster is refused, or the operator does not start.
    pub async fn open(stage: &'a Stage, namespace: &str, members: i32, calls: Option<u32>) -> Result<Self> {
        let client = stage.cluster.admin.clone();
        let directory = stage.directory.join(namespace);
        std::fs::create_dir_all(&directory)?;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        stage.cluster.apply(object).await;
        stage.cluster.apply(json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": CLUSTER, "namespace": namespace},
            "spec": {"version": "3.7.3", "image": "localhost/etcd:3.7.3", "members": members, "volumeSize": "512Mi",
                "storageClass": "local", "quotaBytes": 67_108_864, "clients": [writers::NAME],
                "resources": {"cpu": "25m", "memory": "64Mi", "memoryLimit": "512Mi", "goMemoryLimit": "384MiB"}},
        })).await;
        let kubelet = Kubelet::new(
            client.clone(),
            namespace,
            &binaries().join("etcd"),
            &directory,
            stage.hosts.clone(),
        )?;
        let machines = kubelet.machines();
        let operator = Operator::start(
            &stage.kubeconfig,
            namespace,
            &directory.join("operator.log"),
            calls,
        )?;
        Ok(Self {
            stage,
            place: Place {
                client,
                namespace: namespace.to_owned(),
                cluster: CLUSTER.to_owned(),
            },
            machines,
            directory,
            kubelet: tokio::spawn(kubelet.run()),
            operator,
            deaths: 0,
        })
    }

    fn client(&self) -> Client {
        self.place.client.clone()
    }

    fn clusters(&self) -> Api<EtcdCluster> {
        Api::namespaced(self.client(), &self.place.namespace)
    }

    /// Asks for another number of members.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn resize(&self, members: i32) -> Result<()> {
        let patch = json!({"spec": {"members": members}});
        self.clusters()
            .patch(CLUSTER, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Deletes a pod.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &self.place.namespace);
        pods.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Kills the operator and starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart_operator(&mut self) -> Result<()> {
        let log = self.directory.join("operator.log");
        self.operator = Operator::start(&self.stage.kubeconfig, &self.place.namespace, &log, None)?;
        Ok(())
    }

    /// Starts an operator that died again.
    fn tend_operator(&mut self) -> Result<()> {
        if self.operator.has_ended() {
            self.deaths += 1;
            self.restart_operator()?;
        }
        Ok(())
    }

    /// Waits until all members serve and nothing is under way, and it stays so for a while: what just happened may not be
    /// noticed yet.
    ///
    /// # Errors
    /// When that takes too long; with what the status says.
    pub async fn wait_until_whole(&mut self, members: i32) -> Result<()> {
        let begun = Instant::now();
        let mut since: Option<Instant> = None;
        loop {
            self.tend_operator()?;
            let object = self.clusters().get(CLUSTER).await?;
            since = is_whole(&object, members).then(|| since.unwrap_or_else(Instant::now));
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

    /// The judge of histories.
    pub fn porcupine(&self) -> &Path {
        &self.stage.porcupine
    }

    /// Checks that nothing in the namespace changes any more.
    ///
    /// # Errors
    /// What was written.
    pub async fn is_silent(&self, long: Duration) -> Result<()> {
        // What the last change led to is still written.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = self.versions().await?;
        tokio::time::sleep(long).await;
        let after = self.versions().await?;
        let changed: Vec<&String> = after.difference(&before).collect();
        ensure!(
            changed.is_empty(),
            "after all faults this was still written: {changed:?}"
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
        let there: BTreeSet<String> = claims.iter().filter_map(ResourceExt::uid).collect();
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

    /// Deletes everything, waits until the operator is done with it, and removes volumes and logs.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn close(self) -> Result<()> {
        self.clusters().delete(CLUSTER, &DeleteParams::default()).await?;
        let begun = Instant::now();
        while self.clusters().get_opt(CLUSTER).await?.is_some() || !self.machines.names().is_empty() {
            ensure!(begun.elapsed() < PATIENCE, "the cluster is never deleted");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // What a round without a fault leaves is of no use to anybody.
        Volume::remove_all(&self.directory)?;
        std::fs::remove_dir_all(&self.directory)?;
        Ok(())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        self.kubelet.abort();
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
