//! A stand-in for scheduler and kubelet: it binds pods to the nodes of three zones and runs each pod's etcd as a plain process in a
//! network of its own, on a volume of its own, as the pod says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::container::{Readiness, Running, status};
use super::hosts::Hosts;
use super::machine::{DeadNodes, Machine, Machines, Network, Volume};

/// The zones.
pub const ZONES: [&str; 3] = ["a", "b", "c"];
const NODES_PER_ZONE: usize = 2;
/// Between two looks; kubelet's own loop takes up to a second.
const PERIOD: Duration = Duration::from_millis(400);
/// Between two looks at the Secrets of a pod; kubelet takes up to a minute.
const SECRETS: Duration = Duration::from_secs(5);

/// Runs the pods of a namespace.
pub struct Kubelet {
    client: Client,
    namespace: String,
    binaries: PathBuf,
    directory: PathBuf,
    hosts: Hosts,
    machines: Machines,
    dead: DeadNodes,
    http: reqwest::Client,
    running: BTreeMap<String, Running>,
    /// The node of each claim, from its first pod on.
    nodes: BTreeMap<String, Node>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: &'static str,
}

/// All nodes: the first of each zone, then the second.
pub fn nodes() -> impl Iterator<Item = Node> {
    (1..=NODES_PER_ZONE).flat_map(|number| {
        ZONES.iter().map(move |&zone| Node {
            name: format!("node-{zone}-{number}"),
            zone,
        })
    })
}

