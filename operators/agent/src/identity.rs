//! The agent's own identity at the hub: a client certificate of a day.
//!
//! Where hub and cell are one cluster, the pod's own account asks for it, and the key never leaves this process
//! ([`account`]). Where the hub is another cluster, a bootstrap token buys the first one, and key and certificate
//! are kept in the cell ([`registered`]). Renewal makes a new key and a new client; the old one serves until the new
//! one is there.

mod account;
pub mod directory;
mod registered;
mod request;
mod stored;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::json;
use skep_pki::{CertificatePem, KeyPem, PkiError, describe};
use skep_runtime::client::{ClientError, ClientUse, build};
use skep_runtime::error::chain;
use skep_runtime::{Backoff, Categorised, api_category};
use tokio::sync::watch;

use self::account::Account;
use self::directory::{DirectoryError, HubDirectory};
use self::registered::Registered;
use self::request::PATIENCE;
use self::stored::StoreError;
use crate::metrics::CERTIFICATE_END;
use crate::{NAME, Settings};

/// The longest sleep until renewal: the clock may jump while a machine is suspended, and a new token may come.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(15),
};
/// With a token requests cannot be deleted at the hub, and stay there for an hour.
const REGISTERING_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_mins(1),
};

/// How the agent comes to its certificate.
pub enum HubAccess {
    /// With the credentials of this configuration, where hub and cell are one cluster.
    Account(Box<Config>),
    /// With the bootstrap token of this directory, where the hub is another cluster.
    Token(HubDirectory),
}

/// Why the agent has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key or the certificate is of no use.
    #[error("cannot make a key or read the certificate")]
    Pki(#[source] PkiError),
    /// The hub refused a request, or could not be reached.
    #[error("cannot {0} the signing request")]
    Api(&'static str, #[source] kube::Error),
    /// The request was denied.
    #[error("the hub denied the signing request {name}: {reason}: {message}")]
    Denied {
        /// The request's name.
        name: String,
        /// The reason of the verdict.
        reason: String,
        /// The message of the verdict.
        message: String,
    },
    /// The signer could not sign.
    #[error("the hub's signer failed on the signing request {name}: {message}")]
    Failed {
        /// The request's name.
        name: String,
        /// What the signer said.
        message: String,
    },
    /// Nobody approved and signed the request in time.
    #[error("the signing request {name} was not answered within {} s", PATIENCE.as_secs())]
    Unanswered {
        /// The request's name.
        name: String,
    },
    /// The directory of the hub is of no use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The stored identity is of no use, or could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub does not know the bootstrap token.
    #[error(
        "the hub knows no bootstrap token {id}: it has expired, was revoked or is used up, or is another hub's; put a new one into {file}"
    )]
    UnknownToken {
        /// The token's public id.
        id: String,
        /// The file of the token.
        file: String,
    },
    /// The hub takes nothing from the certificate.
    #[error(
        "the hub takes nothing from the registration {registration} any more: it was revoked or is gone; put a new token into {file}"
    )]
    Refused {
        /// The name of the registration.
        registration: String,
        /// The file of the token.
        file: String,
    },
    /// The certificate has ended, and its key makes another name than its own.
    #[error(
        "the certificate of the registration {registration} has expired: revoke that registration at the hub and put a new token into {file}"
    )]
    Expired {
        /// The name of the registration.
        registration: String,
        /// The file of the token.
        file: String,
    },
    /// The hub's client cannot be built.
    #[error("cannot build the client of the hub")]
    Client(#[source] ClientError),
    /// The certificate cannot be put into a client's configuration.
    #[error("cannot configure the client of the hub")]
    Config(#[source] serde_json::Error),
}

impl Categorised for IdentityError {
    fn category(&self) -> &'static str {
        match self {
            Self::Pki(error) => error.category(),
            Self::Api(_, source) => api_category(source),
            Self::Denied { .. } => "denied",
            Self::Failed { .. } => "signer",
            Self::Unanswered { .. } => "unanswered",
            Self::Directory(_) => "hub-directory",
            Self::Store(error) => error.category(),
            Self::UnknownToken { .. } => "unknown-token",
            Self::Refused { .. } => "refused",
            Self::Expired { .. } => "expired",
            Self::Client(_) | Self::Config(_) => "config",
        }
    }
}

