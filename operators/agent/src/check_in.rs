//! Tells the hub every half minute that the agent lives and what its cell offers.
//!
//! A cell whose own API does not answer does not check in: it could not act on a record either.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use skep_runtime::Backoff;
use skep_runtime::backoff::spread;
use skep_runtime::conditions::to_second;
use skep_runtime::error::chain;

use crate::hub::{CheckIn, Hub, HubError, Report};
use crate::local::Local;
use crate::metrics::{CHECK_INS, tell_capacity};

/// The period of check-ins; a cell counts as silent after two minutes.
const PERIOD: Duration = Duration::from_secs(30);
/// A failed check-in is tried again sooner than the period.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: PERIOD,
};

/// A check-in that did not succeed.
#[derive(Debug, thiserror::Error)]
enum CheckInError {
    /// The cell's own API does not answer.
    #[error("the cell's API does not tell its version")]
    Cell(#[source] kube::Error),
    /// The hub does not take it.
    #[error("the hub does not take the check-in")]
    Hub(#[source] HubError),
}

/// Checks in at once and then periodically, for as long as it is polled.
pub async fn check_in(hub: &dyn Hub, local: &Local, client: &Client, agent_version: &str) {
    let mut failures = 0_u32;
    loop {
        let delay = match send(hub, local, client, agent_version).await {
            Ok(()) => {
                failures = 0;
                CHECK_INS.inc();
                spread(PERIOD, rand::random())
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(failures, error = chain(&error), "cannot check in");
                BACKOFF.delay(failures, rand::random())
            }
        };
        tokio::time::sleep(delay).await;
    }
}

async fn send(
    hub: &dyn Hub,
    local: &Local,
    client: &Client,
    agent_version: &str,
) -> Result<(), CheckInError> {
    let version = client.apiserver_version().await.map_err(CheckInError::Cell)?;
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let capacity = local.capacity();
    tell_capacity(&capacity);
    let check_in = CheckIn {
        last_check_in: Time(to_second(Timestamp::now())),
        agent_version: agent_version.to_owned(),
        kubernetes_version: version.git_version.trim_start_matches('v').to_owned(),
        ready_nodes: count(local.ready_nodes()),
        tenants: count(local.tenants()),
        capacity,
    };
    hub.report(Report::CheckIn(check_in))
        .await
        .map_err(CheckInError::Hub)
}
