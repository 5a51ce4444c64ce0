//! Leads one drill: makes its pod, waits for what that finds, and tells it.
//!
//! Apart from the controller of members, which must never wait for a store, and without any part in the cluster.

mod finding;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use skep_api::EtcdDrill;
use skep_api::etcd_drill::EtcdDrillStatus;
use skep_core::{labels, reasons};
use skep_runtime::error::chain;
use skep_runtime::{
    Applier, ApplyError, Categorised, ConditionStatus, Events, Outcome, Reconcile, api_category,
};
use skep_snapshots::{InvalidName, Manifest, Owner, SnapshotError, SnapshotId};

use self::finding::{Finding, examine};
use crate::backup::{self, BackupError, fetch_cluster, read};
use crate::build::drill::{build_drill, selector_of_all};
use crate::drill::Report;
use crate::metrics::DRILLS;
use crate::observe::drills::{has_failed, has_passed};
use crate::snapshots::{StoreError, open};
use crate::validate::Cluster;

/// The name of this controller in field managers, metrics and events.
pub const CONTROLLER: &str = "etcd-drill";

/// Until the pod is looked at again; a change of it triggers sooner.
const LATER: std::time::Duration = std::time::Duration::from_secs(30);
/// How many drills run at a time in all: each has an etcd of its own, and after a change of many datastores all are due.
const AT_A_TIME: usize = 4;
/// The longest that a drill may take, its wait for a node among it.
const LONGEST: SignedDuration = SignedDuration::from_mins(75);
/// How many drills of one datastore are kept as objects.
const REMEMBERED: usize = 10;

/// A drill that does not go on.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The datastore or its store.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The snapshot is named in a way that none is.
    #[error("spec.snapshot")]
    Name(#[from] InvalidName),
    /// The store, or what is in it.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// There is no snapshot at all.
    #[error("there is no snapshot in {0}")]
    Empty(String),
    /// No pod without an image.
    #[error("the operator does not know its own image; set SKEP_IMAGE in its environment")]
    NoImage,
    /// The pod could not be made.
    #[error("cannot create pod {pod}")]
    Create {
        /// Its name.
        pod: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A status could not be written, or an object not deleted.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Categorised for DrillError {
    fn category(&self) -> &'static str {
        match self {
            Self::Backup(error) => error.category(),
            Self::Name(_) => "invalid-spec",
            Self::Open(StoreError::Store(error)) | Self::Snapshot(error) => error.category(),
            Self::Open(_) => "store-secret",
            Self::Empty(_) => "no-snapshot",
            Self::NoImage => "no-image",
            Self::Create { source, .. } => api_category(source),
            Self::Apply(error) => error.category(),
        }
    }
}

impl DrillError {
    /// Whether it is the drill's result: another try would find the same.
    fn is_result(&self) -> bool {
        matches!(
            self,
            Self::Name(_)
                | Self::Empty(_)
                | Self::Snapshot(
                    SnapshotError::NotFound { .. }
                        | SnapshotError::Corrupt { .. }
                        | SnapshotError::Foreign { .. }
                        | SnapshotError::WrongKey { .. }
                )
        )
    }
}

/// The reconciler of all drills.
pub struct Driller {
    client: Client,
    /// Where pods of drills are counted.
    all_pods: Api<Pod>,
    applier: Applier,
    events: Events,
    image: Option<String>,
}

impl Reconcile<EtcdDrill> for Driller {
    type Error = DrillError;

    async fn reconcile(&self, cached: &EtcdDrill) -> Result<Outcome, DrillError> {
        let namespace = cached.namespace().unwrap_or_default();
        let api: Api<EtcdDrill> = Api::namespaced(self.client.clone(), &namespace);
        let found = api.get_opt(&cached.name_any()).await.map_err(read("the drill"))?;
        let Some(object) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
            return Ok(Outcome::skipped("the object is gone"));
        };
        if has_passed(&object) || has_failed(&object) {
            self.clear(&namespace, &object).await?;
            return Ok(Outcome::Converged);
        }
        match self.lead(&namespace, &object).await {
            Err(error) if error.is_result() => {
                let finding = Finding::Failed(chain(&error), None);
                self.end(&object, None, finding).await
            }
            Err(error) => {
                self.tell_waiting(&object, &chain(&error)).await?;
                Err(error)
            }
            outcome => outcome,
        }
    }
}

