//! Removes certificate requests at the hub that have lived their ten minutes, or whose control plane goes.
//!
//! Only in the cells' namespaces: copies in a cell are the agent's.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use skep_api::certificate_request::LIFETIME_SECONDS;
use skep_api::{CertificateRequest, DeploymentRecord};
use skep_runtime::controller::{Guarded, Settings};
use skep_runtime::{
    Applier, ApplyError, CancellationToken, Categorised, ControllerBuilder, Outcome, Reconcile,
};

const NAME: &str = "scheduler-janitor";
/// How old a request is before a record that is not there is taken for one that is gone: users know a cluster's place,
/// and may ask for certificates, a moment before its record is written.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) {
    let reconciler = Janitor {
        applier: Applier::new(client.clone(), NAME),
        client: client.clone(),
    };
    let config = watcher::Config::default;
    let builder = ControllerBuilder::<CertificateRequest>::new(NAME, Api::all(client.clone()), config());
    let requests = builder.store();
    builder
        .watches::<DeploymentRecord, _, _>(Api::all(client), config(), move |record| {
            requests_of(&requests, record)
        })
        .run(settings, reconciler, shutdown)
        .await;
}

/// The requests of a record that goes; they are named after its cpid.
fn requests_of(
    requests: &Store<Guarded<CertificateRequest>>,
    record: &PartialObjectMeta<DeploymentRecord>,
) -> Vec<ObjectRef<CertificateRequest>> {
    if record.metadata.deletion_timestamp.is_none() {
        return Vec::new();
    }
    let namespace = record.namespace().unwrap_or_default();
    let prefix = format!("{}-", record.name_any());
    let names = requests.state().into_iter().filter_map(|request| {
        let is_of_record = request.namespace().as_deref() == Some(namespace.as_str());
        Some(request.name_any()).filter(|name| is_of_record && name.starts_with(&prefix))
    });
    names
        .map(|name| ObjectRef::new(&name).within(&namespace))
        .collect()
}

/// Why a request could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum JanitorError {
    /// Its record could not be read.
    #[error("cannot read the record of a certificate request")]
    Observe(#[source] kube::Error),
    /// It could not be deleted.
    #[error("cannot delete a certificate request")]
    Delete(#[source] ApplyError),
}

impl Categorised for JanitorError {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe(error) => error.category(),
            Self::Delete(error) => error.category(),
        }
    }
}

struct Janitor {
    applier: Applier,
    client: Client,
}

/// The record that a request was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Absent,
    Standing,
    Going,
}

impl Janitor {
    async fn record_of(&self, request: &CertificateRequest) -> Result<Record, kube::Error> {
        let namespace = request.namespace().unwrap_or_default();
        let records: Api<DeploymentRecord> = Api::namespaced(self.client.clone(), &namespace);
        let record = records.get_metadata_opt(&request.spec.cpid).await?;
        Ok(match record {
            None => Record::Absent,
            Some(record) if record.metadata.deletion_timestamp.is_some() => Record::Going,
            Some(_) => Record::Standing,
        })
    }
}

impl Reconcile<CertificateRequest> for Janitor {
    type Error = JanitorError;

    async fn reconcile(&self, request: &CertificateRequest) -> Result<Outcome, JanitorError> {
        let Some(left) = remaining(&request.metadata, Timestamp::now()) else {
            return Ok(Outcome::skipped("it is not at the hub"));
        };
        let record = self.record_of(request).await.map_err(JanitorError::Observe)?;
        if let Some(pause) = pause(left, record) {
            let what = match record {
                Record::Absent => format!("record {}", request.spec.cpid),
                Record::Standing | Record::Going => "the end of its life".to_owned(),
            };
            return Ok(Outcome::waiting(what, pause));
        }
        self.applier
            .delete_observed(request)
            .await
            .map_err(JanitorError::Delete)?;
        Ok(Outcome::Converged)
    }
}

/// When to look again at a request with so much of its life left; nothing when it is to go.
fn pause(left: Duration, record: Record) -> Option<Duration> {
    let life = Duration::from_secs(u64::try_from(LIFETIME_SECONDS).unwrap_or(0));
    let is_young = life.saturating_sub(left) < GRACE;
    match record {
        Record::Standing => Some(left).filter(|left| !left.is_zero()),
        Record::Absent if is_young => Some(GRACE),
        Record::Absent | Record::Going => None,
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
    fn a_request_that_is_older_than_its_record_waits_for_it() {
        let second = |seconds| Duration::from_mins(10).saturating_sub(Duration::from_secs(seconds));
        assert_eq!(pause(second(0), Record::Absent), Some(GRACE));
        assert_eq!(pause(second(9), Record::Absent), Some(GRACE));
        assert_eq!(pause(second(10), Record::Absent), None);
        assert_eq!(pause(second(0), Record::Going), None);
        assert_eq!(pause(second(30), Record::Standing), Some(second(30)));
        assert_eq!(pause(Duration::ZERO, Record::Standing), None);
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
