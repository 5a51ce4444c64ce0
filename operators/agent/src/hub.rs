//! What the agent asks of its hub: pull what changed, report what stands.
//!
//! It says nothing of Kubernetes, watches or connections, so that a gateway may answer by long poll instead.

pub mod kubernetes;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use skep_api::cell::ZoneCapacity;
use skep_api::{CertificateRequest, CertificateRequestStatus, DeploymentRecord, DeploymentRecordStatus};
use skep_runtime::{ApplyError, Categorised, api_category};

/// How far the agent has read; only the hub that made it knows what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Wraps what a hub wants to be told with the next pull.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What was wrapped.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of one object at the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<K> {
    /// It is there, in this form.
    Present(Box<K>),
    /// The object of this name is gone.
    Gone(String),
}

/// What one pull brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Pull {
    /// The cell's records that changed.
    pub records: Vec<Change<DeploymentRecord>>,
    /// The cell's certificate requests that changed.
    pub requests: Vec<Change<CertificateRequest>>,
    /// What to pull from next time.
    pub since: Cursor,
    /// Whether this is everything that there is, so that whatever is not in it is gone.
    pub complete: bool,
}

/// What the agent says of itself and its cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckIn {
    /// When it was said.
    pub last_check_in: Time,
    /// The agent's version.
    pub agent_version: String,
    /// The version of the cell's Kubernetes.
    pub kubernetes_version: String,
    /// The cell's nodes that are ready.
    pub ready_nodes: i32,
    /// The control planes in the cell.
    pub tenants: i32,
    /// What each zone has and what is taken of it.
    pub capacity: Vec<ZoneCapacity>,
}

/// What the agent tells the hub.
#[derive(Debug)]
pub enum Report<'a> {
    /// The state of a record, as it was pulled.
    Record(&'a DeploymentRecord, DeploymentRecordStatus),
    /// The answer to a request, as it was pulled.
    Request(&'a CertificateRequest, CertificateRequestStatus),
    /// That the agent lives.
    CheckIn(CheckIn),
}

/// The hub could not be read or told.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub refused a read, or could not be reached.
    #[error("cannot {verb} at the hub")]
    Read {
        /// `list records`, `watch requests`, …
        verb: &'static str,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// The hub refused a report, or could not be reached.
    #[error("cannot report to the hub")]
    Report(#[source] ApplyError),
    /// The hub refused the check-in, or could not be reached.
    #[error("cannot check in at the hub")]
    CheckIn(#[source] kube::Error),
    /// The cursor is not one that this hub made.
    #[error("the cursor is not this hub's")]
    Cursor,
}

impl Categorised for HubError {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { source, .. } | Self::CheckIn(source) => api_category(source),
            Self::Report(error) => error.category(),
            Self::Cursor => "cursor",
        }
    }
}

/// The hub as one cell's agent sees it.
#[async_trait]
pub trait Hub: Send + Sync + 'static {
    /// Everything when `since` is absent or too old; else awaits a change after `since` and returns what
    /// changed. May be dropped at any time: what it had not returned comes with the next call.
    async fn pull(&self, since: Option<&Cursor>) -> Result<Pull, HubError>;

    /// Tells the hub something; nothing is sent when the object as it was pulled says so already, and an
    /// object that is gone is no error.
    async fn report(&self, report: Report<'_>) -> Result<(), HubError>;
}
