//! One reconcile from trigger to requeue: span, time limit, metrics, and the decision when to look again.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use tracing::Instrument;

use super::{Guarded, Outcome, Reconcile, Settings};
use crate::backoff::{Failures, Pauses, spread};
use crate::error::{Categorised, chain};
use crate::metrics;
use crate::telemetry::{self, TRACEPARENT_ANNOTATION};

/// Why a reconcile did not end with an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError<E>
where
    E: std::error::Error + 'static,
{
    /// The controller's own error.
    #[error("the reconcile failed")]
    Failed(#[source] E),
    /// It took too long and was dropped.
    #[error("the reconcile took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The object is not readable as its kind: its schema is newer or older than this program.
    #[error("the object cannot be read: {0}")]
    Unreadable(String),
    /// The controller's code panicked on this object.
    #[error("the reconcile panicked: {0}")]
    Panicked(String),
}

impl<E: Categorised + std::error::Error> Categorised for ReconcileError<E> {
    fn category(&self) -> &'static str {
        match self {
            Self::Failed(error) => error.category(),
            Self::TimedOut(_) => "timed-out",
            Self::Unreadable(_) => "unreadable",
            Self::Panicked(_) => "panic",
        }
    }

    fn is_terminal(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_terminal(),
            Self::Unreadable(_) => true,
            Self::TimedOut(_) | Self::Panicked(_) => false,
        }
    }
}

/// Which object: the key of its backoff.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ObjectKey {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl ObjectKey {
    pub(super) fn of<K: Resource>(object: &K) -> Self {
        Self {
            namespace: object.namespace(),
            name: object.name_any(),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// A controller's reconciler with what surrounds each call.
pub(super) struct Driver<R> {
    name: &'static str,
    settings: Settings,
    reconciler: R,
    failures: Failures<ObjectKey>,
    pauses: Pauses<ObjectKey>,
}

impl<R> Driver<R> {
    pub(super) fn new(name: &'static str, settings: Settings, reconciler: R) -> Self {
        Self {
            name,
            pauses: Pauses::new(settings.pause),
            settings,
            reconciler,
            failures: Failures::default(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Reconciles one object and says when to look again.
    pub(super) async fn drive<K>(&self, object: &Guarded<K>) -> Result<Action, ReconcileError<R::Error>>
    where
        K: Resource<DynamicType = ()> + Sync,
        R: Reconcile<K>,
    {
        let key = ObjectKey::of(object);
        if let Some(left) = self.pauses.left(&key, Instant::now()) {
            return Ok(Action::requeue(left));
        }
        let span = tracing::info_span!("reconcile", controller = self.name, object = %key);
        if let Some(parent) = object.annotations().get(TRACEPARENT_ANNOTATION) {
            telemetry::set_parent(&span, parent);
        }
        let running = metrics::RECONCILES_RUNNING.with_label_values(&[self.name]);
        running.inc();
        let started = Instant::now();
        let result = self.bounded(object).instrument(span.clone()).await;
        running.dec();
        self.pauses.note(key.clone(), Instant::now());
        let label = result.as_ref().map_or("error", Outcome::label);
        metrics::RECONCILE_DURATION
            .with_label_values(&[self.name, label])
            .observe(started.elapsed().as_secs_f64());
        let outcome = result?;
        self.forget(&key);
        Ok(span.in_scope(|| self.requeue(&outcome, rand::random())))
    }

    /// Decides when to retry a failure, counts it, and logs it: the only place that does.
    pub(super) fn retry<E>(&self, key: &ObjectKey, error: &ReconcileError<E>) -> Action
    where
        E: Categorised + std::error::Error + 'static,
    {
        let category = error.category();
        let failures = self.failures.record(key.clone());
        metrics::RECONCILE_ERRORS
            .with_label_values(&[self.name, category])
            .inc();
        self.note_failing();
        let wait = if error.is_terminal() {
            spread(self.settings.resync, rand::random())
        } else {
            self.settings.backoff.delay(failures, rand::random())
        };
        tracing::warn!(
            controller = self.name,
            object = %key,
            category,
            failures,
            retry_seconds = wait.as_secs_f64(),
            error = chain(error),
            "reconcile failed"
        );
        Action::requeue(wait)
    }

    pub(super) fn forget(&self, key: &ObjectKey) {
        self.failures.forget(key);
        self.note_failing();
    }

    fn note_failing(&self) {
        let failing = i64::try_from(self.failures.len()).unwrap_or(i64::MAX);
        metrics::OBJECTS_FAILING
            .with_label_values(&[self.name])
            .set(failing);
    }

    async fn bounded<K>(&self, object: &Guarded<K>) -> Result<Outcome, ReconcileError<R::Error>>
    where
        K: Resource<DynamicType = ()> + Sync,
        R: Reconcile<K>,
    {
        let object = object
            .0
            .as_ref()
            .map_err(|invalid| ReconcileError::Unreadable(invalid.error.clone()))?;
        let reconcile = AssertUnwindSafe(self.reconciler.reconcile(object)).catch_unwind();
        match tokio::time::timeout(self.settings.timeout, reconcile).await {
            Ok(Ok(result)) => result.map_err(ReconcileError::Failed),
            Ok(Err(panic)) => Err(ReconcileError::Panicked(panic_text(panic.as_ref()))),
            Err(_) => Err(ReconcileError::TimedOut(self.settings.timeout)),
        }
    }

    fn requeue(&self, outcome: &Outcome, chance: f64) -> Action {
        match outcome {
            Outcome::Converged => {
                tracing::debug!("converged");
                Action::requeue(spread(self.settings.resync, chance))
            }
            Outcome::Waiting { what, retry } => {
                tracing::debug!(what, "waiting");
                Action::requeue(spread(*retry, chance))
            }
            Outcome::Skipped { why } => {
                tracing::debug!(why, "skipped");
                Action::requeue(spread(self.settings.resync, chance))
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}
