//! The Secrets of a datastore: two authorities and the leaves that they sign.
//!
//! An authority is made once and never replaced here: members read authorities only when they start, so a new
//! one takes the place of another in steps, see [`super::authority`]. Leaves are read at every handshake and
//! renewed at two thirds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use skep_api::etcd_cluster::TRUST_ANNOTATION;
use skep_pki::{CertificateAuthority, Leaf, LeafRequest, PkiError, San};

use super::authority::Authority;
use super::{client_service, owned, peer_service};
use crate::members::Credentials;
use crate::observed::Trust;
use crate::validate::Cluster;

/// The key of the peer Secret that holds the certificate with which members connect to others.
pub const CLIENT_CERT: &str = "client.crt";
/// The key of the peer Secret that holds that certificate's private key.
pub const CLIENT_KEY: &str = "client.key";
/// The name of the operator as a client.
pub const OPERATOR: &str = "operator";

/// The parts of a Secret that hold authorities.
pub const AUTHORITIES: [&str; 2] = ["peer-ca", "client-ca"];

const AUTHORITY: &str = "ca.crt";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// Certificates that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A formed cluster has lost an authority; another would part its members.
    #[error("Secret {secret} is missing and cannot be made anew under a running cluster; restore it")]
    Missing {
        /// The Secret's name.
        secret: String,
    },
    /// An authority's Secret cannot be used.
    #[error("Secret {secret} holds no usable authority")]
    Unusable {
        /// The Secret's name.
        secret: String,
        /// Why.
        #[source]
        source: PkiError,
    },
    /// A certificate could not be signed.
    #[error("cannot make a certificate for Secret {secret}")]
    Issue {
        /// The Secret's name.
        secret: String,
        /// Why.
        #[source]
        source: PkiError,
    },
}

/// What has to be written, and what the operator itself connects with.
#[derive(Debug)]
pub struct Certificates {
    /// Authorities that are new: created, never overwritten.
    pub authorities: Vec<Secret>,
    /// Leaves that are new or renewed.
    pub leaves: Vec<Secret>,
    /// The operator's own client certificate.
    pub credentials: Credentials,
    /// Whom clients have to trust.
    pub trust: Trust,
    /// What members are made with; none until an authority was replaced.
    pub revision: Option<String>,
}

/// The name of one of a cluster's Secrets.
pub fn secret_name(cluster: &str, part: &str) -> String {
    format!("{cluster}-{part}")
}

/// Compares what is there with what shall be; `may_create` is false once the cluster was ever formed.
pub fn build_certificates(
    cluster: &Cluster,
    found: &BTreeMap<String, Secret>,
    may_create: bool,
    now: Timestamp,
) -> Result<Certificates, CertificatesError> {
    let mut authorities = Vec::new();
    let mut authority = |part: &str| -> Result<Authority, CertificatesError> {
        let name = secret_name(&cluster.name, part);
        if let Some(secret) = found.get(&name) {
            return Authority::read(secret)
                .map_err(|source| CertificatesError::Unusable { secret: name, source });
        }
        if !may_create {
            return Err(CertificatesError::Missing { secret: name });
        }
        let common_name = format!("{}.{}", name, cluster.namespace);
        let made =
            CertificateAuthority::create(&common_name, now).map_err(|source| CertificatesError::Issue {
                secret: name.clone(),
                source,
            })?;
        let data = [
            (CERTIFICATE, made.certificate().as_str()),
            (KEY, made.key().expose()),
        ];
        authorities.push(build_secret(cluster, name, &data));
        Ok(Authority::new(made))
    };
    let [peers, clients] = AUTHORITIES;
    let (peers, clients) = (authority(peers)?, authority(clients)?);

    let mut leaves = Vec::new();
    leaves.extend(build_peer(cluster, found, &peers, now)?);
    leaves.extend(build_leaf(cluster, found, &clients, "server", &server_request(cluster), now)?.renewed);
    let mut credentials = None;
    let names = cluster
        .clients
        .iter()
        .map(String::as_str)
        .filter(|name| *name != OPERATOR);
    for name in names.chain([OPERATOR]) {
        let request = LeafRequest::client(name, &[]);
        let built = build_leaf(cluster, found, &clients, &format!("client-{name}"), &request, now)?;
        leaves.extend(built.renewed);
        credentials = Some(Credentials {
            authority: clients.bundle(),
            certificate: built.leaf.certificate.as_str().to_owned(),
            key: built.leaf.key.expose().to_owned(),
        });
    }
    let missing = || CertificatesError::Missing {
        secret: secret_name(&cluster.name, "client-operator"),
    };
    Ok(Certificates {
        authorities,
        leaves,
        credentials: credentials.ok_or_else(missing)?,
        trust: trust_of(cluster, &peers, &clients, now),
        revision: revision_of(&peers, &clients),
    })
}

