//! Why a provider did not do what was asked, told by what its caller can do about it.

use std::time::Duration;

/// Something that a provider did not do.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The order can never be met as it is.
    #[error("{field}: {message}")]
    Invalid {
        /// The field of the order.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// There is no room at the provider now: quotas, or no machines of that kind.
    #[error("{resource} is exhausted at the provider: {message}")]
    Exhausted {
        /// What there is none of.
        resource: String,
        /// The provider's words.
        message: String,
    },
    /// The provider asks to wait, or could not be reached; what was asked may have happened.
    #[error("cannot {what} now")]
    Transient {
        /// What was tried.
        what: String,
        /// How long the provider asks to wait.
        after: Option<Duration>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The provider refuses: rights, or a request that it does not take.
    #[error("cannot {what}")]
    Refused {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ProviderError {
    /// Whether the same call may well succeed later without anybody's doing.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Exhausted { .. })
    }
}
