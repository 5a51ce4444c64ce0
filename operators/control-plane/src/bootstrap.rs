//! Bootstrap data inside the tenant, written through its own API.
//!
//! Single requests with short timeouts and no retry inside the client: a tenant that does not answer costs
//! one bounded wait and holds nobody else up.

mod objects;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use skep_core::Cpid;
use skep_runtime::client::ClientUse;
use skep_runtime::{Applier, ApplyError, Categorised, error::chain};

use self::objects::build_objects;
use crate::CONTROLLER;
use crate::inside::{Access, ConnectError, explain};
use crate::material::text;
use crate::observe::Observed;
use crate::secrets::{CERTIFICATE, CLUSTER_CA, KUBELET_CLIENT_CA};
use crate::validate::{Program, Tenant};

/// The longest that a tenant may keep a reconcile.
const TIMEOUT: Duration = Duration::from_secs(8);
/// How often bootstrap data that is in place is written again, in case the tenant removed it.
const REFRESH: SignedDuration = SignedDuration::from_mins(10);

/// Bootstrap data that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A certificate is not there.
    #[error("{0} is not there yet")]
    Missing(&'static str),
    /// There is no way to the tenant.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The data could not be built; a bug of this build.
    #[error("cannot build the tenant's bootstrap data")]
    Render(#[source] serde_json::Error),
    /// The tenant's API refused or did not answer.
    #[error("the tenant's API does not take its bootstrap data")]
    Write(#[source] ApplyError),
    /// The tenant's API took too long.
    #[error("the tenant's API did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

impl Categorised for BootstrapError {
    fn category(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Connect(error) => error.category(),
            Self::Render(_) => "config",
            Self::Write(error) => error.category(),
            Self::TimedOut => "timeout",
        }
    }
}

/// What stands of a tenant's bootstrap data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// No apiserver answers, so nothing was tried; what was known stays known.
    NotTried,
    /// It is in place.
    Done,
    /// It could not be written; why.
    Failed(String),
}

/// When each control plane's bootstrap data was last written by this process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Cpid, Timestamp>>);

impl Memory {
    /// Forgets one control plane.
    pub fn forget(&self, cpid: &Cpid) {
        self.lock().remove(cpid);
    }

    fn is_fresh(&self, cpid: &Cpid, now: Timestamp) -> bool {
        self.lock()
            .get(cpid)
            .is_some_and(|written| written.duration_until(now) < REFRESH)
    }

    fn record(&self, cpid: &Cpid, now: Timestamp) {
        self.lock().insert(cpid.clone(), now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Cpid, Timestamp>> {
        // A time is valid whenever the lock is free, so a poisoned lock is still usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings bootstrap data in place once an apiserver answers, and again every ten minutes at most.
pub async fn bootstrap(tenant: &Tenant, observed: &Observed, memory: &Memory, now: Timestamp) -> Bootstrap {
    if observed.available(Program::ApiServer) == 0 {
        return Bootstrap::NotTried;
    }
    if memory.is_fresh(&tenant.cpid, now) {
        return Bootstrap::Done;
    }
    let written = tokio::time::timeout(TIMEOUT, write(tenant, observed)).await;
    match written.unwrap_or(Err(BootstrapError::TimedOut)) {
        Ok(()) => {
            memory.record(&tenant.cpid, now);
            Bootstrap::Done
        }
        Err(error) => {
            let cause = chain(&error);
            tracing::info!(cpid = %tenant.cpid, cause, "cannot write a tenant's bootstrap data");
            Bootstrap::Failed(explain(&error))
        }
    }
}

async fn write(tenant: &Tenant, observed: &Observed) -> Result<(), BootstrapError> {
    let authorities =
        authorities(observed).ok_or(BootstrapError::Missing("the certificate of an authority"))?;
    let objects = build_objects(tenant, &authorities).map_err(BootstrapError::Render)?;
    let client = Access::of(tenant, observed)?.connect(ClientUse::Tenant).await?;
    let applier = Applier::new(client, CONTROLLER);
    let writes = objects
        .iter()
        .map(|wanted| applier.apply_with(&wanted.object, &wanted.kind));
    futures::future::try_join_all(writes)
        .await
        .map(drop)
        .map_err(BootstrapError::Write)
}

/// What a node trusts: the cluster's authority, and the one by which kubelets know their apiserver. kubeadm puts
/// both into the one file that a kubelet reads.
fn authorities(observed: &Observed) -> Option<String> {
    let certificate = |name| text(observed.secrets.get(name)?, CERTIFICATE);
    Some(format!(
        "{}{}",
        certificate(CLUSTER_CA)?,
        certificate(KUBELET_CLIENT_CA)?
    ))
}
