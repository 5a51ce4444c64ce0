//! Short-lived credentials for a cluster. The private key never comes here: a signing request travels to the cell
//! as a `CertificateRequest`, and its certificate comes back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use kube::runtime::wait::{self, await_condition};
use kube::{Api, ResourceExt};
use sha2::{Digest, Sha256};
use skep_api::certificate_request::BoundedGroup;
use skep_api::{CertificateRequest, CertificateRequestSpec, TenantCluster};
use skep_core::{CellName, TENANT_ADMINS, labels, reasons};
use skep_pki::{CertificatePem, LONGEST_TTL, SHORTEST_TTL, check_request, describe};

use super::clusters::fetch;
use super::post_params;
use crate::auth::{Access, Caller, Resource};
use crate::extract::{ClusterPath, Context, JsonBody};
use crate::fields::Fields;
use crate::idempotency::{Binding, IdempotencyKey, Relation, reused};
use crate::model::{Credentials, NewKubeconfig};
use crate::problem::{FieldError, Kind, Problem, from_hub};
use crate::state::{AppState, ask, hub_code};
use crate::ttl::read_ttl;

const DEFAULT_TTL: SignedDuration = SignedDuration::from_hours(1);
/// Time for the cell to sign.
const PATIENCE: Duration = Duration::from_secs(30);

