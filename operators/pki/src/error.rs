//! Errors of making and reading certificates. They never hold key material.

/// A certificate or key that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The crypto library refused.
    #[error("cannot {action}")]
    Crypto {
        /// What was tried.
        action: &'static str,
        /// The library's error.
        #[source]
        source: rcgen::Error,
    },
    /// The operating system gives no random numbers.
    #[error("no random numbers")]
    Random,
    /// The text is not one PEM block of the expected label.
    #[error("not a PEM block {expected}")]
    NotPem {
        /// The label that is expected.
        expected: &'static str,
    },
    /// The block's content is no X.509 certificate.
    #[error("not an X.509 certificate")]
    NotCertificate,
    /// The certificate and the private key are not a pair.
    #[error("the certificate belongs to another key")]
    KeyMismatch,
    /// The certificate may not sign others.
    #[error("the certificate is not a certificate authority")]
    NotAuthority,
    /// The authority ends before the leaf would begin.
    #[error("the certificate authority has expired")]
    AuthorityExpired,
    /// A name is empty, too long, or has characters that it may not have.
    #[error("{field} {value:?} is not a valid name")]
    InvalidName {
        /// Which name.
        field: &'static str,
        /// The name.
        value: String,
    },
    /// A time is outside of what a certificate can say.
    #[error("time {time} cannot be in a certificate")]
    Time {
        /// The time.
        time: jiff::Timestamp,
    },
    /// A configuration cannot be written as YAML.
    #[error("cannot write YAML")]
    Yaml(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PkiError {
    /// A short static word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Crypto { .. } | Self::Random => "crypto",
            Self::NotPem { .. } | Self::NotCertificate => "unreadable-certificate",
            Self::KeyMismatch => "key-mismatch",
            Self::NotAuthority | Self::AuthorityExpired => "authority",
            Self::InvalidName { .. } => "invalid-name",
            Self::Time { .. } => "time",
            Self::Yaml(_) => "encode",
        }
    }

    pub(crate) fn crypto(action: &'static str) -> impl Fn(rcgen::Error) -> Self {
        move |source| Self::Crypto { action, source }
    }
}
