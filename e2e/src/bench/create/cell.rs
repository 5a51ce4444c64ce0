//! What the cell says of tenants and operators: pods, their memory, their restarts, and what is left of a tenant.
//!
//! Read with the operator's rights, outside everything that is timed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use skep_api::TenantCluster;
use skep_core::{SYSTEM_NAMESPACE, labels};
use tokio::time::{Instant, sleep};

use super::user;
use crate::Platform;
use crate::bench::memory::Census;

/// How long nothing may be left of a deleted cluster.
const PATIENCE: Duration = Duration::from_mins(5);

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its name in the pod.
    pub name: String,
    /// Its id at the container runtime.
    pub id: String,
    /// How often it was started anew.
    pub restarts: i32,
}

/// The namespace of a control plane.
pub fn namespace(cpid: &str) -> String {
    format!("cp-{cpid}")
}

/// The pods of a control plane.
pub async fn tenant_pods(client: &Client, cpid: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace(cpid));
    Ok(pods.list(&ListParams::default()).await?.items)
}

/// The containers of a pod that run, those that stay up beside the others included.
pub fn running(pod: &Pod) -> Vec<Running> {
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_deref());
    let beside = status.and_then(|status| status.init_container_statuses.as_deref());
    let all = beside.unwrap_or_default().iter().chain(main.unwrap_or_default());
    all.filter(|container| {
        container
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some())
    })
    .filter_map(|container| {
        let id = container.container_id.as_ref()?;
        Some(Running {
            name: container.name.clone(),
            id: id.rsplit('/').next()?.to_owned(),
            restarts: container.restart_count,
        })
    })
    .collect()
}

/// The memory of one tenant in bytes, by container; `beside` is what its pods' sandboxes take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// By the container's name, summed over pods.
    pub containers: BTreeMap<String, u64>,
    /// Sandboxes and shims.
    pub beside: u64,
}

impl Memory {
    /// Bytes of all containers.
    pub fn total(&self) -> u64 {
        self.containers.values().sum()
    }
}

/// The memory that a tenant takes at this moment.
pub async fn tenant_memory(client: &Client, cpid: &str) -> Result<Memory> {
    let pods = tenant_pods(client, cpid).await?;
    let census = Census::take()?;
    let mut memory = Memory::default();
    for pod in &pods {
        let containers = running(pod);
        for container in &containers {
            let bytes = census.container(&container.id);
            ensure!(
                bytes > 0,
                "no process of container {} of {cpid} is on this machine",
                container.name
            );
            *memory.containers.entry(container.name.clone()).or_default() += bytes;
        }
        let ids: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        memory.beside += census.sandbox(&pod.uid().unwrap_or_default(), &ids);
    }
    ensure!(!memory.containers.is_empty(), "{cpid} has no running pod");
    Ok(memory)
}

/// The memory of the platform's own pods in bytes, by application: Deployments, then the other kinds.
pub async fn operators_memory(client: &Client) -> Result<(BTreeMap<String, u64>, BTreeMap<String, u64>)> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let deployments = deployments.list(&ListParams::default()).await?;
    let names: Vec<String> = deployments.iter().map(ResourceExt::name_any).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let pods = pods.list(&ListParams::default()).await?;
    let census = Census::take()?;
    let (mut operators, mut others) = (BTreeMap::new(), BTreeMap::new());
    for pod in &pods {
        let name = pod.labels().get(labels::APP_NAME).cloned().unwrap_or_default();
        let bytes: u64 = running(pod)
            .iter()
            .map(|container| census.container(&container.id))
            .sum();
        let group = if names.contains(&name) {
            &mut operators
        } else {
            &mut others
        };
        *group.entry(name).or_default() += bytes;
    }
    ensure!(
        operators.values().all(|bytes| *bytes > 0) && operators.len() == names.len(),
        "not every Deployment of the platform runs: {operators:?}"
    );
    Ok((operators, others))
}

/// How often containers of these control planes were started anew.
pub async fn restarts(client: &Client, cpids: &[String]) -> Result<i32> {
    let mut count = 0;
    for cpid in cpids {
        for pod in tenant_pods(client, cpid).await? {
            count += running(&pod)
                .iter()
                .map(|container| container.restarts)
                .sum::<i32>();
        }
    }
    Ok(count)
}

/// The clusters of every project, as `project/name`.
pub async fn all_clusters(client: &Client) -> Result<Vec<String>> {
    let clusters: Api<TenantCluster> = Api::all(client.clone());
    let clusters = clusters.list(&ListParams::default()).await?;
    Ok(clusters
        .iter()
        .map(|cluster| {
            let project = cluster.namespace().unwrap_or_default();
            format!(
                "{}/{}",
                project.strip_prefix("project-").unwrap_or(&project),
                cluster.name_any()
            )
        })
        .collect())
}

/// Deletes clusters and waits until nothing of them is left and their volumes can be claimed again.
pub async fn remove(platform: &Platform, client: &Client, clusters: &[(String, String)]) -> Result<()> {
    for (name, _) in clusters {
        user::delete(platform, name).await?;
    }
    let deadline = Instant::now() + PATIENCE;
    for (name, cpid) in clusters {
        while let Some(left) = what_is_left(platform, client, name, cpid).await? {
            ensure!(
                Instant::now() < deadline,
                "cluster {name} is deleted and {left} is left"
            );
            sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

async fn what_is_left(
    platform: &Platform,
    client: &Client,
    name: &str,
    cpid: &str,
) -> Result<Option<&'static str>> {
    if user::exists(platform, name).await? {
        return Ok(Some("its object"));
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespace(cpid);
    if namespaces.get_opt(&namespace).await?.is_some() {
        return Ok(Some("its namespace"));
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volumes = volumes
        .list(&ListParams::default())
        .await
        .context("cannot list volumes")?;
    let is_free = |volume: &PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        claim.is_none_or(|claim| claim.namespace.as_deref() != Some(&namespace))
    };
    Ok((!volumes.iter().all(is_free)).then_some("a volume"))
}