impl Kubelet {
    /// One for a namespace, with the directory of etcd's binaries; volumes and logs go into another.
    ///
    /// # Errors
    /// When no HTTP client can be made for its probes.
    pub fn new(
        client: Client,
        namespace: &str,
        binaries: &Path,
        directory: &Path,
        hosts: Hosts,
    ) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            binaries: binaries.to_owned(),
            directory: directory.to_owned(),
            hosts,
            machines: Machines::default(),
            dead: DeadNodes::default(),
            http,
            running: BTreeMap::new(),
            nodes: BTreeMap::new(),
        })
    }

    /// What runs.
    pub fn machines(&self) -> Machines {
        self.machines.clone()
    }

    /// The nodes that are gone.
    pub fn dead(&self) -> DeadNodes {
        self.dead.clone()
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.sync().await {
                eprintln!("kubelet: {error:#}");
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn sync(&mut self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = pods.list(&ListParams::default()).await?.items;
        let names: BTreeSet<String> = listed.iter().map(ResourceExt::name_any).collect();
        let gone: Vec<String> = self
            .running
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.end(&name)?;
        }
        for pod in &listed {
            let is_gated = pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.scheduling_gates.iter().flatten().next().is_some());
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            if node.as_ref().is_some_and(|node| self.dead.has(node)) {
                self.end(&pod.name_any())?;
            } else if pod.metadata.deletion_timestamp.is_some() {
                self.terminate(&pods, pod).await?;
            } else if node.is_some() {
                self.keep(&pods, pod).await?;
            } else if !is_gated {
                self.bind(&pods, pod, &listed).await?;
            }
        }
        self.write_hosts(&listed)
    }

    /// Binds a pod to the node of its volume, or to one that the scheduler would take for a new one.
    async fn bind(&mut self, pods: &Api<Pod>, pod: &Pod, all: &[Pod]) -> Result<()> {
        let claim = claim(pod)?;
        let mut candidates = match self.nodes.get(&claim) {
            Some(own) => vec![own.clone()],
            None => nodes().filter(|node| is_spread(pod, node, all)).collect(),
        };
        candidates.retain(|node| !avoids(pod, node) && !of_cluster(pod, all).any(|other| is_on(other, node)));
        let Some(node) = candidates.into_iter().next() else {
            return Ok(());
        };
        let name = pod.name_any();
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node.name}});
        self.nodes.insert(claim, node);
        let bound: kube::Result<serde_json::Value> = pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        expected(bound.map(|_| ()))
    }

    /// Starts what should run, looks how it is, and tells.
    async fn keep(&mut self, pods: &Api<Pod>, pod: &Pod) -> Result<()> {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        if self.running.get(&name).is_some_and(|running| running.uid != uid) {
            self.end(&name)?;
        }
        if !self.running.contains_key(&name) && !self.admit(pod).await? {
            return Ok(());
        }
        let mounted = self.running.get(&name).and_then(|running| running.mounted);
        let secrets = match mounted {
            Some(mounted) if mounted.elapsed() < SECRETS => None,
            _ => Some(self.mount_secrets(pod).await?),
        };
        let Some(running) = self.running.get_mut(&name) else {
            return Ok(());
        };
        if let Some(secrets) = secrets {
            (running.secrets, running.mounted) = (secrets, Some(Instant::now()));
        }
        let log = self.directory.join(format!("{name}.log"));
        running.tend(pod, &self.binaries, &log, &self.machines)?;
        let is_running = running.child.is_some();
        let readiness = running
            .readiness
            .tend(&self.http, pod, is_running, &running.network.address);
        readiness.await;
        let status = status(pod, running);
        if running.told.as_ref() != Some(&status) {
            let patch = Patch::Merge(&status);
            let patched = pods.patch_status(&name, &PatchParams::default(), &patch).await;
            if patched.is_ok() {
                running.told = Some(status);
            }
            expected(patched.map(|_| ()))?;
        }
        Ok(())
    }

    /// Gives a pod a network and its claim's volume; false while there is no such claim.
    async fn admit(&mut self, pod: &Pod) -> Result<bool> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = claims.get_opt(&claim(pod)?).await?;
        let Some(found) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
            return Ok(false);
        };
        let size = requested(&found).context("a claim of no size")?;
        let volume = Volume::open(&self.directory, &found.uid().unwrap_or_default(), size)?;
        let network = Network::attach()?;
        let machine = Machine {
            process: None,
            network: network.clone(),
            volume: volume.clone(),
            is_to_be_wiped: false,
        };
        self.machines.put(&pod.name_any(), machine);
        let running = Running {
            uid: pod.uid().unwrap_or_default(),
            child: None,
            network,
            volume,
            restarts: -1,
            ended: None,
            last_exit: None,
            readiness: Readiness::default(),
            told: None,
            secrets: Vec::new(),
            mounted: None,
        };
        self.running.insert(pod.name_any(), running);
        Ok(true)
    }

    /// Writes a pod's Secrets where its etcd reads them, as kubelet does from time to time.
    async fn mount_secrets(&self, pod: &Pod) -> Result<Vec<(String, PathBuf)>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = pod.spec.clone().unwrap_or_default();
        let mounts = spec
            .containers
            .first()
            .and_then(|container| container.volume_mounts.clone())
            .unwrap_or_default();
        let mut paths = Vec::new();
        for volume in spec.volumes.iter().flatten() {
            let Some(name) = volume
                .secret
                .as_ref()
                .and_then(|source| source.secret_name.as_ref())
            else {
                continue;
            };
            let mount = mounts
                .iter()
                .find(|mount| mount.name == volume.name)
                .context("a volume without a mount")?;
            let directory = self.directory.join(format!("{}-{}", pod.name_any(), volume.name));
            std::fs::create_dir_all(&directory)?;
            let secret = api.get(name).await?;
            for (key, value) in secret.data.iter().flatten() {
                let path = directory.join(key);
                if std::fs::read(&path).ok().as_ref() != Some(&value.0) {
                    std::fs::write(&path, &value.0)?;
                }
            }
            paths.push((mount.mount_path.clone(), directory));
        }
        Ok(paths)
    }

    /// Ends a pod that is being deleted, in its grace, and tells when it is gone.
    async fn terminate(&mut self, pods: &Api<Pod>, pod: &Pod) -> Result<()> {
        let name = pod.name_any();
        if let Some(running) = self.running.get_mut(&name)
            && let Some(child) = running.child.as_mut()
            && child.try_wait()?.is_none()
        {
            let deadline = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
            let is_over = deadline.is_some_and(|deadline| deadline < jiff::Timestamp::now());
            let signal = if is_over { Signal::SIGKILL } else { Signal::SIGTERM };
            // It may have ended in between.
            let _ = kill(Pid::from_raw(i32::try_from(child.id())?), signal);
            return Ok(());
        }
        self.end(&name)?;
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        expected(pods.delete(&name, &params).await.map(|_| ()))
    }

    /// Takes a pod's machine away; its volume stays.
    fn end(&mut self, name: &str) -> Result<()> {
        let Some(mut running) = self.running.remove(name) else {
            return Ok(());
        };
        self.machines.remove(name);
        if let Some(child) = running.child.as_mut() {
            child.kill()?;
            child.wait()?;
        }
        running.network.detach()
    }

    fn write_hosts(&self, pods: &[Pod]) -> Result<()> {
        let mut lines = String::new();
        for pod in pods {
            let subdomain = pod.spec.as_ref().and_then(|spec| spec.subdomain.clone());
            if let (Some(running), Some(subdomain)) = (self.running.get(&pod.name_any()), subdomain) {
                let (address, name) = (&running.network.address, pod.name_any());
                writeln!(lines, "{address} {name}.{subdomain}.{}.svc", self.namespace)?;
            }
        }
        self.hosts.write(&self.namespace, lines)
    }
}

