//! Leaves: certificates of components and the kubeconfigs around them, renewed at two thirds of their life.
//!
//! Components name their files, which client-go and kube-apiserver read again when they change, so that a
//! renewal restarts nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use skep_pki::{CertificateAuthority, Kubeconfig, Leaf, LeafRequest, PkiError, San, describe};

use super::{MaterialError, build_secret, text};
use crate::build::service::{API_PORT, service_host};
use crate::secrets::{
    API_SERVER, API_SERVER_KUBELET_CLIENT, AUTHORITY, CERTIFICATE, CONTROLLER_MANAGER_KUBECONFIG,
    FRONT_PROXY_CLIENT, KONNECTIVITY_KUBECONFIG, KONNECTIVITY_SERVER, KUBECONFIG, METRICS_SERVER,
    OPERATOR_KUBECONFIG, PRIVATE_KEY, SCHEDULER_KUBECONFIG,
};
use crate::validate::Tenant;

/// The user that kube-apiserver is to kubelets; bootstrap data binds it to `system:kubelet-api-admin`.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// The user that the way back is to its apiserver; a part of the profile lets it have tokens checked.
const KONNECTIVITY_USER: &str = "system:konnectivity-server";

/// The authorities that sign leaves.
pub(super) struct Authorities {
    pub(super) cluster: CertificateAuthority,
    pub(super) front_proxy: CertificateAuthority,
    pub(super) kubelet_client: CertificateAuthority,
    pub(super) konnectivity: CertificateAuthority,
}

/// What a Secret holds beside certificate and key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nothing.
    Pair,
    /// A kubeconfig that names the files beside it, and the authority.
    Files,
    /// The same, for a program that runs beside an apiserver and speaks to that one.
    FilesOfNeighbour,
    /// A kubeconfig that holds everything.
    Embedded,
}

struct Wanted<'a> {
    name: &'static str,
    authority: &'a CertificateAuthority,
    request: LeafRequest,
    form: Form,
}

/// Builds the leaves that are missing, due or wrong, and tells when the first of all leaves ends.
pub(super) fn build_leaves(
    tenant: &Tenant,
    secrets: &BTreeMap<String, Secret>,
    authorities: &Authorities,
    now: Timestamp,
) -> Result<(Vec<Secret>, Option<Timestamp>), MaterialError> {
    let mut renew = Vec::new();
    let mut first_expiry: Option<Timestamp> = None;
    for wanted in wanted_leaves(tenant, authorities) {
        let name = wanted.name;
        let failed = |source| MaterialError::Make { name, source };
        let known = secrets.get(name);
        let kept = known.and_then(read_leaf).filter(|leaf| {
            leaf.reissue_reason(wanted.authority, &wanted.request, now)
                .is_none()
        });
        let (leaf, is_new) = match kept {
            Some(leaf) => (leaf, false),
            None => (
                wanted.authority.issue(&wanted.request, now).map_err(failed)?,
                true,
            ),
        };
        let end = describe(&leaf.certificate).map_err(failed)?.not_after;
        first_expiry = Some(first_expiry.map_or(end, |first| first.min(end)));
        let files = files_of(tenant, &wanted, &leaf).map_err(failed)?;
        let is_same = known.is_some_and(|secret| {
            files
                .iter()
                .all(|(key, value)| text(secret, key) == Some(value.as_str()))
        });
        if is_new || !is_same {
            let data: Vec<(&str, &str)> = files.iter().map(|(key, value)| (*key, value.as_str())).collect();
            renew.push(build_secret(tenant, name, &data));
        }
    }
    Ok((renew, first_expiry))
}

