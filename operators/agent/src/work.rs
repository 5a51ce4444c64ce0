//! What runs for as long as the agent does: workers on the queue, the pull, and the watch for orphans.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::{Resource, ResourceExt};
use skep_runtime::backoff::{Failures, spread};
use skep_runtime::error::chain;
use skep_runtime::metrics::{OBJECTS_FAILING, RECONCILE_DURATION, RECONCILE_ERRORS, RECONCILES_RUNNING};
use skep_runtime::{Backoff, Categorised, Outcome, telemetry};
use tracing::Instrument;

use crate::NAME;
use crate::agent::Agent;
use crate::metrics::{HUB_REACHABLE, ORPHANS};
use crate::queue::{Key, Queue};

/// The longest one reconcile may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Reconnects to the hub: at once at first, for people wait for requests; at most this far apart later.
const PULL_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(15),
};
/// How often orphans are counted, beside each complete pull.
const ORPHAN_PERIOD: Duration = Duration::from_secs(30);

/// Works on keys, one at a time, for as long as it is polled.
pub async fn work(agent: &Agent, queue: &Queue, failures: &Failures<Key>) {
    loop {
        let key = queue.next().await;
        let span = tracing::info_span!("reconcile", controller = NAME, object = %key);
        if let Some(parent) = agent.traceparent(&key) {
            telemetry::set_parent(&span, &parent);
        }
        let retry = drive(agent, &key, failures).instrument(span).await;
        queue.done(&key, retry);
    }
}

/// Reconciles one key and says when it must come again at the latest.
async fn drive(agent: &Agent, key: &Key, failures: &Failures<Key>) -> Option<Duration> {
    let running = RECONCILES_RUNNING.with_label_values(&[NAME]);
    running.inc();
    let started = Instant::now();
    let reconcile = AssertUnwindSafe(agent.reconcile(key)).catch_unwind();
    let result = match tokio::time::timeout(TIMEOUT, reconcile).await {
        Ok(Ok(Ok(outcome))) => Ok(outcome),
        Ok(Ok(Err(error))) => Err((error.category(), chain(&error))),
        Ok(Err(_)) => Err(("panic", "the reconcile panicked".to_owned())),
        Err(_) => Err((
            "timed-out",
            format!("the reconcile took longer than {} s", TIMEOUT.as_secs()),
        )),
    };
    running.dec();
    let label = result.as_ref().map_or("error", Outcome::label);
    RECONCILE_DURATION
        .with_label_values(&[NAME, label])
        .observe(started.elapsed().as_secs_f64());
    let retry = match result {
        Ok(outcome) => {
            failures.forget(key);
            tracing::debug!(?outcome, "reconciled");
            match outcome {
                Outcome::Waiting { retry, .. } => Some(spread(retry, rand::random())),
                Outcome::Converged | Outcome::Skipped { .. } => None,
            }
        }
        Err((category, error)) => {
            let count = failures.record(key.clone());
            let retry = Backoff::default().delay(count, rand::random());
            RECONCILE_ERRORS.with_label_values(&[NAME, category]).inc();
            let retry_seconds = retry.as_secs_f64();
            tracing::warn!(
                category,
                failures = count,
                retry_seconds,
                error,
                "reconcile failed"
            );
            Some(retry)
        }
    };
    OBJECTS_FAILING
        .with_label_values(&[NAME])
        .set(i64::try_from(failures.len()).unwrap_or(i64::MAX));
    retry
}

/// Pulls from the hub and queues what it brings, for as long as it is polled; a hub that is down is tried
/// again and goes on from where it was.
pub async fn pull(agent: &Agent, queue: &Queue) {
    let (mut since, mut failures) = (None, 0_u32);
    loop {
        match agent.hub.pull(since.as_ref()).await {
            Ok(pull) => {
                if failures > 0 {
                    tracing::info!("the hub is back");
                }
                failures = 0;
                HUB_REACHABLE.set(1);
                since = Some(pull.since.clone());
                let is_complete = pull.complete;
                queue.extend(agent.mirror.apply(pull));
                if is_complete {
                    // Until now an absence meant nothing: copies whose request is gone were skipped.
                    queue.extend(agent.local.copies());
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                HUB_REACHABLE.set(0);
                if error.category() == "cursor" {
                    since = None;
                }
                let delay = PULL_BACKOFF.delay(failures, rand::random());
                let retry_seconds = delay.as_secs_f64();
                tracing::warn!(
                    failures,
                    retry_seconds,
                    error = chain(&error),
                    "cannot pull from the hub"
                );
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Counts control planes of this cell that no record asks for, and warns of each once. They are never
/// deleted: an absence may be the hub's mistake.
pub async fn watch_orphans(agent: &Agent) {
    let mut warned = BTreeSet::new();
    loop {
        tokio::time::sleep(spread(ORPHAN_PERIOD, rand::random())).await;
        if !agent.mirror.is_complete() {
            continue;
        }
        let mut orphans = BTreeSet::new();
        for plane in agent.local.control_planes() {
            let name = plane.name_any();
            if plane.meta().deletion_timestamp.is_some() || agent.mirror.record(&name).is_some() {
                continue;
            }
            if !warned.contains(&name) {
                tracing::warn!(
                    cpid = name,
                    "a control plane has no record at the hub; it is left alone"
                );
                let note = "no record at the hub asks for this control plane; it is left alone";
                agent
                    .events
                    .warning(plane.as_ref(), "Orphaned", "Pull", note)
                    .await;
            }
            orphans.insert(name);
        }
        ORPHANS.set(i64::try_from(orphans.len()).unwrap_or(i64::MAX));
        warned = orphans;
    }
}
