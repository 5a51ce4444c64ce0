//! When each step of a creation was seen to happen, by watches of the hub and the cell.
//!
//! The objects' own times are whole seconds; what counts here is the moment at which a watch told of a change.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use skep_api::etcd_cluster::SERVING;
use skep_api::{ControlPlane, DeploymentRecord, EtcdCluster, TenantCluster};
use skep_core::reasons;
use skep_runtime::conditions::is_true;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A step of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The hub wrote the record.
    Record,
    /// The agent made the control plane of it.
    ControlPlane,
    /// The last Secret was there before the apiserver's Deployment.
    Secrets,
    /// The datastore's object was there.
    Datastore,
    /// A step of a program's pod.
    Pod(Program, PodStep),
    /// The datastore was called serving.
    Serving,
    /// A program's Deployment was there.
    Deployment(Program),
    /// The gateway was told of the tenant.
    Routed,
    /// The tenant held what it begins with.
    Bootstrapped,
    /// The control plane was called ready.
    ControlPlaneReady,
    /// The user's cluster was called ready.
    ClusterReady,
}

/// One of a tenant's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// etcd
    Etcd,
    /// kube-apiserver
    ApiServer,
    /// kube-controller-manager
    ControllerManager,
    /// kube-scheduler
    Scheduler,
}

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodStep {
    /// It was made.
    Made,
    /// It had a node.
    Scheduled,
    /// Its program was started.
    Started,
    /// It was called ready.
    Ready,
}

impl Program {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Etcd, "etcd"),
        (Self::ApiServer, "kube-apiserver"),
        (Self::ControllerManager, "kube-controller-manager"),
        (Self::Scheduler, "kube-scheduler"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find_map(|(program, known)| (known == name).then_some(program))
    }

    fn name(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find_map(|(program, name)| (program == self).then_some(name))
            .unwrap_or_default()
    }
}

impl Step {
    /// For people.
    pub fn label(self) -> String {
        match self {
            Self::Record => "record at the hub".to_owned(),
            Self::ControlPlane => "control plane in the cell".to_owned(),
            Self::Secrets => "last Secret before the apiserver's Deployment".to_owned(),
            Self::Datastore => "EtcdCluster".to_owned(),
            Self::Serving => "EtcdCluster Serving".to_owned(),
            Self::Deployment(program) => format!("{} Deployment", program.name()),
            Self::Pod(program, step) => {
                let word = match step {
                    PodStep::Made => "made",
                    PodStep::Scheduled => "scheduled",
                    PodStep::Started => "started",
                    PodStep::Ready => "ready",
                };
                format!("{} pod {word}", program.name())
            }
            Self::Routed => "gateway's route".to_owned(),
            Self::Bootstrapped => "bootstrap data".to_owned(),
            Self::ControlPlaneReady => "ControlPlane Ready".to_owned(),
            Self::ClusterReady => "TenantCluster Ready".to_owned(),
        }
    }
}

type Seen = Arc<Mutex<BTreeMap<String, BTreeMap<Step, Instant>>>>;

/// Watches that note the first time of each step of every control plane.
#[derive(Debug)]
pub struct Timeline {
    seen: Seen,
    // Ends the watches when dropped.
    _watches: JoinSet<()>,
}

impl Timeline {
    /// Begins to watch.
    pub fn begin(client: &Client) -> Self {
        let seen = Seen::default();
        let mut watches = JoinSet::new();
        follow(
            &mut watches,
            &seen,
            Api::<TenantCluster>::all(client.clone()),
            of_cluster,
        );
        follow(
            &mut watches,
            &seen,
            Api::<DeploymentRecord>::all(client.clone()),
            of_record,
        );
        follow(
            &mut watches,
            &seen,
            Api::<ControlPlane>::all(client.clone()),
            of_control_plane,
        );
        follow(
            &mut watches,
            &seen,
            Api::<EtcdCluster>::all(client.clone()),
            of_datastore,
        );
        follow(
            &mut watches,
            &seen,
            Api::<Deployment>::all(client.clone()),
            of_deployment,
        );
        follow(&mut watches, &seen, Api::<Pod>::all(client.clone()), of_pod);
        follow(
            &mut watches,
            &seen,
            Api::<PartialObjectMeta<Secret>>::all(client.clone()),
            of_secret,
        );
        Self {
            seen,
            _watches: watches,
        }
    }

    /// The steps of one control plane in seconds since a moment.
    pub fn steps(&self, cpid: &str, since: Instant) -> BTreeMap<Step, f64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = seen.get(cpid).cloned().unwrap_or_default();
        let seconds = |at: Instant| at.saturating_duration_since(since).as_secs_f64();
        steps.into_iter().map(|(step, at)| (step, seconds(at))).collect()
    }
}

/// A control plane's identity and the steps that it has taken.
type Taken = Option<(String, Vec<Step>)>;

fn follow<K>(watches: &mut JoinSet<()>, seen: &Seen, api: Api<K>, of: fn(&K) -> Taken)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let seen = Arc::clone(seen);
    watches
        .spawn(async move { note_all(watcher::watcher(api, watcher::Config::default()), &seen, of).await });
}

async fn note_all<K>(
    events: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    seen: &Seen,
    of: impl Fn(&K) -> Taken,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    while let Some(event) = events.next().await {
        // The watch begins anew by itself; what it then tells of is noted late at worst.
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else {
            continue;
        };
        let now = Instant::now();
        if let Some((cpid, steps)) = of(&object) {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            note(seen.entry(cpid).or_default(), &steps, now);
        }
    }
}

