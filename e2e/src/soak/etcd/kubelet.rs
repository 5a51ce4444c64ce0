//! A stand-in for scheduler and kubelet: it binds pods to three zones and runs each pod's etcd as a plain process in a
//! network of its own, on a volume of its own, as the pod says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::machine::{Network, Volume};

/// The zones, one node each.
pub const ZONES: [&str; 3] = ["a", "b", "c"];
/// Between two looks; kubelet's own loop takes up to a second.
const PERIOD: Duration = Duration::from_millis(200);
/// Before a container that ended is started again; kubelet begins with ten seconds.
const RESTART: Duration = Duration::from_millis(500);

/// What runs, by pod; faults reach into it.
#[derive(Clone, Default)]
pub struct Machines(Arc<Mutex<BTreeMap<String, Machine>>>);

/// One pod's machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The process of its etcd, while there is one.
    pub process: Option<Pid>,
    /// Its network.
    pub network: Network,
    /// Its volume.
    pub volume: Volume,
    /// Empty its volume before the next start.
    pub is_to_be_wiped: bool,
}

impl Machine {
    /// Sends a signal to its etcd, where one runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = self.process {
            // It may have ended in between.
            let _ = kill(process, signal);
        }
    }
}

impl Machines {
    /// What one pod runs on.
    pub fn get(&self, pod: &str) -> Option<Machine> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pod)
            .cloned()
    }

    /// The pods with a machine.
    pub fn names(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    /// Changes one.
    pub fn change(&self, pod: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(pod) {
            change(machine);
        }
    }

    fn put(&self, pod: &str, machine: Machine) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pod.to_owned(), machine);
    }

    fn remove(&self, pod: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pod);
    }
}

/// Runs the pods of a namespace.
pub struct Kubelet {
    client: Client,
    namespace: String,
    program: PathBuf,
    directory: PathBuf,
    hosts: Hosts,
    machines: Machines,
    running: BTreeMap<String, Running>,
    /// The zone of each claim, from its first pod on.
    zones: BTreeMap<String, usize>,
}

struct Running {
    uid: String,
    child: Option<Child>,
    network: Network,
    volume: Volume,
    restarts: i32,
    ended: Option<Instant>,
    last_exit: Option<i32>,
    is_ready: bool,
    told: Option<serde_json::Value>,
}

impl Kubelet {
    /// One for a namespace; volumes and logs go into a directory.
    pub fn new(client: Client, namespace: &str, program: &Path, directory: &Path, hosts: Hosts) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            program: program.to_owned(),
            directory: directory.to_owned(),
            hosts,
            machines: Machines::default(),
            running: BTreeMap::new(),
            zones: BTreeMap::new(),
        }
    }

    /// What runs.
    pub fn machines(&self) -> Machines {
        self.machines.clone()
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
            if pod.metadata.deletion_timestamp.is_some() {
                self.terminate(&pods, pod).await?;
            } else if node.is_some() {
                self.keep(&pods, pod).await?;
            } else if !is_gated {
                self.bind(&pods, pod, &listed).await?;
            }
        }
        self.write_hosts(&listed)
    }

    /// Binds a pod to the zone of its volume, or to one without a pod of its cluster.
    async fn bind(&mut self, pods: &Api<Pod>, pod: &Pod, all: &[Pod]) -> Result<()> {
        let claim = claim(pod)?;
        let cluster = pod.labels().get("app.kubernetes.io/instance");
        let taken = |zone: usize| {
            let node = format!("node-{}", ZONES[zone]);
            all.iter().any(|other| {
                let spec = other.spec.as_ref();
                other.labels().get("app.kubernetes.io/instance") == cluster
                    && spec.and_then(|spec| spec.node_name.as_deref()) == Some(&node)
            })
        };
        let own = self.zones.get(&claim).copied();
        let Some(zone) = own
            .or_else(|| (0..ZONES.len()).find(|zone| !taken(*zone)))
            .filter(|zone| !taken(*zone))
        else {
            return Ok(());
        };
        self.zones.insert(claim, zone);
        let name = pod.name_any();
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": format!("node-{}", ZONES[zone])}});
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
        if !self.running.contains_key(&name) {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
            let Some(found) = claims.get_opt(&claim(pod)?).await? else {
                return Ok(());
            };
            if found.metadata.deletion_timestamp.is_some() {
                return Ok(());
            }
            let volume = Volume::open(&self.directory, &found.uid().unwrap_or_default())?;
            let network = Network::attach()?;
            self.machines.put(
                &name,
                Machine {
                    process: None,
                    network: network.clone(),
                    volume: volume.clone(),
                    is_to_be_wiped: false,
                },
            );
            let running = Running {
                uid,
                child: None,
                network,
                volume,
                restarts: -1,
                ended: None,
                last_exit: None,
                is_ready: false,
                told: None,
            };
            self.running.insert(name.clone(), running);
        }
        let secrets = self.mount_secrets(pod).await?;
        let Some(running) = self.running.get_mut(&name) else {
            return Ok(());
        };
        if let Some(status) = running.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            running.child = None;
            running.ended = Some(Instant::now());
            running.last_exit = status.code();
            self.machines.change(&name, |machine| machine.process = None);
        }
        let is_due = running.ended.is_none_or(|ended| ended.elapsed() >= RESTART);
        if running.child.is_none() && is_due {
            if self
                .machines
                .get(&name)
                .is_some_and(|machine| machine.is_to_be_wiped)
            {
                running.volume.wipe()?;
                self.machines
                    .change(&name, |machine| machine.is_to_be_wiped = false);
            }
            let log = self.directory.join(format!("{name}.log"));
            let child = start(pod, &self.program, running, &secrets, &log)?;
            let process = i32::try_from(child.id()).map(Pid::from_raw).ok();
            self.machines.change(&name, |machine| machine.process = process);
            running.restarts += 1;
            running.child = Some(child);
        }
        running.is_ready = running.child.is_some() && is_ready(&running.network.address).await;
        let status = status(pod, running);
        if running.told.as_ref() != Some(&status) {
            let patch = pods
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
                .await;
            if patch.is_ok() {
                running.told = Some(status);
            }
            expected(patch.map(|_| ()))?;
        }
        Ok(())
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
                lines += &format!("{address} {name}.{subdomain}.{}.svc\n", self.namespace);
            }
        }
        self.hosts.write(&self.namespace, lines)
    }
}

