//! Why a reconcile failed, by step.

use skep_runtime::{ApplyError, Categorised, api_category};

use crate::build::certificates::CertificatesError;
use crate::execute::ExecuteError;
use crate::observe::ObserveError;

/// A reconcile that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The world could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Certificates could not be made.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// An object could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A step could not be carried out.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The status could not be written.
    #[error("cannot write the status")]
    Status(#[source] kube::Error),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe(error) => api_category(&error.source),
            Self::Certificates(CertificatesError::Missing { .. }) => "authority-missing",
            Self::Certificates(_) | Self::Execute(ExecuteError::Authority { .. }) => "certificates",
            Self::Apply(error) | Self::Execute(ExecuteError::Apply(error)) => error.category(),
            Self::Execute(ExecuteError::Write { source, .. } | ExecuteError::Read { source, .. })
            | Self::Status(source) => api_category(source),
        }
    }
}
