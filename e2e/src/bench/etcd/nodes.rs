//! A stand-in of scheduler and kubelets: every pod that may run gets a node and an address on loopback, where a stand-in of
//! its etcd serves, and is told to run and to be ready.
//!
//! It acts only on what a watch tells, so that it has nothing to do once all pods run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::CLUSTER;
use super::members::{Cluster, Served};
use crate::soak::etcd::kubelet::ZONES;

/// Pods at a time.
const AT_A_TIME: usize = 8;

/// All nodes, and what runs on them.
pub struct Nodes {
    client: Client,
    clusters: Mutex<BTreeMap<String, Cluster>>,
    bound: Mutex<BTreeMap<String, usize>>,
    started: Mutex<BTreeSet<String>>,
    calls: Arc<AtomicU64>,
}

impl Nodes {
    /// Without a pod.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            clusters: Mutex::default(),
            bound: Mutex::default(),
            started: Mutex::default(),
            calls: Arc::default(),
        }
    }

    /// How many calls all members together have got.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Runs for ever.
    ///
    /// # Errors
    /// When a pod cannot be run.
    pub async fn run(&self) -> Result<()> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let told = watcher(pods, watcher::Config::default())
            .default_backoff()
            .applied_objects();
        // A watch that breaks is begun again.
        let told = told.filter_map(|pod| async { pod.inspect_err(|error| eprintln!("pods: {error}")).ok() });
        told.map(Ok)
            .try_for_each_concurrent(AT_A_TIME, |pod| async move {
                let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                self.tend(&pod)
                    .await
                    .with_context(|| format!("cannot run pod {name}"))
            })
            .await?;
        bail!("the watch of pods has ended")
    }

    async fn tend(&self, pod: &Pod) -> Result<()> {
        let spec = pod.spec.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            bail!("it is deleted, and nothing here asks for that");
        }
        if spec.scheduling_gates.is_some_and(|gates| !gates.is_empty()) {
            return Ok(());
        }
        if spec.node_name.is_none() {
            return self.bind(pod).await;
        }
        match self.next_number(pod) {
            Some(number) => self.start(pod, number).await,
            None => Ok(()),
        }
    }

    /// How many have started before, unless this one has.
    fn next_number(&self, pod: &Pod) -> Option<usize> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let number = started.len();
        started.insert(pod.uid().unwrap_or_default()).then_some(number)
    }

    /// Binds each of a cluster's pods to the next zone, and its claim to a volume there.
    async fn bind(&self, pod: &Pod) -> Result<()> {
        let namespace = pod.namespace().unwrap_or_default();
        let zone = {
            let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            let next = bound.entry(namespace.clone()).or_default();
            *next += 1;
            ZONES[(*next - 1) % ZONES.len()]
        };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for claim in volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            let status = Patch::Merge(json!({"status": {"phase": "Bound"}}));
            claims
                .patch_status(&claim.claim_name, &PatchParams::default(), &status)
                .await?;
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let name = pod.name_any();
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": format!("node-{zone}-1")}});
        let bound: kube::Result<serde_json::Value> = pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        match bound {
            // Bound already; the watch was behind.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            bound => Ok(bound.map(drop)?),
        }
    }

    async fn start(&self, pod: &Pod, number: usize) -> Result<()> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let address = address(number)?;
        let cluster = {
            let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.entry(namespace.clone()).or_default().clone()
        };
        let peer_url = format!("https://{name}.{CLUSTER}-peer.{namespace}.svc:2380");
        let served = self.served(&namespace).await?;
        cluster
            .start(&name, &peer_url, address, &served, self.calls.clone())
            .await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let status = Patch::Merge(status(address));
        pods.patch_status(&name, &PatchParams::default(), &status).await?;
        Ok(())
    }

    async fn served(&self, namespace: &str) -> Result<Served> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get(&format!("{CLUSTER}-server")).await?;
        let mut data = secret.data.unwrap_or_default();
        let mut text = |key: &str| {
            data.remove(key)
                .map(|bytes| bytes.0)
                .with_context(|| format!("no {key}"))
        };
        Ok(Served {
            authority: text("ca.crt")?,
            certificate: text("tls.crt")?,
            key: text("tls.key")?,
        })
    }
}

/// The address of the pod with a number; 127.0.0.0/8 is all loopback, and the API server has the first of it.
fn address(number: usize) -> Result<Ipv4Addr> {
    let (third, fourth) = (u8::try_from(number / 200)?, u8::try_from(1 + number % 200)?);
    Ok(Ipv4Addr::new(127, 1, third, fourth))
}

fn status(address: Ipv4Addr) -> serde_json::Value {
    let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": null});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let image = super::image();
    json!({"status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": [{"name": "etcd", "image": image, "imageID": image, "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}}}],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_has_an_address_of_its_own() {
        let all: BTreeSet<Ipv4Addr> = (0..600).map(|number| address(number).unwrap()).collect();
        assert_eq!(all.len(), 600);
        assert!(all.iter().all(Ipv4Addr::is_loopback));
    }
}
