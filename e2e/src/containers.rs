//! Containers as processes of this machine: found by what Kubernetes says of a pod, and killed.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How often a pod's container was restarted, and the id that it has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `namespace/pod/container`.
    pub name: String,
    /// The runtime's id.
    pub id: String,
    /// Restarts since the pod began.
    pub restarts: i64,
}

/// The running containers among the pods of a `kubectl get pods -o json`.
pub fn running(pods: &Value) -> Vec<Container> {
    let items = pods["items"].as_array().into_iter().flatten();
    items.flat_map(of_pod).collect()
}

fn of_pod(pod: &Value) -> Vec<Container> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &pod["metadata"];
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    statuses
        .filter(|status| status["state"]["running"].is_object())
        .map(|status| Container {
            name: format!(
                "{}/{}/{}",
                text(&metadata["namespace"]),
                text(&metadata["name"]),
                text(&status["name"])
            ),
            id: text(&status["containerID"]).replace("containerd://", ""),
            restarts: status["restartCount"].as_i64().unwrap_or_default(),
        })
        .collect()
}

/// Kills every process of a container with SIGKILL.
pub fn kill_container(container: &Container) -> Result<()> {
    signal_container(container, Signal::SIGKILL)
}

/// Sends every process of a container a signal.
pub fn signal_container(container: &Container, signal: Signal) -> Result<()> {
    let told = processes(container)?
        .into_iter()
        .filter(|process| kill(*process, signal).is_ok());
    ensure!(
        told.count() > 0,
        "no process of {} is on this machine",
        container.name
    );
    Ok(())
}

/// The processes of a container on this machine.
pub fn processes(container: &Container) -> Result<Vec<Pid>> {
    ensure!(container.id.len() == 64, "{container:?} has no id");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(&container.id) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// The one running container whose name ends so.
pub fn find<'a>(all: &'a [Container], pod: &str, name: &str) -> Result<&'a Container> {
    all.iter()
        .find(|container| {
            container.name.contains(&format!("/{pod}")) && container.name.ends_with(&format!("/{name}"))
        })
        .with_context(|| format!("no container {name} of a pod {pod}… runs"))
}
