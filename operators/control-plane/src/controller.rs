//! Wires watches to the five steps of a control plane: observe, validate, build, apply, status.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use skep_api::{ControlPlane, ControlPlaneStatus, EtcdCluster};
use skep_core::{Cpid, labels, reasons};
use skep_runtime::error::chain;
use skep_runtime::{
    Applier, ApplyError, CancellationToken, Categorised, ControllerBuilder, Outcome, Reconcile, conditions,
};

use crate::CONTROLLER;
use crate::apply::{Ledger, WriteError, Writer};
use crate::bootstrap::{self, Bootstrap};
use crate::build::{self, Children};
use crate::cold_start::{self, ColdStarts, Need, Request, Turn};
use crate::deletion::{self, DeletionError};
use crate::inside::{Inside, Insides};
use crate::knock::Knocks;
use crate::material::{Life, Material, MaterialError, build_material, is_complete};
use crate::observe::{ObserveError, Observed, observe};
use crate::stage::{decide_stage, hold_back, need_of};
use crate::status::{self, Facts};
use crate::validate::{Tenant, validate};

/// When to look again at what a watch should have told: a safety net.
const SAFETY_NET: Duration = Duration::from_secs(30);
/// When to try a tenant's API again that has just become available: its Service may lag behind its pod.
const FIRST_BOOTSTRAP_RETRY: Duration = Duration::from_secs(1);
/// When to look again at a namespace that is on its way out.
const DELETION_RETRY: Duration = Duration::from_secs(5);

/// Runs the controller.
pub(crate) async fn run(client: Client, settings: skep_runtime::Settings, shutdown: CancellationToken) {
    let owned = watcher::Config::default().labels(&build::labels::owned_selector());
    let (nodes, nodes_kept) = skep_runtime::cache(CONTROLLER, Api::all(client.clone()), cold_start::prune);
    let (cold_starts, turns) = ColdStarts::new(nodes);
    let (insides, news) = Insides::new();
    let (knocks, answers) = Knocks::new(client.clone());
    let reconciler = Reconciler {
        applier: Applier::new(client.clone(), CONTROLLER),
        cold_starts,
        insides,
        knocks,
        client: client.clone(),
        ledger: Ledger::default(),
        memory: bootstrap::Memory::default(),
    };
    let controller = ControllerBuilder::<ControlPlane>::new(
        CONTROLLER,
        Api::all(client.clone()),
        watcher::Config::default(),
    )
    .owns::<Namespace>(Api::all(client.clone()), owned.clone())
    .owns::<Secret>(Api::all(client.clone()), owned.clone())
    .owns::<ConfigMap>(Api::all(client.clone()), owned.clone())
    .owns::<Service>(Api::all(client.clone()), owned.clone())
    .owns::<EtcdCluster>(Api::all(client.clone()), owned.clone())
    .owns::<PodDisruptionBudget>(Api::all(client.clone()), owned.clone())
    .owns::<Deployment>(Api::all(client), owned)
    .triggered_by(turns)
    .triggered_by(news)
    .triggered_by(answers)
    .run(settings, reconciler, shutdown);
    tokio::select! {
        () = controller => {}
        () = nodes_kept => {}
    }
}

