//! One pod's etcd as a plain process, and what kubelet tells of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::unistd::Pid;
use serde_json::json;

use super::machine::{Machines, Network, Volume};

/// Before a container that ended is started again; kubelet begins with ten seconds.
const RESTART: Duration = Duration::from_millis(500);
/// The longest that a probe may take.
const PROBE: Duration = Duration::from_millis(500);

/// A pod that runs here.
pub struct Running {
    pub uid: String,
    pub child: Option<Child>,
    pub network: Network,
    pub volume: Volume,
    pub restarts: i32,
    pub ended: Option<Instant>,
    pub last_exit: Option<i32>,
    pub readiness: Readiness,
    pub told: Option<serde_json::Value>,
    /// Where its Secrets are, and since when.
    pub secrets: Vec<(String, PathBuf)>,
    pub mounted: Option<Instant>,
}

impl Running {
    /// Sees whether its etcd has ended, and starts it where it should run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tend(&mut self, pod: &Pod, binaries: &Path, log: &Path, machines: &Machines) -> Result<()> {
        let name = pod.name_any();
        if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            self.child = None;
            self.ended = Some(Instant::now());
            self.last_exit = status.code();
            machines.change(&name, |machine| machine.process = None);
        }
        let is_due = self.ended.is_none_or(|ended| ended.elapsed() >= RESTART);
        if self.child.is_some() || !is_due {
            return Ok(());
        }
        if machines.get(&name).is_some_and(|machine| machine.is_to_be_wiped) {
            self.volume.wipe()?;
            machines.change(&name, |machine| machine.is_to_be_wiped = false);
        }
        let child = start(pod, binaries, self, log)?;
        let process = i32::try_from(child.id()).map(Pid::from_raw).ok();
        machines.change(&name, |machine| machine.process = process);
        self.restarts += 1;
        self.child = Some(child);
        Ok(())
    }
}

fn start(pod: &Pod, binaries: &Path, running: &Running, log: &Path) -> Result<Child> {
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
        for (path, directory) in &running.secrets {
            argument = argument.replace(path.as_str(), &directory.display().to_string());
        }
        argument
    });
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", running.network.path()))
        .arg(program(binaries, &container.image.unwrap_or_default()))
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

/// The etcd of an image's version: a line has a binary of its own, or is the newest.
fn program(binaries: &Path, image: &str) -> PathBuf {
    let version = image.rsplit(':').next().unwrap_or_default();
    let line = version.rsplit_once('.').map_or(version, |(line, _)| line);
    let own = binaries.join(format!("etcd-{line}"));
    if own.exists() { own } else { binaries.join("etcd") }
}

/// Whether an etcd serves, by its readiness probe.
#[derive(Debug, Default)]
pub struct Readiness {
    pub is_ready: bool,
    asked: Option<Instant>,
    failures: i32,
}

impl Readiness {
    /// Asks when it is time: one that serves in the rhythm of its pod's probe, another at every look.
    pub async fn tend(&mut self, http: &reqwest::Client, pod: &Pod, running: bool, address: &str) {
        if !running {
            *self = Self::default();
            return;
        }
        let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
        let probe = container.and_then(|container| container.readiness_probe.clone());
        let probe = probe.unwrap_or_default();
        let seconds =
            |number: Option<i32>| Duration::from_secs(u64::try_from(number.unwrap_or(1)).unwrap_or(1));
        let period = seconds(probe.period_seconds);
        if self.is_ready && self.asked.is_some_and(|asked| asked.elapsed() < period) {
            return;
        }
        self.asked = Some(Instant::now());
        let request = http
            .get(format!("http://{address}:2381/readyz"))
            // Others wait for this look.
            .timeout(seconds(probe.timeout_seconds).min(PROBE));
        if request
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            (self.is_ready, self.failures) = (true, 0);
            return;
        }
        self.failures += 1;
        self.is_ready &= self.failures < probe.failure_threshold.unwrap_or(3);
    }
}

/// The status of a pod, as kubelet tells it.
pub fn status(pod: &Pod, running: &Running) -> serde_json::Value {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let image = container
        .and_then(|container| container.image.clone())
        .unwrap_or_default();
    let state = match (&running.child, running.last_exit) {
        (Some(_), _) => json!({"running": {}}),
        (None, code) => json!({"terminated": {"exitCode": code.unwrap_or(137)}}),
    };
    let ready = if running.readiness.is_ready {
        "True"
    } else {
        "False"
    };
    json!({"status": {
        "phase": "Running",
        "podIP": running.network.address,
        "podIPs": [{"ip": running.network.address}],
        "conditions": [{"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "etcd", "image": image, "imageID": image, "ready": running.readiness.is_ready,
            "restartCount": running.restarts.max(0), "state": state}],
    }})
}
