//! What can go wrong in one reconcile of a cell, by step.

use skep_runtime::{ApplyError, Categorised, api_category};

/// A reconcile that failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cell's name is none that agents can have.
    #[error("the cell's name is not valid")]
    Name(#[source] skep_core::names::NameError),
    /// The cell's records could not be read.
    #[error("cannot list the records in {namespace}")]
    Observe {
        /// The cell's namespace.
        namespace: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// The registrations could not be read.
    #[error("cannot list the cell's registrations")]
    Registrations(#[source] kube::Error),
    /// The watches of the fleet ended.
    #[error("the fleet cannot be watched")]
    Fleet,
    /// A cell could not be ordered, closed or given back.
    #[error("cannot {0} cell {1}")]
    Order(&'static str, String, #[source] kube::Error),
    /// The plan broke off.
    #[error("the fleet cannot be planned")]
    Plan(#[source] tokio::task::JoinError),
    /// A write failed.
    #[error("cannot write")]
    Apply(#[from] ApplyError),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Observe { source, .. } | Self::Registrations(source) | Self::Order(_, _, source) => {
                api_category(source)
            }
            Self::Fleet => "watch",
            Self::Plan(_) => "plan",
            Self::Apply(error) => error.category(),
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Name(_))
    }
}