impl Driller {
    pub(crate) fn new(
        client: Client,
        all_pods: Api<Pod>,
        instance: Option<String>,
        image: Option<String>,
    ) -> Self {
        Self {
            all_pods,
            applier: Applier::new(client.clone(), CONTROLLER),
            events: Events::new(client.clone(), CONTROLLER, instance),
            client,
            image,
        }
    }

    async fn lead(&self, namespace: &str, object: &EtcdDrill) -> Result<Outcome, DrillError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let name = object.name_any();
        let found = pods.get_opt(&name).await.map_err(read("the drill's pod"))?;
        let Some(pod) = found else {
            return self.begin(&pods, namespace, object).await;
        };
        if !is_of(&pod, object) {
            let text = format!("pod {name} is another's; it has to go first");
            return self.tell_waiting(object, &text).await;
        }
        // What ends a pod, such as a drain of its node, says nothing of the snapshot: another is made.
        let finding = match examine(&pod) {
            _ if pod.metadata.deletion_timestamp.is_some() => {
                Finding::Running("its pod ends, and another is made".to_owned())
            }
            finding => finding,
        };
        match finding {
            Finding::Running(what) if is_late(object, Timestamp::now()) => {
                let finding = Finding::Failed(format!("it took too long: {what}"), None);
                self.end(object, Some(&pod), finding).await
            }
            Finding::Running(what) => self.tell_waiting(object, &what).await,
            finding => self.end(object, Some(&pod), finding).await,
        }
    }

    /// Takes away a pod that is left of a drill that has ended.
    async fn clear(&self, namespace: &str, object: &EtcdDrill) -> Result<(), DrillError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = pods
            .get_opt(&object.name_any())
            .await
            .map_err(read("the drill's pod"))?;
        if let Some(pod) = found.filter(|pod| is_of(pod, object) && pod.metadata.deletion_timestamp.is_none())
        {
            self.applier.delete_observed(&pod).await?;
        }
        Ok(())
    }

    /// Chooses the snapshot, writes down which, and makes the pod.
    async fn begin(
        &self,
        pods: &Api<Pod>,
        namespace: &str,
        object: &EtcdDrill,
    ) -> Result<Outcome, DrillError> {
        let running = ListParams::default().labels(&selector_of_all());
        let pods_of_drills = self
            .all_pods
            .list(&running)
            .await
            .map_err(read("the pods of drills"))?;
        let running = pods_of_drills.iter().filter(|pod| is_running(pod)).count();
        if running >= AT_A_TIME {
            let text = format!("its turn: {running} other drills run");
            return self.tell_waiting(object, &text).await;
        }
        let (cluster, manifest) = self.choose(namespace, object).await?;
        let owner = object.controller_owner_ref(&()).unwrap_or_default();
        let name = object.name_any();
        let built = build_drill(&cluster, &name, owner, &manifest).ok_or(DrillError::NoImage)?;
        let text = format!("snapshot {} is restored aside", manifest.about.id());
        let status = EtcdDrillStatus {
            observed_generation: object.metadata.generation,
            snapshot: Some(manifest.about.id().to_string()),
            started_at: Some(Time(Timestamp::now())),
            conditions: conditions(object, ConditionStatus::False, reasons::WAITING, &text),
            ..EtcdDrillStatus::default()
        };
        self.applier.apply_status(object, &status).await?;
        let params = PostParams {
            field_manager: Some(labels::field_manager(CONTROLLER)),
            ..PostParams::default()
        };
        match pods.create(&params, &built).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(source) => return Err(DrillError::Create { pod: name, source }),
        }
        self.events.normal(object, "DrillBegun", "Drill", &text).await;
        Ok(Outcome::waiting(text, LATER))
    }

    /// The datastore, and the snapshot that was named, was chosen before, or is the newest.
    async fn choose(&self, namespace: &str, object: &EtcdDrill) -> Result<(Cluster, Manifest), DrillError> {
        let (cluster, policy) = fetch_cluster(&self.client, namespace, &object.spec.cluster).await?;
        let store = open(&self.client, namespace, &policy).await?;
        let owner = Owner::new(&cluster.uid)?;
        let chosen = object.status.as_ref().and_then(|status| status.snapshot.as_ref());
        let id: SnapshotId = if let Some(name) = object.spec.snapshot.as_ref().or(chosen) {
            name.parse()?
        } else {
            let newest = store.list(&owner).await?.into_iter().next();
            let empty = || DrillError::Empty(policy.location.to_string());
            newest.ok_or_else(empty)?.id
        };
        let manifest = store.manifest(&owner, id).await?;
        let cluster = Cluster {
            operator_image: self.image.clone(),
            ..cluster
        };
        Ok((cluster, manifest))
    }

    async fn tell_waiting(&self, object: &EtcdDrill, text: &str) -> Result<Outcome, DrillError> {
        let status = EtcdDrillStatus {
            observed_generation: object.metadata.generation,
            conditions: conditions(object, ConditionStatus::False, reasons::WAITING, text),
            ..object.status.clone().unwrap_or_default()
        };
        self.applier.apply_status(object, &status).await?;
        Ok(Outcome::waiting(text, LATER))
    }

    /// Writes down what was found, and takes the pod away.
    async fn end(
        &self,
        object: &EtcdDrill,
        pod: Option<&Pod>,
        finding: Finding,
    ) -> Result<Outcome, DrillError> {
        let before = object.status.clone().unwrap_or_default();
        let snapshot = before.snapshot.clone().or_else(|| object.spec.snapshot.clone());
        let snapshot = snapshot.unwrap_or_else(|| "(none)".to_owned());
        let (ready, reason, text, report) = match finding {
            Finding::Passed(report) => {
                let text = passed(&snapshot, &report);
                (ConditionStatus::True, reasons::AS_DESIRED, text, Some(report))
            }
            Finding::Failed(why, report) => {
                let text = format!("snapshot {snapshot} cannot be relied on: {why}");
                (ConditionStatus::False, reasons::FAILED, text, report)
            }
            Finding::Running(what) => return self.tell_waiting(object, &what).await,
        };
        let status = EtcdDrillStatus {
            observed_generation: object.metadata.generation,
            revision: report.as_ref().map(|report| report.revision),
            keys: report.as_ref().map(|report| report.keys),
            compared: report.map(|report| report.compared).unwrap_or_default(),
            ended_at: Some(Time(Timestamp::now())),
            conditions: conditions(object, ready, reason, &text),
            ..before
        };
        self.applier.apply_status(object, &status).await?;
        if let Some(pod) = pod {
            self.applier.delete_observed(pod).await?;
        }
        if ready == ConditionStatus::True {
            DRILLS.with_label_values(&["passed"]).inc();
            self.events.normal(object, "DrillPassed", "Drill", &text).await;
        } else {
            DRILLS.with_label_values(&["failed"]).inc();
            self.events.warning(object, "DrillFailed", "Drill", &text).await;
        }
        self.forget_old(object).await?;
        Ok(Outcome::Converged)
    }

    /// Deletes all but the newest drills of the same datastore.
    async fn forget_old(&self, object: &EtcdDrill) -> Result<(), DrillError> {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<EtcdDrill> = Api::namespaced(self.client.clone(), &namespace);
        let all = api.list(&ListParams::default()).await.map_err(read("drills"))?;
        let is_over = |drill: &EtcdDrill| {
            drill.spec.cluster == object.spec.cluster && (has_passed(drill) || has_failed(drill))
        };
        let mut over: Vec<EtcdDrill> = all.items.into_iter().filter(is_over).collect();
        over.sort_by_key(|drill| std::cmp::Reverse(drill.creation_timestamp()));
        for drill in over.iter().skip(REMEMBERED) {
            self.applier.delete_observed(drill).await?;
        }
        Ok(())
    }
}

fn is_of(pod: &Pod, object: &EtcdDrill) -> bool {
    let mut owners = pod.owner_references().iter();
    owners.any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
}

fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_late(object: &EtcdDrill, now: Timestamp) -> bool {
    let started = object
        .status
        .as_ref()
        .and_then(|status| status.started_at.as_ref());
    started.is_some_and(|started| now.duration_since(started.0) > LONGEST)
}

fn passed(snapshot: &str, report: &Report) -> String {
    let Report {
        revision,
        keys,
        compared,
        ..
    } = report;
    let compared = if compared.is_empty() {
        "nothing could be compared, as it does not say what there was".to_owned()
    } else {
        format!("the same as when it was taken: {}", compared.join(", "))
    };
    format!("an etcd serves snapshot {snapshot} with {keys} keys at revision {revision}; {compared}")
}

fn conditions(object: &EtcdDrill, status: ConditionStatus, reason: &str, text: &str) -> Vec<Condition> {
    let observed = object.status.as_ref().map(|status| &status.conditions);
    backup::ready(object, observed, status, reason, text)
}