/// Peers are the operator's own business; what clients have to know is the authority that they see.
fn trust_of(cluster: &Cluster, peers: &Authority, clients: &Authority, now: Timestamp) -> Trust {
    let pending = |authority: &Authority| authority.pending(cluster.authority_rotation, now);
    let revision = clients.revision();
    Trust {
        phase: peers.phase().max(clients.phase()),
        // One that is behind, because a step was cut off in the middle, catches up first.
        pending: [pending(peers), pending(clients)].into_iter().flatten().min(),
        is_known_to_clients: cluster.clients.iter().all(|name| name == OPERATOR)
            || revision.is_none()
            || cluster.client_trust == revision,
        revision,
    }
}

fn revision_of(peers: &Authority, clients: &Authority) -> Option<String> {
    let revisions: Vec<String> = [peers.revision(), clients.revision()]
        .into_iter()
        .flatten()
        .collect();
    (!revisions.is_empty()).then(|| revisions.join("-"))
}

fn server_request(cluster: &Cluster) -> LeafRequest {
    let service = client_service(&cluster.name);
    let namespace = &cluster.namespace;
    let names = [
        service.clone(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("*.{}.{namespace}.svc", peer_service(&cluster.name)),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    LeafRequest::server(&service, names.iter().map(|name| San::parse(name)).collect())
}

/// A leaf, and its Secret where that has to be written.
struct Built {
    leaf: Leaf,
    renewed: Option<Secret>,
}

fn build_leaf(
    cluster: &Cluster,
    found: &BTreeMap<String, Secret>,
    authority: &Authority,
    part: &str,
    request: &LeafRequest,
    now: Timestamp,
) -> Result<Built, CertificatesError> {
    let name = secret_name(&cluster.name, part);
    let secret = found.get(&name);
    let bundle = authority.bundle();
    let is_trusted = secret.is_some_and(|secret| text(secret, AUTHORITY) == Some(&bundle));
    if let Some(leaf) = secret.and_then(|secret| read_leaf(secret, CERTIFICATE, KEY))
        && is_trusted
        && leaf.reissue_reason(authority.signer(), request, now).is_none()
    {
        return Ok(Built { leaf, renewed: None });
    }
    let leaf = issue(authority, request, &name, now)?;
    let data = [
        (AUTHORITY, bundle.as_str()),
        (CERTIFICATE, leaf.certificate.as_str()),
        (KEY, leaf.key.expose()),
    ];
    let mut renewed = build_secret(cluster, name, &data);
    let revision = authority.revision();
    renewed.metadata.annotations = revision.map(|revision| [(TRUST_ANNOTATION.to_owned(), revision)].into());
    Ok(Built {
        leaf,
        renewed: Some(renewed),
    })
}

/// The peers' Secret holds two leaves: one to serve with all host names, one to connect with none.
fn build_peer(
    cluster: &Cluster,
    found: &BTreeMap<String, Secret>,
    authority: &Authority,
    now: Timestamp,
) -> Result<Option<Secret>, CertificatesError> {
    let name = secret_name(&cluster.name, "peer");
    let wildcard = format!("*.{}.{}.svc", peer_service(&cluster.name), cluster.namespace);
    let server = LeafRequest::server(&peer_service(&cluster.name), vec![San::Dns(wildcard)]);
    let client = LeafRequest::client(&peer_service(&cluster.name), &[]);
    let is_fresh = |secret: &Secret, certificate: &str, key: &str, request: &LeafRequest| {
        let leaf = read_leaf(secret, certificate, key);
        leaf.is_some_and(|leaf| leaf.reissue_reason(authority.signer(), request, now).is_none())
    };
    let bundle = authority.bundle();
    let is_good = |secret: &Secret| {
        text(secret, AUTHORITY) == Some(&bundle)
            && is_fresh(secret, CERTIFICATE, KEY, &server)
            && is_fresh(secret, CLIENT_CERT, CLIENT_KEY, &client)
    };
    if found.get(&name).is_some_and(is_good) {
        return Ok(None);
    }
    let server = issue(authority, &server, &name, now)?;
    let client = issue(authority, &client, &name, now)?;
    let data = [
        (AUTHORITY, bundle.as_str()),
        (CERTIFICATE, server.certificate.as_str()),
        (KEY, server.key.expose()),
        (CLIENT_CERT, client.certificate.as_str()),
        (CLIENT_KEY, client.key.expose()),
    ];
    Ok(Some(build_secret(cluster, name, &data)))
}

fn issue(
    authority: &Authority,
    request: &LeafRequest,
    secret: &str,
    now: Timestamp,
) -> Result<Leaf, CertificatesError> {
    authority
        .signer()
        .issue(request, now)
        .map_err(|source| CertificatesError::Issue {
            secret: secret.to_owned(),
            source,
        })
}

fn build_secret(cluster: &Cluster, name: String, data: &[(&str, &str)]) -> Secret {
    let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    Secret {
        metadata: owned(cluster, name),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.iter().map(entry).collect()),
        ..Secret::default()
    }
}

fn read_leaf(secret: &Secret, certificate: &str, key: &str) -> Option<Leaf> {
    Leaf::from_pem(text(secret, certificate)?, text(secret, key)?).ok()
}

pub(super) fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let bytes = secret.data.as_ref()?.get(key)?;
    std::str::from_utf8(&bytes.0).ok()
}