fn wanted_leaves<'a>(tenant: &Tenant, authorities: &'a Authorities) -> [Wanted<'a>; 9] {
    let of_cluster = |name, request, form| Wanted {
        name,
        authority: &authorities.cluster,
        request,
        form,
    };
    let client = |name, groups: &[&str]| LeafRequest::client(name, groups);
    [
        of_cluster(
            API_SERVER,
            LeafRequest::server("kube-apiserver", names(tenant)),
            Form::Pair,
        ),
        Wanted {
            name: API_SERVER_KUBELET_CLIENT,
            authority: &authorities.kubelet_client,
            request: client(KUBELET_CLIENT, &[]),
            form: Form::Pair,
        },
        Wanted {
            name: FRONT_PROXY_CLIENT,
            authority: &authorities.front_proxy,
            request: client("front-proxy-client", &[]),
            form: Form::Pair,
        },
        of_cluster(
            CONTROLLER_MANAGER_KUBECONFIG,
            client("system:kube-controller-manager", &[]),
            Form::Files,
        ),
        of_cluster(
            SCHEDULER_KUBECONFIG,
            client("system:kube-scheduler", &[]),
            Form::Files,
        ),
        Wanted {
            name: KONNECTIVITY_SERVER,
            authority: &authorities.konnectivity,
            request: LeafRequest::server(
                "konnectivity-server",
                vec![San::Dns(tenant.endpoint.konnectivity.clone())],
            ),
            form: Form::Pair,
        },
        of_cluster(
            KONNECTIVITY_KUBECONFIG,
            client(KONNECTIVITY_USER, &[]),
            Form::FilesOfNeighbour,
        ),
        of_cluster(
            METRICS_SERVER,
            LeafRequest::server(
                "metrics-server",
                ["metrics-server.kube-system.svc", "metrics-server.kube-system"]
                    .map(|name| San::Dns(name.to_owned()))
                    .to_vec(),
            ),
            Form::Pair,
        ),
        of_cluster(
            OPERATOR_KUBECONFIG,
            client("skep:operator", &["system:masters"]),
            Form::Embedded,
        ),
    ]
}

/// Every name under which a tenant's apiserver is reached.
fn names(tenant: &Tenant) -> Vec<San> {
    let namespace = tenant.namespace();
    let mut names: Vec<San> = [
        "kube-apiserver".to_owned(),
        format!("kube-apiserver.{namespace}"),
        service_host(tenant),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        "kubernetes.default.svc.cluster.local".to_owned(),
        tenant.endpoint.api.clone(),
        tenant.endpoint.node.clone(),
        "localhost".to_owned(),
    ]
    .map(San::Dns)
    .to_vec();
    names.push(San::Ip(std::net::Ipv4Addr::LOCALHOST.into()));
    names.extend(tenant.network.kubernetes_service().map(San::Ip));
    names
}

fn read_leaf(secret: &Secret) -> Option<Leaf> {
    Leaf::from_pem(text(secret, CERTIFICATE)?, text(secret, PRIVATE_KEY)?).ok()
}

fn files_of(
    tenant: &Tenant,
    wanted: &Wanted<'_>,
    leaf: &Leaf,
) -> Result<Vec<(&'static str, String)>, PkiError> {
    let authority = wanted.authority.certificate().as_str();
    let mut files = vec![
        (CERTIFICATE, leaf.certificate.as_str().to_owned()),
        (PRIVATE_KEY, leaf.key.expose().to_owned()),
    ];
    let server = format!("https://{}:{API_PORT}", service_host(tenant));
    match wanted.form {
        Form::Pair => {}
        Form::Files => {
            files.push((AUTHORITY, authority.to_owned()));
            files.push((KUBECONFIG, build_kubeconfig_of_files(&server)));
        }
        Form::FilesOfNeighbour => {
            let server = format!("https://localhost:{API_PORT}");
            files.push((AUTHORITY, authority.to_owned()));
            files.push((KUBECONFIG, build_kubeconfig_of_files(&server)));
        }
        Form::Embedded => {
            let kubeconfig = Kubeconfig::new(tenant.cpid.as_str(), &server, authority)
                .leaf(leaf)
                .build()?;
            files.push((KUBECONFIG, kubeconfig.expose().to_owned()));
        }
    }
    Ok(files)
}

/// A kubeconfig that names the files beside it; client-go takes relative paths from the kubeconfig's place.
fn build_kubeconfig_of_files(server: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: tenant
  cluster:
    server: {server}
    certificate-authority: {AUTHORITY}
users:
- name: component
  user:
    client-certificate: {CERTIFICATE}
    client-key: {PRIVATE_KEY}
contexts:
- name: component
  context:
    cluster: tenant
    user: component
current-context: component
"
    )
}
