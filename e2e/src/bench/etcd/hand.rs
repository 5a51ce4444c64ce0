//! A cluster by hand: three etcds with the flags, certificates and kind of volume of a cluster that the operator made.
//!
//! Nobody looks after them; they have names of their own in the other's domain, so that the same certificates fit.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use skep_etcd::build::pod::{START_MEMBERS, START_STATE};
use skep_testing::binaries;

use super::CLUSTER;
use crate::soak::etcd::container::{Readiness, Running};
use crate::soak::etcd::hosts::Hosts;
use crate::soak::etcd::machine::{Machines, Network, Volume};
use crate::soak::etcd::stage::Size;

/// Its etcds; they are killed when dropped.
pub struct Hand {
    running: Vec<Running>,
    /// The name and the address of each.
    pub members: Vec<(String, String)>,
}

impl Hand {
    /// Starts one like these pods, whose Secrets lie in a directory.
    ///
    /// # Errors
    /// When something of it cannot be made or started.
    pub fn start(like: &[Pod], directory: &Path, hosts: &Hosts) -> Result<Self> {
        let namespace = like.first().and_then(ResourceExt::namespace).unwrap_or_default();
        let host = |name: &str| format!("{name}.{CLUSTER}-peer.{namespace}.svc");
        let names: Vec<String> = (0..like.len()).map(|number| format!("hand-{number}")).collect();
        let all: Vec<String> = names
            .iter()
            .map(|name| format!("{name}=https://{}:2380", host(name)))
            .collect();
        let mut hand = Self {
            running: Vec::new(),
            members: Vec::new(),
        };
        let mut lines = String::new();
        for (pod, name) in like.iter().zip(&names) {
            let running = prepare(pod, name, directory)?;
            let address = running.network.address.clone();
            writeln!(lines, "{address} {}", host(name))?;
            hand.members.push((name.clone(), address));
            hand.running.push(running);
        }
        hosts.write("by-hand", lines)?;
        for ((pod, name), running) in like.iter().zip(&names).zip(&mut hand.running) {
            let pod = renamed(pod, name, &all.join(","));
            let log = directory.join(format!("{name}.log"));
            running.tend(&pod, &binaries(), &log, &Machines::default())?;
        }
        Ok(hand)
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        for child in self
            .running
            .iter_mut()
            .filter_map(|running| running.child.as_mut())
        {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn prepare(pod: &Pod, name: &str, directory: &Path) -> Result<Running> {
    let spec = pod.spec.clone().unwrap_or_default();
    let container = spec.containers.first().context("a pod without a container")?;
    let mounts = container.volume_mounts.iter().flatten();
    let is_secret = |name: &str| {
        let mut volumes = spec.volumes.iter().flatten();
        volumes.any(|volume| volume.name == name && volume.secret.is_some())
    };
    let secrets = mounts.filter(|mount| is_secret(&mount.name)).map(|mount| {
        let lie_in = directory.join(format!("{}-{}", pod.name_any(), mount.name));
        (mount.mount_path.clone(), lie_in)
    });
    Ok(Running {
        uid: name.to_owned(),
        child: None,
        network: Network::attach()?,
        volume: Volume::open(directory, name, Size::SMALL.volume)?,
        restarts: -1,
        ended: None,
        last_exit: None,
        readiness: Readiness::default(),
        told: None,
        secrets: secrets.collect(),
        mounted: None,
    })
}

/// The same under another name, which forms a cluster with `all`.
fn renamed(pod: &Pod, name: &str, all: &str) -> Pod {
    let mut pod = pod.clone();
    let own = pod.name_any();
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        for argument in container.args.iter_mut().flatten() {
            *argument = argument.replace(&own, name);
        }
    }
    let annotations = pod.annotations_mut();
    annotations.insert(START_STATE.to_owned(), "new".to_owned());
    annotations.insert(START_MEMBERS.to_owned(), all.to_owned());
    pod.metadata.name = Some(name.to_owned());
    pod
}
