//! Signs users' certificates with the tenant's cluster CA, for requests in the tenant's own namespace.
//!
//! The subject comes from the request's spec and never from the request itself. The CA's key is read for
//! each request and kept nowhere. A request is removed ten minutes after it was made.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use skep_api::certificate_request::LIFETIME_SECONDS;
use skep_api::{CertificateRequest, CertificateRequestSpec, CertificateRequestStatus};
use skep_core::{Cpid, reasons};
use skep_pki::{CertificateAuthority, PkiError, RequestError, Subject};
use skep_runtime::{
    Applier, ApplyError, CancellationToken, Categorised, ConditionStatus, Conditions, ControllerBuilder,
    Outcome, Reconcile, api_category, conditions,
};

use crate::material::text;
use crate::secrets::{CERTIFICATE, CLUSTER_CA, PRIVATE_KEY};
use crate::{SIGNER, TENANT_ADMINS};

/// The prefix of every user that the platform certifies; the tenant's own users never have it by accident.
const USER_PREFIX: &str = "skep:user:";
/// When to look again for a CA that is not there yet.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the signer.
pub(crate) async fn run(client: Client, settings: skep_runtime::Settings, shutdown: CancellationToken) {
    let signer = Signer {
        applier: Applier::new(client.clone(), SIGNER),
        client: client.clone(),
    };
    ControllerBuilder::<CertificateRequest>::new(SIGNER, Api::all(client), watcher::Config::default())
        .run(settings, signer, shutdown)
        .await;
}

/// A request that could be neither signed nor refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The CA could not be read from the API.
    #[error("cannot read the certificate authority")]
    Read(#[source] kube::Error),
    /// The CA is there and of no use.
    #[error("the certificate authority cannot be used")]
    Authority(#[source] PkiError),
    /// The CA could not sign.
    #[error("cannot sign the request")]
    Sign(#[source] RequestError),
    /// The answer could not be written.
    #[error("cannot write the request")]
    Write(#[source] ApplyError),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Read(error) => api_category(error),
            Self::Authority(error) => error.category(),
            Self::Sign(_) => "sign",
            Self::Write(error) => error.category(),
        }
    }
}

/// What shall become of a request now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// It is another's: the hub holds its own copies of the same kind.
    Foreign,
    /// Its time is over.
    Remove,
    /// It has its answer and lives for as long.
    Answered(Duration),
    /// It is to be answered.
    Answer(Cpid),
}

fn decide(request: &CertificateRequest, now: Timestamp) -> Decision {
    let namespace = request.namespace().unwrap_or_default();
    let cpid = match request.spec.cpid.parse::<Cpid>() {
        Ok(cpid) if cpid.namespace() == namespace => cpid,
        _ => return Decision::Foreign,
    };
    let created = request.creation_timestamp().map_or(now, |created| created.0);
    let left = SignedDuration::from_secs(LIFETIME_SECONDS) - created.duration_until(now);
    if left <= SignedDuration::ZERO {
        return Decision::Remove;
    }
    let known = request.status.iter().flat_map(|status| &status.conditions);
    if known
        .into_iter()
        .any(|condition| condition.type_ == reasons::ISSUED)
    {
        return Decision::Answered(left.unsigned_abs());
    }
    Decision::Answer(cpid)
}

/// Why the platform does not certify this subject, whatever the request says.
fn objection_to(spec: &CertificateRequestSpec) -> Option<String> {
    let CertificateRequestSpec {
        cpid: _,
        request: _,
        ttl_seconds,
        username,
        groups,
    } = spec;
    if username.strip_prefix(USER_PREFIX).is_none_or(str::is_empty) {
        return Some(format!("spec.username: must begin with {USER_PREFIX:?}"));
    }
    if groups.iter().any(|group| group.0 != TENANT_ADMINS) {
        return Some(format!("spec.groups: may hold {TENANT_ADMINS:?} alone"));
    }
    if !(600..=86_400).contains(ttl_seconds) {
        return Some("spec.ttlSeconds: must be between 600 and 86400".to_owned());
    }
    None
}