/// A client with the agent's certificate, and when it must be renewed.
pub struct Certified {
    /// The client.
    pub client: Client,
    renew_at: Timestamp,
}

/// What makes and renews the certificate.
pub enum Identity {
    /// By the pod's own account.
    Account(Box<Account>),
    /// By a bootstrap token, and then by the certificate itself.
    Registered(Box<Registered>),
}

/// What a certificate is obtained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// There is no client yet.
    Start,
    /// There is one, whose time is over or which is refused.
    Renewal,
}

impl Identity {
    /// Makes nothing yet; `cell` is the client of the cell.
    pub fn new(cell: Client, hub: HubAccess, settings: &Settings) -> Result<Self, IdentityError> {
        Ok(match hub {
            HubAccess::Account(config) => {
                Self::Account(Box::new(Account::new(*config, settings.cell.clone())?))
            }
            HubAccess::Token(directory) => {
                Self::Registered(Box::new(Registered::new(cell, directory, settings)))
            }
        })
    }

    /// Asks until there is a certificate.
    pub async fn obtain(&self) -> Certified {
        self.insist(Occasion::Start).await
    }

    /// Renews for as long as it is polled, and hands each new client to `clients`.
    pub async fn keep(&self, mut renew_at: Timestamp, clients: &watch::Sender<Client>) {
        loop {
            let left = Duration::try_from(Timestamp::now().duration_until(renew_at));
            let left = match left {
                Ok(left) if !self.is_over(clients).await => left,
                _ => {
                    let certified = self.insist(Occasion::Renewal).await;
                    renew_at = certified.renew_at;
                    clients.send_replace(certified.client);
                    continue;
                }
            };
            // Never zero: the next look is past the moment, not at it.
            tokio::time::sleep(left.clamp(Duration::from_millis(100), LONGEST_SLEEP)).await;
        }
    }

    async fn insist(&self, occasion: Occasion) -> Certified {
        let mut failures = 0_u32;
        loop {
            let (tried, backoff) = match self {
                Self::Account(account) => (account.try_obtain().await, BACKOFF),
                Self::Registered(registered) => (registered.try_obtain(occasion).await, REGISTERING_BACKOFF),
            };
            let error = match tried {
                Ok(certified) => return certified,
                Err(error) => error,
            };
            failures = failures.saturating_add(1);
            let delay = backoff.delay(failures, rand::random());
            let (category, retry_seconds) = (error.category(), delay.as_secs_f64());
            let error = chain(&error);
            tracing::warn!(
                category,
                failures,
                retry_seconds,
                error,
                "no certificate for the hub"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// Whether the client of the day is of no use before its time, and something can be done about it.
    async fn is_over(&self, clients: &watch::Sender<Client>) -> bool {
        let Self::Registered(registered) = self else {
            return false;
        };
        let client = clients.borrow().clone();
        registered.is_over(client).await
    }
}

impl Certified {
    /// When two thirds of the certificate's life are over.
    pub fn renew_at(&self) -> Timestamp {
        self.renew_at
    }

    /// The client of a certificate at `hub`, whose own credentials are replaced.
    fn new(mut hub: Config, certificate: &CertificatePem, key: &KeyPem) -> Result<Self, IdentityError> {
        let description = describe(certificate).map_err(IdentityError::Pki)?;
        hub.auth_info = auth_info(certificate, key)?;
        let client = build(hub, NAME, ClientUse::OwnCluster).map_err(IdentityError::Client)?;
        CERTIFICATE_END.set(description.not_after.as_second());
        let fingerprint = description.fingerprint.as_str();
        tracing::info!(fingerprint, until = %description.not_after, "certificate for the hub");
        Ok(Self {
            client,
            renew_at: description.renewal_time(),
        })
    }
}

/// This client certificate and nothing else.
fn auth_info(certificate: &CertificatePem, key: &KeyPem) -> Result<AuthInfo, IdentityError> {
    serde_json::from_value(json!({
        "client-certificate-data": STANDARD.encode(certificate.as_bytes()),
        "client-key-data": STANDARD.encode(key.expose()),
    }))
    .map_err(IdentityError::Config)
}

#[cfg(test)]
mod tests;
