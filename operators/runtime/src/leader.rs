//! Leader election on a `coordination.k8s.io` Lease.
//!
//! The protocol is client-go's: a candidate takes a lease whose record has not changed for the lease's
//! duration **on the candidate's own clock**, so that clocks need not agree; every write carries the
//! observed resource version, so that one candidate wins. The holder renews after a third of the duration
//! and stops acting after two thirds without a renewal, a third before anyone else may begin.

mod decision;
mod elector;

use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use decision::{Decision, Observed, evaluate};
use elector::Elector;

use crate::error::{Categorised, api_category};
use crate::metrics;

/// The time after which others may take a lease that is not renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Which lease is wanted, and by whom.
#[derive(Clone, Debug)]
pub struct LeaderSettings {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name, such as `skep-cell`.
    pub name: String,
    /// Who this is; must differ between any two processes, also between a pod's restarts.
    pub identity: String,
    /// The lease's duration, in whole seconds.
    pub duration: Duration,
}

impl LeaderSettings {
    /// The lease `namespace/name` of 15 s, as a process-wide identity of its own.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: process_identity(),
            duration: LEASE_DURATION,
        }
    }

    /// When the holder renews: a third of the duration.
    pub fn renew_after(&self) -> Duration {
        self.duration / 3
    }

    /// When the holder stops acting: two thirds of the duration.
    pub fn stop_after(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Between two tries, of a candidate or of a failed renewal.
    pub fn retry_period(&self) -> Duration {
        self.duration * 2 / 15
    }
}

/// The number of times that the lease changed hands: it grows with every new leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub i32);

/// Why leadership ended. The process should exit: what it did as leader was cut off.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// Another process holds the lease, or the lease was deleted.
    #[error("lease {lease} was lost to {holder}")]
    Lost {
        /// Namespace and name.
        lease: String,
        /// The new holder, or `nobody`.
        holder: String,
    },
    /// No renewal succeeded within two thirds of the duration.
    #[error("lease {lease} could not be renewed in time")]
    NotRenewed {
        /// Namespace and name.
        lease: String,
        /// The last try's error; nothing when it did not answer in time.
        #[source]
        source: Option<kube::Error>,
    },
}

impl Categorised for LeaderError {
    fn category(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "lease-lost",
            Self::NotRenewed { source, .. } => source.as_ref().map_or("timeout", api_category),
        }
    }
}

/// Waits until this process leads, then runs `act` to its end and releases the lease.
///
/// Returns nothing when `shutdown` came before the lease. After the lease is held, `act` itself must end
/// on `shutdown`; renewals go on until it has, so that its last writes are still a leader's.
///
/// # Errors
/// When the lease is lost while `act` runs; `act` has been dropped by then.
pub async fn run_as_leader<F, Fut>(
    client: Client,
    settings: LeaderSettings,
    shutdown: CancellationToken,
    act: F,
) -> Result<Option<Fut::Output>, LeaderError>
where
    F: FnOnce(Term) -> Fut,
    Fut: Future,
{
    let lease = settings.name.clone();
    let mut elector = Elector::new(client, settings);
    tokio::select! {
        () = elector.campaign() => {}
        () = shutdown.cancelled() => return Ok(None),
    }
    let term = elector.term();
    tracing::info!(lease, term = term.0, "leading");
    let leading = metrics::LEADING.with_label_values(&[&lease]);
    leading.set(1);
    let ending = {
        let acting = act(term);
        tokio::select! {
            biased;
            lost = elector.hold() => Err(lost),
            output = acting => Ok(output),
        }
    };
    leading.set(0);
    match ending {
        Ok(output) => {
            elector.release().await;
            Ok(Some(output))
        }
        Err(lost) => {
            tracing::error!(lease, error = crate::error::chain(&lost), "leadership ended");
            Err(lost)
        }
    }
}

/// The host's (in a pod: the pod's) name and a random suffix: another one for each process.
pub fn process_identity() -> String {
    let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    format!(
        "{}_{:08x}",
        host.as_deref().unwrap_or("skep"),
        rand::random::<u32>()
    )
}
