//! The one way in which a controller runs: bounded concurrency, a time limit for each reconcile, typed
//! outcomes, backoff per object, metrics, a span, and one log line per error.
//!
//! Watches survive everything: an object that cannot be read reaches nobody's code and stops nothing, a
//! watch that fails is started again, a reconcile that panics is an error of its object alone.

mod driver;
mod watch;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

pub use driver::ReconcileError;
use driver::{Driver, ObjectKey};
pub use watch::{cache, changed, changing_cache};

use crate::backoff::Backoff;
use crate::error::Categorised;

/// The longest a reconcile may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a converged object is looked at again although nothing changed, against what watches miss.
pub const RESYNC: Duration = Duration::from_mins(15);
/// The least time between two reconciles of one object.
pub const PAUSE: Duration = Duration::from_millis(100);
/// Reconciles at a time; each holds a few requests to the API server.
pub const CONCURRENCY: u16 = 8;

/// An object that may not be readable as `K`; what watches and caches hold.
pub type Guarded<K> = DeserializeGuard<K>;

/// What a reconcile came to. Waiting is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it shall be.
    Converged,
    /// Something else must happen first; a change triggers sooner than `retry`.
    Waiting {
        /// What is waited for, for people.
        what: String,
        /// When to look again.
        retry: Duration,
    },
    /// There is nothing to do for this object.
    Skipped {
        /// Why, for people.
        why: String,
    },
}

impl Outcome {
    /// Waits for `what` and looks again after `retry`.
    pub fn waiting(what: impl Into<String>, retry: Duration) -> Self {
        Self::Waiting {
            what: what.into(),
            retry,
        }
    }

    /// Does nothing because of `why`.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped { why: why.into() }
    }

    /// The value of the metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Waiting { .. } => "waiting",
            Self::Skipped { .. } => "skipped",
        }
    }
}

/// One controller's reconcile of a `K`: level-based, idempotent, never sleeping.
pub trait Reconcile<K>: Send + Sync + 'static {
    /// The error of a whole reconcile.
    type Error: Categorised + std::error::Error + Send + Sync + 'static;

    /// Brings the world closer to what `object` says. Dropped when it takes longer than the time limit.
    fn reconcile(&self, object: &K) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;
}

/// How a controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Reconciles at a time, over all objects.
    pub concurrency: u16,
    /// The longest a reconcile may take.
    pub timeout: Duration,
    /// How often a converged object is looked at again.
    pub resync: Duration,
    /// The least time between two reconciles of one object: changes in a burst are looked at once.
    pub pause: Duration,
    /// The retries of a failing object.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: CONCURRENCY,
            timeout: TIMEOUT,
            resync: RESYNC,
            pause: PAUSE,
            backoff: Backoff::default(),
        }
    }
}

/// Collects what triggers a reconcile of `K`.
#[must_use = "a controller does nothing until it is run"]
pub struct ControllerBuilder<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    name: &'static str,
    controller: Controller<Guarded<K>>,
    store: Store<Guarded<K>>,
}

impl<K> ControllerBuilder<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::Scope: 'static,
{
    /// Watches `K` as controller `name` (`Api::all(client)` infers the guarded type); managed fields are
    /// not kept in memory.
    pub fn new(name: &'static str, api: Api<Guarded<K>>, config: watcher::Config) -> Self {
        let (trigger, store) = watch::primary(name, api, config);
        let controller = Controller::for_stream(trigger, store.clone());
        Self {
            name,
            controller,
            store,
        }
    }

    /// Also reconciles the owners of each `C` that changes or goes; only metadata is watched.
    pub fn owns<C>(mut self, api: Api<PartialObjectMeta<C>>, config: watcher::Config) -> Self
    where
        C: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let changes = watch::metadata(self.name, api, config);
        let owners = changes.flat_map(|child| futures::stream::iter(watch::owners::<K>(&child.metadata)));
        self.controller = self.controller.reconcile_on(owners);
        self
    }

    /// Also reconciles what `map` makes of each `C` that changes or goes; only metadata is watched.
    pub fn watches<C, Map, Refs>(
        mut self,
        api: Api<PartialObjectMeta<C>>,
        config: watcher::Config,
        map: Map,
    ) -> Self
    where
        C: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        Map: Fn(&PartialObjectMeta<C>) -> Refs + Send + Sync + 'static,
        Refs: IntoIterator<Item = ObjectRef<K>>,
        Refs::IntoIter: Send + 'static,
    {
        let changes = watch::metadata(self.name, api, config);
        let mapped =
            changes.flat_map(move |other| futures::stream::iter(map(&other).into_iter().map(guarded)));
        self.controller = self.controller.reconcile_on(mapped);
        self
    }

    /// Also reconciles the objects of any other stream.
    pub fn triggered_by(mut self, stream: impl Stream<Item = ObjectRef<K>> + Send + 'static) -> Self {
        self.controller = self.controller.reconcile_on(stream.map(guarded));
        self
    }

    /// The cache of all `K`, filled once the controller runs.
    pub fn store(&self) -> Store<Guarded<K>> {
        self.store.clone()
    }

    /// Runs until `shutdown`, and then until the reconciles under way have ended.
    pub async fn run<R: Reconcile<K>>(self, settings: Settings, reconciler: R, shutdown: CancellationToken) {
        let name = self.name;
        let config = Config::default().concurrency(settings.concurrency);
        let driver = Arc::new(Driver::new(name, settings, reconciler));
        tracing::info!(controller = name, "controller starts");
        self.controller
            .with_config(config)
            .graceful_shutdown_on(shutdown.cancelled_owned())
            .run(
                |object: Arc<Guarded<K>>, driver: Arc<Driver<R>>| async move { driver.drive(&object).await },
                |object, error, driver| driver.retry(&ObjectKey::of(object.as_ref()), error),
                driver.clone(),
            )
            .for_each(|result| {
                if let Err(error) = result {
                    note(&driver, &error);
                }
                std::future::ready(())
            })
            .await;
        tracing::info!(controller = name, "controller ended");
    }
}

fn guarded<K: Resource<DynamicType = ()>>(reference: ObjectRef<K>) -> ObjectRef<Guarded<K>> {
    reference.into_kind_unchecked(())
}

/// Notes what the loop itself reports; errors of reconciles were logged by the retry decision.
fn note<R, E>(driver: &Driver<R>, error: &Error<ReconcileError<E>, watcher::Error>)
where
    E: Categorised + std::error::Error + Send + Sync + 'static,
{
    match error {
        Error::ReconcilerFailed(..) => {}
        Error::ObjectNotFound(reference) => {
            driver.forget(&ObjectKey {
                namespace: reference.namespace.clone(),
                name: reference.name.clone(),
            });
        }
        Error::QueueError(_) | Error::RunnerError(_) => {
            tracing::error!(controller = driver.name(), %error, "the controller's queue failed");
        }
    }
}
