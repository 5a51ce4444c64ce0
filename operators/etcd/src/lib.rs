//! The etcd operator: gives every `EtcdCluster` its certificates, Services, volumes and members, and keeps
//! its quorum while members come and go.
//!
//! It never forms a cluster twice, never adds a voter, never takes a volume that a member may need.

pub mod apply;
pub mod backup;
pub mod build;
pub mod controller;
pub mod decide;
pub mod drill;
pub mod drills;
pub mod error;
pub mod execute;
#[cfg(test)]
mod fixtures;
pub mod members;
pub mod metrics;
pub mod observe;
pub mod observed;
pub mod quantity;
pub mod recover;
pub mod restore;
pub mod restores;
pub mod snapshots;
pub mod status;
mod teardown;
mod turns;
pub mod validate;
pub mod version;

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use skep_api::etcd_cluster::EtcdCluster;
use skep_api::{EtcdBackup, EtcdDrill, EtcdRestore};
use skep_core::labels;
use skep_runtime::{CancellationToken, ControllerBuilder};

use crate::controller::Operator;
use crate::members::{GrpcMembers, Members};
use crate::turns::Turns;

/// The name of this controller in field managers, finalizers, metrics and events.
pub const CONTROLLER: &str = "etcd";

/// The longest that one cluster is worked on at a time: a database that is written anew takes minutes.
const LONGEST: Duration = Duration::from_mins(5);

/// How many snapshots are written, and how many are read, at a time.
const TRANSFERS: u16 = 4;
/// The longest that one snapshot is written or read: the largest, 8 GiB, at 2 MiB a second.
const LONGEST_TRANSFER: Duration = Duration::from_mins(70);

/// How the operator runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many clusters are worked on at a time.
    pub concurrency: u16,
    /// How often a cluster at rest is looked at, against what watches do not tell: etcd's own state.
    pub resync: Duration,
    /// The name of this process in events, such as its pod.
    pub instance: Option<String>,
    /// The image that this process runs in, which makes members' data from snapshots; no restore without it.
    pub image: Option<String>,
    /// The only namespace that is worked on; all of them when left out.
    pub namespace: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 16,
            resync: Duration::from_mins(1),
            instance: None,
            image: None,
            namespace: None,
        }
    }
}

/// Runs until `shutdown`; leading is the caller's business.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) {
    run_with(client, GrpcMembers, settings, shutdown).await;
}

/// The same with another way to ask etcd, so that tests can lose and count answers.
pub async fn run_with<M: Members + Clone>(
    client: Client,
    members: M,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let ours = watcher::Config::default().labels(&build::selector_of_all());
    let scope = Scope {
        client: client.clone(),
        namespace: settings.namespace,
    };
    let operator = Operator::new(
        client.clone(),
        members.clone(),
        settings.instance.clone(),
        settings.image.clone(),
        Turns::new(scope.api()),
    );
    let clusters = ControllerBuilder::<EtcdCluster>::new(CONTROLLER, scope.api(), watcher::Config::default())
        .owns::<Pod>(scope.api(), ours.clone())
        .owns::<Secret>(scope.api(), ours.clone())
        .owns::<Service>(scope.api(), ours.clone())
        .owns::<PodDisruptionBudget>(scope.api(), ours.clone())
        .owns::<EtcdBackup>(scope.api(), ours.clone())
        .owns::<EtcdDrill>(scope.api(), ours.clone())
        .watches(scope.api(), ours, cluster_of_claim)
        .run(
            skep_runtime::Settings {
                concurrency: settings.concurrency,
                resync: settings.resync,
                timeout: LONGEST,
                ..skep_runtime::Settings::default()
            },
            operator,
            shutdown.clone(),
        );
    let long = skep_runtime::Settings {
        concurrency: TRANSFERS,
        timeout: LONGEST_TRANSFER,
        ..skep_runtime::Settings::default()
    };
    let taker = backup::Taker::new(client.clone(), members, settings.instance.clone());
    let taking =
        ControllerBuilder::<EtcdBackup>::new(backup::CONTROLLER, scope.api(), watcher::Config::default())
            .run(long.clone(), taker, shutdown.clone());
    let driller = drills::Driller::new(
        client.clone(),
        scope.api(),
        settings.instance.clone(),
        settings.image,
    );
    let pods = watcher::Config::default().labels(&build::drill::selector_of_all());
    let drilling =
        ControllerBuilder::<EtcdDrill>::new(drills::CONTROLLER, scope.api(), watcher::Config::default())
            .owns::<Pod>(scope.api(), pods)
            .run(long.clone(), driller, shutdown.clone());
    let restorer = restores::Restorer::new(client, settings.instance);
    let leading =
        ControllerBuilder::<EtcdRestore>::new(restores::CONTROLLER, scope.api(), watcher::Config::default())
            .run(long, restorer, shutdown);
    tokio::join!(clusters, taking, drilling, leading);
}

/// What is watched.
struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// A claim has no owner, so that it can outlive its cluster; its label names the cluster.
fn cluster_of_claim(claim: &PartialObjectMeta<PersistentVolumeClaim>) -> Option<ObjectRef<EtcdCluster>> {
    let name = claim.labels().get(labels::APP_INSTANCE)?;
    Some(ObjectRef::new(name).within(&claim.namespace()?))
}