/// Signs, or says why not. The error is the authority's own.
fn answer(
    spec: &CertificateRequestSpec,
    authority: &CertificateAuthority,
    generation: Option<i64>,
    now: Timestamp,
) -> Result<CertificateRequestStatus, RequestError> {
    let refused = |message: String| CertificateRequestStatus {
        conditions: Conditions::new(&[], generation, now)
            .set(reasons::ISSUED, ConditionStatus::False, reasons::REFUSED, message)
            .build(),
        ..CertificateRequestStatus::default()
    };
    if let Some(objection) = objection_to(spec) {
        return Ok(refused(objection));
    }
    let subject = Subject {
        username: spec.username.clone(),
        groups: spec.groups.iter().map(|group| group.0.clone()).collect(),
    };
    let ttl = SignedDuration::from_secs(spec.ttl_seconds);
    match authority.sign_request(&spec.request, &subject, ttl, now) {
        Ok(certificate) => Ok(CertificateRequestStatus {
            certificate: Some(certificate.to_string()),
            certificate_authority: Some(authority.certificate().to_string()),
            conditions: Conditions::new(&[], generation, now)
                .set(
                    reasons::ISSUED,
                    ConditionStatus::True,
                    reasons::AS_DESIRED,
                    "the certificate was signed",
                )
                .build(),
        }),
        Err(error) if error.is_refusal() => {
            let field = error
                .field()
                .map(|field| format!("spec.{field}: "))
                .unwrap_or_default();
            Ok(refused(format!("{field}{error}")))
        }
        Err(error) => Err(error),
    }
}

struct Signer {
    client: Client,
    applier: Applier,
}

impl Reconcile<CertificateRequest> for Signer {
    type Error = Error;

    async fn reconcile(&self, request: &CertificateRequest) -> Result<Outcome, Error> {
        if request.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::skipped("it is being deleted"));
        }
        let now = Timestamp::now();
        match decide(request, now) {
            Decision::Foreign => Ok(Outcome::skipped("it is not in its control plane's namespace")),
            Decision::Remove => {
                self.applier
                    .delete_observed(request)
                    .await
                    .map_err(Error::Write)?;
                Ok(Outcome::Converged)
            }
            Decision::Answered(left) => Ok(Outcome::waiting("its end", left)),
            Decision::Answer(cpid) => self.answer(request, &cpid, now).await,
        }
    }
}

impl Signer {
    async fn answer(
        &self,
        request: &CertificateRequest,
        cpid: &Cpid,
        now: Timestamp,
    ) -> Result<Outcome, Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &cpid.namespace());
        let secret = secrets.get_opt(CLUSTER_CA).await.map_err(Error::Read)?;
        let Some((certificate, key)) = secret
            .as_ref()
            .and_then(|secret| Some((text(secret, CERTIFICATE)?, text(secret, PRIVATE_KEY)?)))
        else {
            return Ok(Outcome::waiting(
                "the control plane's certificate authority",
                RETRY,
            ));
        };
        let authority = CertificateAuthority::from_pem(certificate, key).map_err(Error::Authority)?;
        let status =
            answer(&request.spec, &authority, request.metadata.generation, now).map_err(Error::Sign)?;
        self.applier
            .apply_status(request, &status)
            .await
            .map_err(Error::Write)?;
        let is_issued = conditions::is_true(&status.conditions, reasons::ISSUED);
        let user = &request.spec.username;
        tracing::info!(%cpid, user, is_issued, ttl_seconds = request.spec.ttl_seconds, "certificate request answered");
        let lifetime = u64::try_from(LIFETIME_SECONDS).unwrap_or_default();
        Ok(Outcome::waiting("its end", Duration::from_secs(lifetime)))
    }
}

#[cfg(test)]
mod tests;
