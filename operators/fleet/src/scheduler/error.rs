//! What can go wrong in one reconcile of the scheduler, by step.

use skep_profiles::ResolveError;
use skep_runtime::{ApplyError, Categorised, api_category};

/// A reconcile that failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant or its record could not be read.
    #[error("cannot read {name}")]
    Observe {
        /// Kind, namespace and name.
        name: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// The profile or the class is wrong; no change of the tenant helps.
    #[error("cannot resolve the control plane")]
    Resolve(#[source] ResolveError),
    /// The object lacks what every stored object has.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// A write failed.
    #[error("cannot write")]
    Apply(#[from] ApplyError),
    /// The plan broke off.
    #[error("the fleet cannot be planned")]
    Plan(#[source] tokio::task::JoinError),
    /// The caches of cells, classes and profiles did not fill.
    #[error("the catalog's caches ended before they were filled")]
    Catalog,
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe { source, .. } => api_category(source),
            Self::Resolve(_) => "resolve",
            Self::Incomplete(_) => "incomplete",
            Self::Apply(error) => error.category(),
            Self::Plan(_) => "plan",
            Self::Catalog => "catalog",
        }
    }
}