/// Issues a client certificate for a cluster.
#[utoipa::path(post, path = "/v1/projects/{project}/clusters/{cluster}/kubeconfig", tag = "clusters", operation_id = "kubeconfig",
    params(("project" = String, Path, description = "The project"),
        ("cluster" = String, Path, description = "The cluster"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat")),
    request_body = NewKubeconfig,
    responses((status = 200, description = "Everything that a kubeconfig needs beside the key", body = Credentials),
        (status = 409, description = "The cluster has no endpoint yet", body = Problem,
            content_type = "application/problem+json"),
        (status = 504, description = "The cell did not sign in time", body = Problem,
            content_type = "application/problem+json"),
        crate::openapi::Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    path: ClusterPath,
    key: IdempotencyKey,
    Context(context): Context,
    body: JsonBody,
) -> Result<Json<Credentials>, Problem> {
    let access = Access {
        verb: "create",
        resource: Resource::Kubeconfig,
        project: Some(&path.project),
    };
    caller.require(&state, &access).await?;
    let (csr, ttl) = read(body.fields()?)?;
    let cluster = fetch(&state, &path).await?;
    let endpoint = Endpoint::of(&path, &cluster)?;
    let wish = NewKubeconfig {
        csr: csr.clone(),
        ttl: Some(format!("{}s", ttl.as_secs())),
    };
    let user = caller.certificate_user();
    let binding = key.bind(&wish);
    let name = request_name(&endpoint.cpid, &user, binding.as_ref());
    let mut object = build_request(&name, &endpoint.cpid, csr, ttl, user);
    object
        .annotations_mut()
        .insert(labels::TRACEPARENT.to_owned(), context.traceparent().to_owned());
    if let Some(binding) = &binding {
        binding.mark(&mut object.metadata);
    }
    let requests: Api<CertificateRequest> = Api::namespaced(state.client.clone(), &endpoint.cell.namespace());
    submit(&requests, &object, binding.as_ref()).await?;
    let signed = await_signature(requests, &name, &path).await?;
    endpoint.credentials(&signed).map(Json)
}

fn read(mut fields: Fields) -> Result<(String, SignedDuration), Problem> {
    let ttl = read_ttl(&mut fields, DEFAULT_TTL, SHORTEST_TTL, LONGEST_TTL);
    let csr = fields.required_text("csr").unwrap_or_default();
    if !csr.is_empty()
        && let Err(error) = check_request(&csr)
    {
        fields.error("csr", error.to_string());
    }
    fields.finish("kubeconfig")?;
    Ok((csr, ttl))
}

/// Where a cluster is and who signs for it.
#[derive(Debug, Clone, PartialEq)]
struct Endpoint {
    cell: CellName,
    cpid: String,
    host: String,
    address: String,
}

impl Endpoint {
    /// Reads it from what stands, or 409 with what is waited for.
    fn of(path: &ClusterPath, cluster: &TenantCluster) -> Result<Self, Problem> {
        let refuse = |why: &str| {
            let detail = format!(
                "cluster {} has no endpoint yet: {why}; wait until it is Ready",
                path.cluster
            );
            Err(Kind::Conflict
                .because(detail)
                .with_current(&crate::model::Cluster::from(cluster)))
        };
        if cluster.metadata.deletion_timestamp.is_some() {
            return Err(Kind::Conflict.because(format!("cluster {} is being deleted", path.cluster)));
        }
        let status = cluster.status.clone().unwrap_or_default();
        let waiting = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == reasons::READY);
        let waiting = waiting.map_or("no cell has it yet", |condition| condition.message.as_str());
        let cell = status.cell.and_then(|cell| cell.parse().ok());
        match (cell, status.cpid, status.endpoint, status.address) {
            (Some(cell), Some(cpid), Some(host), Some(address)) => Ok(Self {
                cell,
                cpid,
                host,
                address,
            }),
            _ => refuse(waiting),
        }
    }

    fn credentials(&self, signed: &CertificateRequest) -> Result<Credentials, Problem> {
        let status = signed.status.clone().unwrap_or_default();
        let parts = status.certificate.zip(status.certificate_authority);
        let described = parts.and_then(|(certificate, authority)| {
            let pem = CertificatePem::parse(&certificate).ok()?;
            Some((certificate, authority, describe(&pem).ok()?))
        });
        let Some((certificate, certificate_authority, description)) = described else {
            tracing::error!(
                request = signed.name_any(),
                "a cell called a request issued and gave no certificate"
            );
            return Err(Problem::internal());
        };
        Ok(Credentials {
            certificate,
            certificate_authority,
            server: format!("https://{}", self.address),
            tls_server_name: self.host.clone(),
            expires: description.not_after.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    }
}

/// A request's name: the same for the same key of the same user, so that a retry finds it.
fn request_name(cpid: &str, user: &str, binding: Option<&Binding>) -> String {
    let tail = match binding {
        Some(binding) => {
            let text = format!("{}/{user}", binding.label());
            hex::encode(&Sha256::digest(text.as_bytes())[..8])
        }
        None => hex::encode(rand::random::<[u8; 8]>()),
    };
    format!("{cpid}-{tail}")
}

fn build_request(
    name: &str,
    cpid: &str,
    csr: String,
    ttl: SignedDuration,
    user: String,
) -> CertificateRequest {
    let spec = CertificateRequestSpec {
        cpid: cpid.to_owned(),
        request: csr,
        ttl_seconds: ttl.as_secs(),
        username: user,
        groups: vec![BoundedGroup(TENANT_ADMINS.to_owned())],
    };
    CertificateRequest::new(name, spec)
}

/// Records the request, unless it stands already.
async fn submit(
    requests: &Api<CertificateRequest>,
    object: &CertificateRequest,
    binding: Option<&Binding>,
) -> Result<(), Problem> {
    let Err(error) = ask(requests.create(&post_params(), object)).await else {
        return Ok(());
    };
    if hub_code(&error) != Some(409) {
        return Err(from_hub(&error));
    }
    let standing = ask(requests.get(&object.name_any()))
        .await
        .map_err(|error| from_hub(&error))?;
    match binding.map(|binding| binding.relation(&standing.metadata)) {
        Some(Relation::Same) => Ok(()),
        _ => Err(reused()),
    }
}

async fn await_signature(
    requests: Api<CertificateRequest>,
    name: &str,
    path: &ClusterPath,
) -> Result<CertificateRequest, Problem> {
    let is_over = |object: Option<&CertificateRequest>| object.is_none() || decision(object).is_some();
    let waiting = await_condition(requests, name, is_over);
    let decided = match tokio::time::timeout(PATIENCE, waiting).await {
        Err(_) => {
            let detail = format!(
                "the cell of cluster {} did not sign within 30 s; try again",
                path.cluster
            );
            return Err(Kind::TimedOut.because(detail));
        }
        Ok(Err(wait::Error::ProbeFailed(error))) => {
            tracing::warn!(%error, "the wait for a certificate ended early");
            return Err(Problem::hub_unavailable());
        }
        Ok(Ok(decided)) => decided,
    };
    match decided {
        Some(request) if decision(Some(&request)) == Some(Decision::Issued) => Ok(request),
        Some(request) => {
            let message = issued_condition(&request).map(|condition| condition.message.clone());
            let message = message.unwrap_or_else(|| "was refused by the cell".to_owned());
            Err(Problem::invalid(
                "kubeconfig",
                vec![FieldError::new("csr", message)],
            ))
        }
        None => {
            let detail = format!(
                "cluster {} goes, or its record was not there yet: the hub removed the certificate request; try again",
                path.cluster
            );
            Err(Kind::Conflict.because(detail))
        }
    }
}

/// What the cell made of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Issued,
    Refused,
}

fn decision(object: Option<&CertificateRequest>) -> Option<Decision> {
    let condition = issued_condition(object?)?;
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", _) => Some(Decision::Issued),
        ("False", reasons::REFUSED) => Some(Decision::Refused),
        // False for another reason is a step that the cell tries again.
        _ => None,
    }
}

fn issued_condition(
    object: &CertificateRequest,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    object
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == reasons::ISSUED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skep_api::{TenantClusterSpec, TenantClusterStatus};

    #[test]
    fn the_request_is_judged_field_by_field() {
        let (_, good) = skep_pki::new_request("anyone", &[]).unwrap();
        let (csr, ttl) = read(Fields::of(json!({"csr": good.as_str(), "ttl": "30m"})).unwrap()).unwrap();
        assert_eq!((csr.as_str(), ttl.as_secs()), (good.as_str(), 1800));
        let (_, masters) = skep_pki::new_request("x", &["system:masters"]).unwrap();
        for (body, wrong) in [
            (json!({}), vec!["csr"]),
            (json!({"csr": "nonsense", "ttl": "25h"}), vec!["ttl", "csr"]),
            (json!({"csr": masters.as_str()}), vec!["csr"]),
            (json!({"csr": 1, "key": "mine"}), vec!["csr", "key"]),
        ] {
            let problem = read(Fields::of(body).unwrap()).unwrap_err();
            let named: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(named, wrong);
        }
    }

    #[test]
    fn a_cluster_without_an_endpoint_says_what_it_waits_for() {
        let path = ClusterPath {
            project: "p".parse().unwrap(),
            cluster: "c".parse().unwrap(),
        };
        let mut cluster = TenantCluster::new("c", TenantClusterSpec::default());
        let problem = Endpoint::of(&path, &cluster).unwrap_err();
        assert_eq!(problem.status, 409);
        assert!(
            problem.detail.contains("no cell has it yet"),
            "{}",
            problem.detail
        );
        cluster.status = Some(TenantClusterStatus {
            cell: Some("local".to_owned()),
            cpid: Some("cabcdefghi".to_owned()),
            endpoint: Some("api.x".to_owned()),
            address: Some("198.18.0.2:443".to_owned()),
            ..TenantClusterStatus::default()
        });
        assert_eq!(
            Endpoint::of(&path, &cluster).unwrap().cell.namespace(),
            "skep-cell-local"
        );
    }

    #[test]
    fn a_retry_finds_its_request_and_nobody_elses() {
        let (one, other) = (request_name("c", "a", None), request_name("c", "a", None));
        assert_ne!(one, other);
    }
}
