//! Where rounds take place: one kube-apiserver for all, and a namespace with an operator of its own for each.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rand::rngs::StdRng;
use serde_json::json;
use skep_api::etcd_cluster::EtcdCluster;
use skep_testing::{Cluster, Options, binaries};
use tokio::task::JoinHandle;

use super::hosts::Hosts;
use super::inside;
use super::kubelet::{self, Kubelet, Node};
use super::machine::{DeadNodes, Machines, Volume};
use super::operator::{End, Operator};
use super::tally::Fatal;
use super::writers::{self, Filling, Place};

/// The longest that a cluster may take to be whole again.
pub(super) const PATIENCE: Duration = Duration::from_secs(150);
pub(super) const CLUSTER: &str = "etcd";
/// The name that the clients' certificate has.
const CLIENT: &str = "soak";

/// How much a cluster may hold.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The size of each member's volume.
    pub volume: &'static str,
    /// The most bytes that its database may have.
    pub quota_bytes: i64,
    /// The soft limit of each member's heap.
    pub heap: &'static str,
}

impl Size {
    /// The smallest database that there may be, and five log files of 64 MB, as the operator reckons.
    pub const SMALL: Self = Self {
        volume: "512Mi",
        quota_bytes: 64 << 20,
        heap: "384MiB",
    };
}

/// What all rounds share.
pub struct Stage {
    /// The API server, with the definitions of all kinds.
    pub cluster: Cluster,
    /// Where everything lies.
    pub directory: PathBuf,
    /// By which names members find each other.
    pub hosts: Hosts,
    kubeconfig: PathBuf,
}

