//! One signing request at the hub: made, and awaited.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use skep_core::CellName;
use skep_pki::RequestPem;

use super::IdentityError;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// The validity that is asked for, in seconds: a day, the longest that the hub approves.
const VALIDITY_SECONDS: i32 = 86_400;
/// How long an answer is awaited before a new request is made.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// What a signing request has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Pending,
    Issued(Vec<u8>),
}

pub(super) fn build_request(cell: &CellName, request: &RequestPem) -> CertificateSigningRequest {
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

/// Awaits the certificate for as long as is of use.
pub(super) async fn await_certificate(
    requests: &Api<CertificateSigningRequest>,
    name: &str,
) -> Result<Vec<u8>, IdentityError> {
    let unanswered = |_| IdentityError::Unanswered {
        name: name.to_owned(),
    };
    let answer = tokio::time::timeout(PATIENCE, await_answer(requests, name)).await;
    answer.map_err(unanswered)?
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

pub(super) fn answer(request: &CertificateSigningRequest) -> Result<Answer, IdentityError> {
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
