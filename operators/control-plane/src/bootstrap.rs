//! Bootstrap data inside the tenant, written through its own API.
//!
//! Single requests with short timeouts and no retry inside the client: a tenant that does not answer costs
//! one bounded wait and holds nobody else up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use skep_core::Cpid;
use skep_runtime::client::{self, ClientUse};
use skep_runtime::{Applier, ApplyError, Categorised, ClientError, error::chain};

use crate::build::service::{API_PORT, service_host};
use crate::material::{KUBELET_CLIENT, text};
use crate::observe::Observed;
use crate::secrets::{KUBECONFIG, OPERATOR_KUBECONFIG};
use crate::validate::{Program, Tenant};
use crate::{CONTROLLER, TENANT_ADMINS};

/// The longest that a tenant may keep a reconcile.
const TIMEOUT: Duration = Duration::from_secs(8);
/// How often bootstrap data that is in place is written again, in case the tenant removed it.
const REFRESH: SignedDuration = SignedDuration::from_mins(10);

/// Bootstrap data that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The Secret or Service that says how to reach the tenant is not there.
    #[error("{0} is not there yet")]
    Missing(&'static str),
    /// The operator's kubeconfig cannot be used.
    #[error("the operator's kubeconfig cannot be used")]
    Kubeconfig(#[source] KubeconfigError),
    /// The address of the Service cannot be used.
    #[error("{0:?} is no address")]
    Address(String),
    /// The client could not be built.
    #[error("cannot build a client of the tenant")]
    Client(#[source] ClientError),
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
            Self::Kubeconfig(_) | Self::Address(_) | Self::Client(_) => "config",
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
        Err(error) => Bootstrap::Failed(chain(&error)),
    }
}

async fn write(tenant: &Tenant, observed: &Observed) -> Result<(), BootstrapError> {
    let applier = Applier::new(connect(tenant, observed).await?, CONTROLLER);
    let objects = build_objects();
    let writes = objects.iter().map(|object| applier.apply(object));
    futures::future::try_join_all(writes)
        .await
        .map(drop)
        .map_err(BootstrapError::Write)
}

/// A client of the tenant as `system:masters`, by the Service's address and the name in the certificate, so
/// that it needs no DNS.
async fn connect(tenant: &Tenant, observed: &Observed) -> Result<Client, BootstrapError> {
    let secret = observed.secrets.get(OPERATOR_KUBECONFIG);
    let kubeconfig = secret
        .and_then(|secret| text(secret, KUBECONFIG))
        .ok_or(BootstrapError::Missing("the operator's kubeconfig"))?;
    let address = observed.service.as_ref().and_then(address_of);
    let address = address.ok_or(BootstrapError::Missing("the address of service kube-apiserver"))?;
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(BootstrapError::Kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(BootstrapError::Kubeconfig)?;
    let url = format!("https://{address}:{API_PORT}");
    config.cluster_url = url.parse().map_err(|_| BootstrapError::Address(url))?;
    config.tls_server_name = Some(service_host(tenant));
    client::build(config, CONTROLLER, ClientUse::Tenant).map_err(BootstrapError::Client)
}

fn address_of(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    Some(address).filter(|address| !address.is_empty() && *address != "None")
}

/// The roles that the platform hands out inside a tenant.
pub fn build_objects() -> Vec<ClusterRoleBinding> {
    vec![
        build_binding("skep:tenant-admins", "cluster-admin", "Group", TENANT_ADMINS),
        build_binding(
            "skep:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            "User",
            KUBELET_CLIENT,
        ),
    ]
}

fn build_binding(name: &str, role: &str, kind: &str, subject: &str) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(
                skep_core::labels::APP_MANAGED_BY.to_owned(),
                crate::build::labels::MANAGED_BY.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: kind.to_owned(),
            name: subject.to_owned(),
            namespace: None,
        }]),
    }
}
