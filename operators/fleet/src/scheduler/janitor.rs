//! Removes certificate requests at the hub that have lived their ten minutes.
//!
//! Only in the cells' namespaces: copies in a cell are the agent's.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use skep_api::CertificateRequest;
use skep_api::certificate_request::LIFETIME_SECONDS;
use skep_runtime::controller::Settings;
use skep_runtime::{Applier, ApplyError, CancellationToken, ControllerBuilder, Outcome, Reconcile};

const NAME: &str = "scheduler-janitor";

/// Runs until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) {
    let reconciler = Janitor {
        applier: Applier::new(client.clone(), NAME),
    };
    ControllerBuilder::<CertificateRequest>::new(NAME, Api::all(client), watcher::Config::default())
        .run(settings, reconciler, shutdown)
        .await;
}

struct Janitor {
    applier: Applier,
}

impl Reconcile<CertificateRequest> for Janitor {
    type Error = ApplyError;

    async fn reconcile(&self, request: &CertificateRequest) -> Result<Outcome, ApplyError> {
        match remaining(&request.metadata, Timestamp::now()) {
            None => Ok(Outcome::skipped("it is not at the hub")),
            Some(Duration::ZERO) => self
                .applier
                .delete_observed(request)
                .await
                .map(|_| Outcome::Converged),
            Some(left) => Ok(Outcome::waiting("the end of its life", left)),
        }
    }
}

/// How long a request at the hub still lives, at least a second; zero when it is over.
fn remaining(metadata: &ObjectMeta, now: Timestamp) -> Option<Duration> {
    metadata
        .namespace
        .as_deref()
        .filter(|namespace| namespace.starts_with("skep-cell-"))?;
    let born = metadata.creation_timestamp.as_ref()?.0;
    let left = LIFETIME_SECONDS - now.duration_since(born).as_secs();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn of(namespace: &str, age: i64) -> Option<Duration> {
        let now: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        let born = Timestamp::from_second(now.as_second() - age).unwrap();
        let metadata = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            creation_timestamp: Some(Time(born)),
            ..ObjectMeta::default()
        };
        remaining(&metadata, now)
    }

    #[test]
    fn requests_at_the_hub_live_ten_minutes() {
        assert_eq!(of("skep-cell-local", 0), Some(Duration::from_mins(10)));
        assert_eq!(of("skep-cell-local", 599), Some(Duration::from_secs(1)));
        assert_eq!(of("skep-cell-local", 600), Some(Duration::ZERO));
        assert_eq!(of("skep-cell-local", 6000), Some(Duration::ZERO));
        assert_eq!(of("cp-cabcdefghi", 6000), None);
    }
}