fn of_cluster<'a>(pod: &'a Pod, all: &'a [Pod]) -> impl Iterator<Item = &'a Pod> {
    let cluster = |pod: &Pod| pod.labels().get("app.kubernetes.io/instance").cloned();
    let own = cluster(pod);
    all.iter().filter(move |other| cluster(other) == own)
}

fn is_on(pod: &Pod, node: &Node) -> bool {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    bound == Some(&node.name)
}

/// Whether a pod's affinity keeps it away from a node.
fn avoids(pod: &Pod, node: &Node) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let terms = required.iter().flat_map(|required| &required.node_selector_terms);
    let mut fields = terms.flat_map(|term| term.match_fields.iter().flatten());
    fields.any(|field| {
        field.operator == "NotIn" && field.values.iter().flatten().any(|name| *name == node.name)
    })
}

/// Whether a pod's spread over zones, of a skew of one, allows a node: its zone has as few pods as any. What ends is not
/// counted, nor is what is on a node that the pod avoids.
fn is_spread(pod: &Pod, node: &Node, all: &[Pod]) -> bool {
    let spec = pod.spec.as_ref();
    let constraints = spec.and_then(|spec| spec.topology_spread_constraints.as_ref());
    if constraints.is_none_or(Vec::is_empty) {
        return true;
    }
    let in_zone = |zone: &str| {
        let counted = nodes().filter(|other| other.zone == zone && !avoids(pod, other));
        let stays = |other: &&Pod| other.metadata.deletion_timestamp.is_none();
        let is_used = |node: &Node| of_cluster(pod, all).filter(stays).any(|other| is_on(other, node));
        counted.filter(is_used).count()
    };
    let is_open = |zone: &str| nodes().any(|other| other.zone == zone && !avoids(pod, &other));
    let mut open = ZONES.iter().filter(|zone| is_open(zone));
    open.all(|zone| in_zone(node.zone) <= in_zone(zone))
}

/// What another was first in is no fault.
fn expected(result: kube::Result<()>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        other => Ok(other?),
    }
}

/// The size that a claim asks for.
fn requested(claim: &PersistentVolumeClaim) -> Option<&str> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    Some(&resources.requests.as_ref()?.get("storage")?.0)
}

fn claim(pod: &Pod) -> Result<String> {
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.clone())
        .unwrap_or_default();
    let claim = volumes
        .into_iter()
        .find_map(|volume| volume.persistent_volume_claim);
    Ok(claim.context("a pod without a claim")?.claim_name)
}
