//! The requests of an election: campaign, hold, release. Every request is bounded, so that a server that
//! accepts and never answers costs no more than one that refuses.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Decision, LeaderError, LeaderSettings, Observed, Term, evaluate};
use crate::backoff::spread;

/// A request that failed: by an error, or by silence.
type Refusal = Option<kube::Error>;

/// One candidate for one lease.
pub(super) struct Elector {
    api: Api<Lease>,
    settings: LeaderSettings,
    /// The lease as last read or written, with its resource version.
    lease: Lease,
    /// When the request was sent that made or kept this process the holder.
    renewed: Instant,
}

impl Elector {
    pub(super) fn new(client: Client, settings: LeaderSettings) -> Self {
        let api = Api::namespaced(client, &settings.namespace);
        Self {
            api,
            settings,
            lease: Lease::default(),
            renewed: Instant::now(),
        }
    }

    pub(super) fn term(&self) -> Term {
        Term(
            self.lease
                .spec
                .as_ref()
                .and_then(|spec| spec.lease_transitions)
                .unwrap_or(0),
        )
    }

    /// Tries until the lease is held.
    pub(super) async fn campaign(&mut self) {
        let mut observed: Option<Observed> = None;
        loop {
            match self.try_once(&mut observed).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let error = error.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
                    tracing::warn!(lease = self.settings.name, error, "cannot campaign for the lease");
                }
            }
            sleep(spread(self.settings.retry_period(), rand::random())).await;
        }
    }

    async fn try_once(&mut self, observed: &mut Option<Observed>) -> Result<bool, Refusal> {
        let found = self.bounded(self.api.get_opt(&self.settings.name)).await?;
        let now = Instant::now();
        *observed = found
            .as_ref()
            .map(|lease| Observed::update(observed.take(), lease.spec.clone().unwrap_or_default(), now));
        match evaluate(
            observed.as_ref(),
            &self.settings.identity,
            self.settings.duration,
            now,
        ) {
            Decision::Wait(_) => Ok(false),
            Decision::Create => self.write(self.first_lease()).await,
            Decision::Renew => {
                self.write(self.claimed(found.unwrap_or_default(), Claim::Renew))
                    .await
            }
            Decision::Take => {
                self.write(self.claimed(found.unwrap_or_default(), Claim::Take))
                    .await
            }
        }
    }

    /// Renews until that fails for too long; returns why.
    pub(super) async fn hold(&mut self) -> LeaderError {
        loop {
            sleep_until(self.renewed + self.settings.renew_after()).await;
            let deadline = self.renewed + self.settings.stop_after();
            let renewal = tokio::time::timeout_at(deadline, self.renew()).await;
            match renewal {
                Ok(Ok(())) => {}
                Ok(Err(lost)) => return lost,
                Err(_) => {
                    return LeaderError::NotRenewed {
                        lease: self.text(),
                        source: None,
                    };
                }
            }
        }
    }

    /// Tries until one renewal succeeds or the lease turns out to be another's.
    async fn renew(&mut self) -> Result<(), LeaderError> {
        loop {
            match self.write(self.claimed(self.lease.clone(), Claim::Renew)).await {
                Ok(true) => return Ok(()),
                // A conflict: another took it, or an earlier renewal arrived though its answer did not.
                Ok(false) => match self.bounded(self.api.get_opt(&self.settings.name)).await {
                    Ok(Some(lease)) if self.is_mine(&lease) => {
                        self.lease = lease;
                        continue;
                    }
                    Ok(lease) => return Err(self.lost(lease.as_ref())),
                    Err(error) => self.note(error),
                },
                Err(error) => self.note(error),
            }
            sleep(self.settings.retry_period() / 2).await;
        }
    }

    /// Gives the lease up so that another need not wait; failing to costs one lease duration.
    pub(super) async fn release(&mut self) {
        let mut lease = self.lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match self.write(lease).await {
            Ok(true) => tracing::info!(lease = self.settings.name, "lease released"),
            Ok(false) => {}
            Err(error) => self.note(error),
        }
    }

    /// Writes with the resource version that was read; false means that another write came first.
    async fn write(&mut self, lease: Lease) -> Result<bool, Refusal> {
        let params = PostParams {
            field_manager: Some("skep.dev/election".into()),
            ..PostParams::default()
        };
        let sent = Instant::now();
        let result = if lease.metadata.resource_version.is_none() {
            self.bounded(self.api.create(&params, &lease)).await
        } else {
            self.bounded(self.api.replace(&self.settings.name, &params, &lease))
                .await
        };
        match result {
            Ok(written) => {
                self.lease = written;
                self.renewed = sent;
                Ok(true)
            }
            Err(Some(kube::Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn bounded<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
        match timeout(self.settings.duration / 6, request).await {
            Ok(result) => result.map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn first_lease(&self) -> Lease {
        let metadata = ObjectMeta {
            namespace: Some(self.settings.namespace.clone()),
            name: Some(self.settings.name.clone()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            lease_transitions: Some(-1),
            ..LeaseSpec::default()
        };
        self.claimed(
            Lease {
                metadata,
                spec: Some(spec),
            },
            Claim::Take,
        )
    }

    fn claimed(&self, mut lease: Lease, claim: Claim) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if claim == Claim::Take {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
        }
        spec.holder_identity = Some(self.settings.identity.clone());
        spec.lease_duration_seconds =
            Some(i32::try_from(self.settings.duration.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        lease
    }

    fn is_mine(&self, lease: &Lease) -> bool {
        holder(lease) == Some(self.settings.identity.as_str())
    }

    fn lost(&self, lease: Option<&Lease>) -> LeaderError {
        let holder = lease.and_then(holder).unwrap_or("nobody").to_owned();
        LeaderError::Lost {
            lease: self.text(),
            holder,
        }
    }

    fn note(&self, error: Refusal) {
        let error = error.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
        tracing::warn!(lease = self.settings.name, error, "cannot renew the lease");
    }

    fn text(&self) -> String {
        format!("{}/{}", self.settings.namespace, self.settings.name)
    }
}

/// Whether a write continues a term or begins one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Renew,
    Take,
}

fn holder(lease: &Lease) -> Option<&str> {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .filter(|holder| !holder.is_empty())
}