impl Stage {
    /// Sets it in a directory; what an earlier run left there goes.
    ///
    /// # Errors
    /// When something cannot be made or does not start.
    pub async fn set(directory: PathBuf, options: &Options) -> Result<Self> {
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        std::fs::create_dir_all(&directory)?;
        let hosts = Hosts::new(inside::furnish(&directory)?);
        let cluster = Cluster::start(options).await;
        cluster.install_definitions().await;
        for Node { name, zone } in kubelet::nodes() {
            let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name});
            let node =
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
            cluster.apply(node).await;
        }
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig().to_string())?;
        Ok(Self {
            cluster,
            directory,
            hosts,
            kubeconfig,
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
    dead: DeadNodes,
    pub(super) directory: PathBuf,
    kubelet: JoinHandle<()>,
    pub(super) operator: Operator,
    /// How often the operator died as it was told.
    pub deaths: u64,
    /// The calls of operators that have ended, and those of them that asked for a change.
    spent: [u64; 2],
}

impl<'a> Site<'a> {
    /// Opens one with a cluster of so many members of a version, and an operator that dies where that is given.
    ///
    /// # Errors
    /// When the cluster is refused, or the operator does not start.
    pub async fn open(
        stage: &'a Stage,
        namespace: &str,
        members: i32,
        version: &str,
        death: Option<(Fatal, u64)>,
    ) -> Result<Self> {
        Self::open_sized(stage, namespace, members, version, death, Size::SMALL).await
    }

    /// The same with a cluster of another size.
    ///
    /// # Errors
    /// When the cluster is refused, or the operator does not start.
    pub async fn open_sized(
        stage: &'a Stage,
        namespace: &str,
        members: i32,
        version: &str,
        death: Option<(Fatal, u64)>,
        size: Size,
    ) -> Result<Self> {
        let client = stage.cluster.admin.clone();
        let directory = stage.directory.join(namespace);
        std::fs::create_dir_all(&directory)?;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        stage.cluster.apply(object).await;
        stage.cluster.apply(json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": CLUSTER, "namespace": namespace},
            "spec": {"version": version, "image": image(version), "members": members, "volumeSize": size.volume,
                "storageClass": "local", "quotaBytes": size.quota_bytes, "clients": [CLIENT],
                "resources": {"cpu": "25m", "memory": "64Mi", "memoryLimit": "512Mi", "goMemoryLimit": size.heap}},
        })).await;
        let kubelet = Kubelet::new(
            client.clone(),
            namespace,
            &binaries(),
            &directory,
            stage.hosts.clone(),
        )?;
        let (machines, dead) = (kubelet.machines(), kubelet.dead());
        let operator = Operator::start(&stage.kubeconfig, namespace, &directory, death)?;
        Ok(Self {
            stage,
            place: Place {
                client,
                namespace: namespace.to_owned(),
                cluster: CLUSTER.to_owned(),
                identity: CLIENT.to_owned(),
            },
            machines,
            dead,
            directory,
            kubelet: tokio::spawn(kubelet.run()),
            operator,
            deaths: 0,
            spent: [0; 2],
        })
    }

    pub(super) fn client(&self) -> Client {
        self.place.client.clone()
    }

    pub(super) fn clusters(&self) -> Api<EtcdCluster> {
        Api::namespaced(self.client(), &self.place.namespace)
    }

    /// Asks for another number of members.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn resize(&self, members: i32) -> Result<()> {
        self.change(json!({"members": members})).await
    }

    /// Asks for another version.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn upgrade(&self, version: &str) -> Result<()> {
        self.change(json!({"version": version, "image": image(version)}))
            .await
    }

    /// Asks for another limit of Go's heap, so that every member is made anew.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn tune(&self, mebibytes: u32) -> Result<()> {
        let resources = json!({"goMemoryLimit": format!("{mebibytes}MiB")});
        self.change(json!({"resources": resources})).await
    }

    /// Has a member leave its node, and says which that is; none where it is on none yet.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn relocate(&self, pod: &str) -> Result<Option<String>> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &self.place.namespace);
        let node = pods.get_opt(pod).await?.and_then(|pod| pod.spec?.node_name);
        self.change(json!({"avoidNodes": node.as_slice()})).await?;
        Ok(node)
    }

    /// Lets the node of a member die, has the member leave it, and waits until another has its place; then the node comes
    /// back, and with it what could not end there.
    ///
    /// # Errors
    /// When the member is not replaced.
    pub async fn lose_node_of(&mut self, pod: &str, members: i32) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &self.place.namespace);
        let node = pods.get_opt(pod).await?.and_then(|pod| pod.spec?.node_name);
        // Another has taken its place already.
        let Some(node) = node else { return Ok(()) };
        self.dead.set(&node, true);
        self.change(json!({"avoidNodes": [node]})).await?;
        let replaced = async {
            self.wait_until_changed(pod).await?;
            self.wait_until_told(members).await
        };
        let replaced = replaced.await;
        self.dead.set(&node, false);
        replaced.with_context(|| format!("{pod} is on {node}, which is gone"))
    }

    /// Checks that no pod is on a node.
    ///
    /// # Errors
    /// Which is.
    pub async fn has_left(&self, node: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client(), &self.place.namespace);
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let left: Vec<String> = pods
            .list(&on_node)
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        ensure!(left.is_empty(), "{left:?} are still on {node}");
        Ok(())
    }

    pub(super) async fn change(&self, spec: serde_json::Value) -> Result<()> {
        let patch = json!({"spec": spec});
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
    /// When it had ended by itself, or does not start.
    pub fn restart_operator(&mut self) -> Result<()> {
        self.tend_operator()?;
        self.replace_operator()
    }

    fn replace_operator(&mut self) -> Result<()> {
        self.spent = self.calls()?;
        self.operator = Operator::start(
            &self.stage.kubeconfig,
            &self.place.namespace,
            &self.directory,
            None,
        )?;
        Ok(())
    }

    /// Starts an operator that died as it was told again; one that ends by itself is a fault.
    pub(super) fn tend_operator(&mut self) -> Result<()> {
        match self.operator.end()? {
            None => Ok(()),
            Some(End::AsTold) => {
                self.deaths += 1;
                self.replace_operator()
            }
            Some(End::ByItself(status)) => {
                let log = self.directory.join("operator.log");
                bail!(
                    "the operator ended by itself with {status}; see {}",
                    log.display()
                )
            }
        }
    }

    /// Lets the operator die after so many more of its calls of a kind.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn arm_operator(&mut self, (fatal, more): (Fatal, u64)) -> Result<()> {
        self.operator.arm(fatal, more)
    }

    /// Lets the operator live, and starts it again where it has just died.
    ///
    /// # Errors
    /// When it cannot be told, or had ended by itself.
    pub fn disarm_operator(&mut self) -> Result<()> {
        self.operator.disarm()?;
        self.tend_operator()
    }

    /// How many calls were answered in all, and how many of them had asked for a change.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn calls(&self) -> Result<[u64; 2]> {
        let [calls, changes] = self.spent;
        Ok([
            calls + self.operator.answered(Fatal::Call)?,
            changes + self.operator.answered(Fatal::Change)?,
        ])
    }

    /// Fills the database, and waits until something can be written again.
    ///
    /// # Errors
    /// When it never is full, or is never healed.
    pub async fn fill(&mut self, chance: &mut StdRng) -> Result<()> {
        let place = self.place.clone();
        let filling = writers::fill(&place, Filling::History, chance);
        tokio::pin!(filling);
        loop {
            tokio::select! {
                outcome = &mut filling => return outcome,
                () = tokio::time::sleep(Duration::from_millis(200)) => self.tend_operator()?,
            }
        }
    }

    /// Deletes the cluster and waits until the operator is done with it.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn delete(&mut self) -> Result<()> {
        self.clusters().delete(CLUSTER, &DeleteParams::default()).await?;
        let begun = Instant::now();
        while self.clusters().get_opt(CLUSTER).await?.is_some() || !self.machines.names().is_empty() {
            self.tend_operator()?;
            ensure!(begun.elapsed() < PATIENCE, "the cluster is never deleted");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Ends what runs of it, and removes volumes and logs.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn close(self) -> Result<()> {
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

fn image(version: &str) -> String {
    format!("localhost/etcd:{version}")
}