/// Notes the first time of each step; of Secrets the last one that the apiserver can have waited for.
fn note(known: &mut BTreeMap<Step, Instant>, steps: &[Step], now: Instant) {
    let is_later = known.contains_key(&Step::Deployment(Program::ApiServer));
    for step in steps {
        if *step == Step::Secrets && !is_later {
            known.insert(*step, now);
        } else {
            known.entry(*step).or_insert(now);
        }
    }
}

fn of_cluster(cluster: &TenantCluster) -> Taken {
    let status = cluster.status.as_ref()?;
    let cpid = status.cpid.clone()?;
    let ready = is_true(&status.conditions, reasons::READY);
    Some((cpid, ready.then_some(Step::ClusterReady).into_iter().collect()))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "each kind is taken by the same signature"
)]
fn of_record(record: &DeploymentRecord) -> Taken {
    Some((record.spec.cpid.clone(), vec![Step::Record]))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "each kind is taken by the same signature"
)]
fn of_control_plane(control_plane: &ControlPlane) -> Taken {
    let conditions = control_plane
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let conditions = conditions.unwrap_or_default();
    let named = [
        (reasons::ROUTE_READY, Step::Routed),
        (reasons::BOOTSTRAPPED, Step::Bootstrapped),
        (reasons::READY, Step::ControlPlaneReady),
    ];
    let met = named
        .into_iter()
        .filter(|(condition, _)| is_true(conditions, condition));
    let steps = std::iter::once(Step::ControlPlane).chain(met.map(|(_, step)| step));
    Some((control_plane.name_any(), steps.collect()))
}

fn of_datastore(datastore: &EtcdCluster) -> Taken {
    in_namespace(datastore, |datastore| {
        let conditions = datastore
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let serving = is_true(conditions.unwrap_or_default(), SERVING);
        let steps = std::iter::once(Step::Datastore).chain(serving.then_some(Step::Serving));
        steps.collect()
    })
}

fn of_secret(secret: &PartialObjectMeta<Secret>) -> Taken {
    in_namespace(secret, |_| vec![Step::Secrets])
}

fn of_deployment(deployment: &Deployment) -> Taken {
    in_namespace(deployment, |deployment| {
        let program = Program::named(&deployment.name_any());
        program.map(Step::Deployment).into_iter().collect()
    })
}

fn of_pod(pod: &Pod) -> Taken {
    in_namespace(pod, |pod| {
        let spec = pod.spec.as_ref();
        let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let Some((program, container)) = containers
            .iter()
            .find_map(|container| Some((Program::named(&container.name)?, &container.name)))
        else {
            return Vec::new();
        };
        let status = pod.status.as_ref();
        let containers = status.and_then(|status| status.container_statuses.as_deref());
        let started = containers.unwrap_or_default().iter().any(|state| {
            state.name == *container && state.state.as_ref().is_some_and(|state| state.running.is_some())
        });
        let conditions = status.and_then(|status| status.conditions.as_deref());
        let ready = conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let scheduled = spec.is_some_and(|spec| spec.node_name.is_some());
        [
            (true, PodStep::Made),
            (scheduled, PodStep::Scheduled),
            (started, PodStep::Started),
            (ready, PodStep::Ready),
        ]
        .into_iter()
        .filter_map(|(taken, step)| taken.then_some(Step::Pod(program, step)))
        .collect()
    })
}

/// The steps of an object in the namespace of a control plane.
fn in_namespace<K: Resource>(object: &K, steps: impl FnOnce(&K) -> Vec<Step>) -> Taken {
    let namespace = object.meta().namespace.as_deref()?;
    let cpid = namespace.strip_prefix("cp-")?;
    Some((cpid.to_owned(), steps(object)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_pod_takes_its_steps_one_by_one() {
        let mut pod = json!({"metadata": {"namespace": "cp-cabc", "name": "x"},
            "spec": {"containers": [{"name": "beside"}, {"name": "kube-apiserver"}]}});
        let steps =
            |pod: &serde_json::Value| of_pod(&serde_json::from_value(pod.clone()).unwrap()).unwrap().1;
        let step = |step| Step::Pod(Program::ApiServer, step);
        assert_eq!(steps(&pod), [step(PodStep::Made)]);
        pod["spec"]["nodeName"] = json!("n");
        pod["status"] = json!({"containerStatuses": [
            {"name": "kube-apiserver", "state": {"running": {}}, "image": "", "imageID": "", "ready": false,
             "restartCount": 0}]});
        assert_eq!(
            steps(&pod),
            [PodStep::Made, PodStep::Scheduled, PodStep::Started].map(step)
        );
        pod["metadata"]["namespace"] = json!("default");
        assert_eq!(of_pod(&serde_json::from_value(pod).unwrap()), None);
    }

    #[test]
    fn the_last_secret_before_the_apiserver_counts() {
        let (start, mut known) = (Instant::now(), BTreeMap::new());
        let at = |seconds| start + Duration::from_secs(seconds);
        note(&mut known, &[Step::Secrets, Step::Record], at(1));
        note(&mut known, &[Step::Secrets, Step::Record], at(2));
        note(&mut known, &[Step::Deployment(Program::ApiServer)], at(3));
        note(&mut known, &[Step::Secrets], at(4));
        assert_eq!((known[&Step::Secrets], known[&Step::Record]), (at(2), at(1)));
    }
}