/// The members' host names of all namespaces, in the one file that everybody reads.
#[derive(Clone)]
pub struct Hosts {
    file: PathBuf,
    lines: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Hosts {
    /// In a file, which is mounted and therefore written in place.
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            lines: Arc::default(),
        }
    }

    fn write(&self, namespace: &str, own: String) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.get(namespace) == Some(&own) {
            return Ok(());
        }
        lines.insert(namespace.to_owned(), own);
        let all: String = lines.values().map(String::as_str).collect();
        Ok(std::fs::write(&self.file, format!("127.0.0.1 localhost\n{all}"))?)
    }
}

/// What another was first in is no fault.
fn expected(result: kube::Result<()>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        other => Ok(other?),
    }
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

fn start(
    pod: &Pod,
    program: &Path,
    running: &Running,
    secrets: &[(String, PathBuf)],
    log: &Path,
) -> Result<Child> {
    let spec = pod.spec.clone().unwrap_or_default();
    let Some(container) = spec.containers.into_iter().next() else {
        bail!("a pod without a container");
    };
    let data = container
        .volume_mounts
        .iter()
        .flatten()
        .find(|mount| mount.name == "data");
    let data = data
        .map(|mount| mount.mount_path.clone())
        .context("a pod without a mount of its data")?;
    let arguments = container.args.unwrap_or_default().into_iter().map(|argument| {
        let mut argument = argument.replace(&data, &running.volume.path.display().to_string());
        for (path, directory) in secrets {
            argument = argument.replace(path.as_str(), &directory.display().to_string());
        }
        argument
    });
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", running.network.path()))
        .arg(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(log);
    for variable in container.env.into_iter().flatten() {
        let field = variable.value_from.and_then(|source| source.field_ref);
        let annotation = field.and_then(|field| {
            let key = field
                .field_path
                .strip_prefix("metadata.annotations['")?
                .strip_suffix("']")?
                .to_owned();
            pod.annotations().get(&key).cloned()
        });
        if let Some(value) = variable.value.or(annotation) {
            command.env(variable.name, value);
        }
    }
    command.spawn().context("cannot start etcd")
}

async fn is_ready(address: &str) -> bool {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_millis(500))
        .no_proxy()
        .build();
    let Ok(client) = client else {
        return false;
    };
    let answer = client.get(format!("http://{address}:2381/readyz")).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

fn status(pod: &Pod, running: &Running) -> serde_json::Value {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let image = container
        .and_then(|container| container.image.clone())
        .unwrap_or_default();
    let state = match (&running.child, running.last_exit) {
        (Some(_), _) => json!({"running": {}}),
        (None, code) => json!({"terminated": {"exitCode": code.unwrap_or(137)}}),
    };
    let ready = if running.is_ready { "True" } else { "False" };
    json!({"status": {
        "phase": "Running",
        "podIP": running.network.address,
        "podIPs": [{"ip": running.network.address}],
        "conditions": [{"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "etcd", "image": image, "imageID": image, "ready": running.is_ready,
            "restartCount": running.restarts.max(0), "state": state}],
    }})
}
