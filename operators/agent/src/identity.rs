//! The agent's own identity at the hub: a client certificate of a day, whose key never leaves this process.
//!
//! The pod's own account asks for it and is used for nothing else at the hub. Renewal makes a new key and a
//! new client; the old one serves until the new one is there.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::config::AuthInfo;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use skep_core::{CELL_AGENTS, CellName};
use skep_pki::{CertificatePem, KeyPem, PkiError, RequestPem, describe, new_request};
use skep_runtime::client::{ClientError, ClientUse, build};
use skep_runtime::error::chain;
use skep_runtime::{Backoff, Categorised, api_category};
use tokio::sync::watch;

use crate::NAME;
use crate::metrics::CERTIFICATE_END;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// The validity that is asked for, in seconds: a day, the longest that the hub approves.
const VALIDITY_SECONDS: i32 = 86_400;
/// How long an answer is awaited before a new request is made.
const PATIENCE: Duration = Duration::from_mins(5);
/// The longest sleep until renewal: the clock may jump while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(15),
};

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
pub struct Identity {
    requester: Client,
    hub: Config,
    cell: CellName,
}

/// What a signing request has come to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Pending,
    Issued(Vec<u8>),
}

impl Identity {
    /// Asks at `hub` with the credentials in it, for the certificate of this cell's agent.
    pub fn new(mut hub: Config, cell: CellName) -> Result<Self, IdentityError> {
        // The agent has its own backoff, which people wait for.
        hub.default_retry = false;
        let requester = build(hub.clone(), NAME, ClientUse::OwnCluster).map_err(IdentityError::Client)?;
        Ok(Self { requester, hub, cell })
    }

    /// Asks until there is a certificate.
    pub async fn obtain(&self) -> Certified {
        let mut failures = 0_u32;
        loop {
            match self.try_obtain().await {
                Ok(certified) => return certified,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let delay = BACKOFF.delay(failures, rand::random());
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
        }
    }

    /// Renews for as long as it is polled, and hands each new client to `clients`.
    pub async fn keep(&self, mut renew_at: Timestamp, clients: &watch::Sender<Client>) {
        loop {
            let left = Timestamp::now().duration_until(renew_at);
            let Ok(left) = Duration::try_from(left) else {
                let certified = self.obtain().await;
                renew_at = certified.renew_at;
                clients.send_replace(certified.client);
                continue;
            };
            // Never zero: the next look is past the moment, not at it.
            tokio::time::sleep(left.clamp(Duration::from_millis(100), LONGEST_SLEEP)).await;
        }
    }

    async fn try_obtain(&self) -> Result<Certified, IdentityError> {
        let (key, request) =
            new_request(&self.cell.agent_user(), &[CELL_AGENTS]).map_err(IdentityError::Pki)?;
        let requests: Api<CertificateSigningRequest> = Api::all(self.requester.clone());
        let created = requests
            .create(&PostParams::default(), &build_request(&self.cell, &request))
            .await
            .map_err(|source| IdentityError::Api("create", source))?;
        let name = created.name_any();
        let answer = tokio::time::timeout(PATIENCE, await_answer(&requests, &name)).await;
        if let Err(error) = requests.delete(&name, &DeleteParams::default()).await {
            // Kubernetes removes it after an hour.
            tracing::debug!(name, error = chain(&error), "the signing request stays behind");
        }
        let pem = answer.map_err(|_| IdentityError::Unanswered { name: name.clone() })??;
        self.certify(&key, &name, &pem)
    }

    fn certify(&self, key: &KeyPem, name: &str, pem: &[u8]) -> Result<Certified, IdentityError> {
        let text = String::from_utf8_lossy(pem);
        let certificate = CertificatePem::parse(&text).map_err(IdentityError::Pki)?;
        let description = describe(&certificate).map_err(IdentityError::Pki)?;
        let mut config = self.hub.clone();
        config.auth_info = auth_info(&certificate, key)?;
        let client = build(config, NAME, ClientUse::OwnCluster).map_err(IdentityError::Client)?;
        CERTIFICATE_END.set(description.not_after.as_second());
        let fingerprint = description.fingerprint.as_str();
        tracing::info!(request = name, fingerprint, until = %description.not_after, "certificate for the hub");
        Ok(Certified {
            client,
            renew_at: description.renewal_time(),
        })
    }
}

impl Certified {
    /// When two thirds of the certificate's life are over.
    pub fn renew_at(&self) -> Timestamp {
        self.renew_at
    }
}

fn build_request(cell: &CellName, request: &RequestPem) -> CertificateSigningRequest {
    CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(format!("skep-agent-{cell}-")),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            signer_name: SIGNER.to_owned(),
            request: ByteString(request.as_str().as_bytes().to_vec()),
            usages: Some(vec!["digital signature".to_owned(), "client auth".to_owned()]),
            expiration_seconds: Some(VALIDITY_SECONDS),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
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

/// Awaits the verdict and the certificate by watch; reads again whenever a watch ends.
async fn await_answer(
    requests: &Api<CertificateSigningRequest>,
    name: &str,
) -> Result<Vec<u8>, IdentityError> {
    loop {
        let failed = |source| IdentityError::Api("read", source);
        let request = requests.get(name).await.map_err(failed)?;
        if let Answer::Issued(pem) = answer(&request)? {
            return Ok(pem);
        }
        let version = request.resource_version().unwrap_or_default();
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let failed = |source| IdentityError::Api("watch", source);
        let mut events = requests.watch(&only, &version).await.map_err(failed)?.boxed();
        while let Some(event) = events.try_next().await.map_err(failed)? {
            match event {
                WatchEvent::Added(request) | WatchEvent::Modified(request) => {
                    if let Answer::Issued(pem) = answer(&request)? {
                        return Ok(pem);
                    }
                }
                WatchEvent::Bookmark(_) => {}
                // Reading it again tells why.
                WatchEvent::Deleted(_) | WatchEvent::Error(_) => break,
            }
        }
    }
}

fn answer(request: &CertificateSigningRequest) -> Result<Answer, IdentityError> {
    let Some(status) = &request.status else {
        return Ok(Answer::Pending);
    };
    let name = request.name_any();
    for told in status.conditions.iter().flatten() {
        let (reason, message) = (told.reason.clone(), told.message.clone().unwrap_or_default());
        match told.type_.as_str() {
            "Denied" => {
                return Err(IdentityError::Denied {
                    name,
                    reason: reason.unwrap_or_default(),
                    message,
                });
            }
            "Failed" => return Err(IdentityError::Failed { name, message }),
            _ => {}
        }
    }
    Ok(match &status.certificate {
        Some(certificate) if !certificate.0.is_empty() => Answer::Issued(certificate.0.clone()),
        _ => Answer::Pending,
    })
}

#[cfg(test)]
mod tests;