/// A reconcile that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The observe step.
    #[error("cannot observe the control plane")]
    Observe(#[source] ObserveError),
    /// Keys.
    #[error("cannot bring keys and certificates in place")]
    Material(#[source] MaterialError),
    /// The apply step.
    #[error("cannot write a child of the control plane")]
    Write(#[source] WriteError),
    /// The status step, or the finalizer.
    #[error("cannot write the control plane itself")]
    Own(#[source] ApplyError),
    /// The live read of the control plane.
    #[error("cannot read the control plane itself")]
    Live(#[source] kube::Error),
    /// The way out.
    #[error("cannot delete the control plane")]
    Delete(#[source] DeletionError),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe(error) => error.category(),
            Self::Material(error) => error.category(),
            Self::Write(error) => error.category(),
            Self::Own(error) => error.category(),
            Self::Live(error) => skep_runtime::api_category(error),
            Self::Delete(error) => error.category(),
        }
    }
}

pub(crate) struct Reconciler {
    client: Client,
    applier: Applier,
    ledger: Ledger,
    memory: bootstrap::Memory,
    cold_starts: ColdStarts,
    insides: Insides,
    knocks: Knocks,
}

impl Reconcile<ControlPlane> for Reconciler {
    type Error = Error;

    async fn reconcile(&self, object: &ControlPlane) -> Result<Outcome, Error> {
        let now = Timestamp::now();
        if object.meta().deletion_timestamp.is_some() {
            return self.delete(object, now).await;
        }
        let tenant = match validate(object) {
            Ok(tenant) => tenant,
            Err(error) => {
                self.write_status(object, &status::build_invalid(object, &error, now))
                    .await?;
                return Ok(Outcome::skipped(error.to_string()));
            }
        };
        if let Held::Ending = self.hold(object).await? {
            return Ok(Outcome::skipped("it is being deleted"));
        }
        let mut observed = observe(&self.client, &tenant.cpid)
            .await
            .map_err(Error::Observe)?;
        if let Some(obstacle) = obstacle_of(&tenant, &observed) {
            self.write_status(object, &status::build_waiting(object, &obstacle, now))
                .await?;
            return Ok(Outcome::waiting(obstacle, DELETION_RETRY));
        }
        observed.answering = self.knocks.answering(&tenant, &observed);
        let material = build_material(&tenant, &observed.secrets, life_of(object), rand::random(), now);
        let mut stage = decide_stage(&tenant, &observed, is_complete(&observed.secrets));
        let request = request_of(object, &tenant.cpid);
        let turn = self.cold_starts.step(&request, need_of(&observed, stage), now);
        if turn != Turn::Now {
            stage = hold_back(&observed, stage);
        }
        let mut children = build::build_children(&tenant, stage);
        build::trust::follow_datastore(&mut children, &observed);
        let (written, bootstrapped) = tokio::join!(
            self.write(&tenant, &observed, &children, material.as_ref().ok()),
            bootstrap::bootstrap(&tenant, &observed, &self.memory, now),
        );
        let inside = match bootstrapped {
            // Its own task is for the Service's address, which lasts.
            Bootstrap::Done if observed.answering.is_none() => self.insides.look_after(&tenant, &observed),
            Bootstrap::Done | Bootstrap::NotTried | Bootstrap::Failed(_) => Inside::NotTried,
        };
        let facts = Facts {
            object,
            tenant: &tenant,
            observed: &observed,
            material: material.as_ref(),
            bootstrap: &bootstrapped,
            inside: &inside,
            turn,
            problem: written.as_ref().err().map(|error| chain(error)),
        };
        let status = status::build_status(&facts, now);
        self.write_status(object, &status).await?;
        written.map_err(Error::Write)?;
        material.map_err(Error::Material)?;
        Ok(outcome_of(&status, &bootstrapped, now))
    }
}

impl Reconciler {
    async fn write(
        &self,
        tenant: &Tenant,
        observed: &Observed,
        children: &Children,
        material: Option<&Material>,
    ) -> Result<(), WriteError> {
        let writer = Writer {
            applier: &self.applier,
            ledger: &self.ledger,
            cpid: &tenant.cpid,
            observed,
        };
        writer.write_namespace(children).await?;
        let keys = async {
            let Some(material) = material else { return Ok(()) };
            // Authorities first: a leaf of an authority that lost a race would be of no use.
            writer.create_secrets(&material.create).await?;
            writer.apply_secrets(&material.renew).await
        };
        let (keys, rest) = tokio::join!(keys, writer.write_children(children));
        keys.and(rest)
    }

    async fn delete(&self, object: &ControlPlane, now: Timestamp) -> Result<Outcome, Error> {
        let finalizer = labels::finalizer(CONTROLLER);
        if !skep_runtime::apply::has_finalizer(object, &finalizer) {
            return Ok(Outcome::skipped(
                "it is being deleted and nothing of ours is left",
            ));
        }
        let name = object.metadata.name.as_deref().unwrap_or_default();
        // A name that is no cpid was refused before anything was made of it.
        if let Ok(cpid) = name.parse::<Cpid>() {
            let remains = deletion::delete(&self.client, &self.applier, &cpid)
                .await
                .map_err(Error::Delete)?;
            if !remains.objects.is_empty() {
                let message = remains.message();
                self.write_status(object, &status::build_deleting(object, &message, now))
                    .await?;
                return Ok(Outcome::waiting(message, DELETION_RETRY));
            }
            self.ledger.forget(&cpid);
            self.memory.forget(&cpid);
            self.insides.forget(&cpid);
            self.knocks.forget(&cpid);
            self.cold_starts
                .step(&request_of(object, &cpid), Need::Nothing, now);
        }
        self.applier
            .remove_finalizer(object, &finalizer)
            .await
            .map_err(Error::Own)?;
        Ok(Outcome::Converged)
    }

    /// Writes our part of the status, if it says anything new.
    async fn write_status(&self, object: &ControlPlane, status: &ControlPlaneStatus) -> Result<(), Error> {
        self.applier
            .apply_status_part(object, status)
            .await
            .map(drop)
            .map_err(Error::Own)
    }

    /// Puts the finalizer on; tells when the object is on its way out by now. A cell's other controllers do the
    /// same at the same moment, so that a conflict is usual: it is settled with a live read rather than by a
    /// backoff that delays the creation.
    async fn hold(&self, object: &ControlPlane) -> Result<Held, Error> {
        let finalizer = labels::finalizer(CONTROLLER);
        match self.applier.add_finalizer(object, &finalizer).await {
            Err(error) if error.is_conflict() => {}
            result => return result.map(|()| Held::Yes).map_err(Error::Own),
        }
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let planes: Api<ControlPlane> = Api::all(self.client.clone());
        let live = planes.get_opt(name).await.map_err(Error::Live)?;
        let Some(live) = live.filter(|live| live.metadata.deletion_timestamp.is_none()) else {
            return Ok(Held::Ending);
        };
        let held = self.applier.add_finalizer(&live, &finalizer).await;
        held.map(|()| Held::Yes).map_err(Error::Own)
    }
}

/// Whether the finalizer keeps the object until everything of it is gone.
enum Held {
    Yes,
    Ending,
}

fn request_of(object: &ControlPlane, cpid: &Cpid) -> Request {
    let created = object
        .meta()
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Request {
        cpid: cpid.clone(),
        created,
    }
}

/// A control plane that has served depends on its keys; one that has not may get them.
fn life_of(object: &ControlPlane) -> Life {
    let version = object.status.as_ref().and_then(|status| status.version.as_ref());
    if version.is_some() { Life::Lived } else { Life::New }
}

/// What has to go before anything can be made: a namespace of a predecessor, or somebody else's.
fn obstacle_of(tenant: &Tenant, observed: &Observed) -> Option<String> {
    let namespace = observed.namespace.as_ref()?;
    let name = tenant.namespace();
    if namespace.metadata.deletion_timestamp.is_some() {
        return Some(format!("waiting for the old namespace {name} to be gone"));
    }
    let owners = namespace.metadata.owner_references.iter().flatten();
    let is_ours = owners.into_iter().any(|owner| owner.uid == tenant.owner.uid);
    (!is_ours).then(|| format!("namespace {name} belongs to something else"))
}

fn outcome_of(status: &ControlPlaneStatus, bootstrapped: &Bootstrap, now: Timestamp) -> Outcome {
    let message = |type_| {
        conditions::find(&status.conditions, type_)
            .map(|found| found.message.clone())
            .unwrap_or_default()
    };
    if let Bootstrap::Failed(why) = bootstrapped {
        return Outcome::waiting(why.clone(), bootstrap_retry(status, now));
    }
    if !conditions::is_true(&status.conditions, reasons::READY) {
        return Outcome::waiting(message(reasons::READY), SAFETY_NET);
    }
    if conditions::is_true(&status.conditions, reasons::PROGRESSING) {
        return Outcome::waiting(message(reasons::PROGRESSING), SAFETY_NET);
    }
    Outcome::Converged
}

/// A quarter of the time that the tenant has refused its bootstrap data for, within a second and the safety net.
fn bootstrap_retry(status: &ControlPlaneStatus, now: Timestamp) -> Duration {
    let since = conditions::find(&status.conditions, reasons::BOOTSTRAPPED);
    let age = since.map_or(0, |found| {
        found.last_transition_time.0.duration_until(now).as_secs()
    });
    let quarter = Duration::from_secs(u64::try_from(age).unwrap_or_default() / 4);
    quarter.clamp(FIRST_BOOTSTRAP_RETRY, SAFETY_NET)
}
