//! Keeps the certificates between xDS server and Envoys: an authority of their own and one leaf each.
//!
//! No certificate of a tenant is ever here. Writes are creations and replacements of the version that was
//! read, so that replicas that write at the same time end with one authority.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use skep_core::labels;
use skep_pki::{CertificateAuthority, Leaf, LeafRequest, PkiError, San};

use crate::CONTROLLER;
use crate::tls::{self, TlsError};

/// The Secret with the authority and its key.
pub const AUTHORITY: &str = "skep-gateway-ca";
/// The Secret with the xDS server's certificate and key.
pub const SERVER: &str = "skep-xds-server";
/// The Secret with the Envoys' certificate and key; they mount it.
pub const CLIENT: &str = "skep-gateway-client";
/// The Service of the xDS server, part of its name.
pub const SERVICE: &str = "skep-xds";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY_CERTIFICATE: &str = "ca.crt";

/// Why the certificates cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A certificate cannot be made.
    #[error("cannot make the certificate of {name}")]
    Make {
        /// The Secret.
        name: &'static str,
        /// Why.
        #[source]
        source: PkiError,
    },
    /// A Secret cannot be read or written.
    #[error("cannot {verb} secret {name}")]
    Api {
        /// `read`, `create` or `replace`.
        verb: &'static str,
        /// The Secret.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What was made cannot be served with.
    #[error("cannot serve with the certificate")]
    Serve(#[source] TlsError),
}

/// The pairs that are there after a pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificates {
    authority: String,
    server: Leaf,
}

impl Certificates {
    /// The server's TLS configuration.
    ///
    /// # Errors
    /// When the parts do not fit together.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, CertificateError> {
        let (certificate, key) = (
            self.server.certificate.as_bytes(),
            self.server.key.expose().as_bytes(),
        );
        tls::server_config(certificate, key, self.authority.as_bytes()).map_err(CertificateError::Serve)
    }
}

/// Reads the three Secrets, and makes those that are missing, unusable or due for renewal.
///
/// # Errors
/// When a Secret cannot be read or written; nothing is then half done that the next call would not mend.
pub async fn ensure(
    client: &Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Certificates, CertificateError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let observed = read(&secrets, AUTHORITY).await?;
    let authority = match observed.as_ref().and_then(|secret| usable_authority(secret, now)) {
        Some(authority) => authority,
        None => renew_authority(&secrets, observed, now).await?,
    };
    let [server, client] = leaves(namespace);
    let server = ensure_leaf(&secrets, SERVER, &server, &authority, now).await?;
    ensure_leaf(&secrets, CLIENT, &client, &authority, now).await?;
    Ok(Certificates {
        authority: authority.certificate().as_str().to_owned(),
        server,
    })
}

/// What server and client shall be.
fn leaves(namespace: &str) -> [LeafRequest; 2] {
    let short = format!("{SERVICE}.{namespace}.svc");
    let names = [short.clone(), format!("{short}.cluster.local")];
    let server = LeafRequest::server(&short, names.map(San::Dns).into());
    [server, LeafRequest::client("skep-gateway", &[])]
}

/// The authority in a Secret, if it can be used for as long as a leaf lasts.
fn usable_authority(secret: &Secret, now: Timestamp) -> Option<CertificateAuthority> {
    let authority = CertificateAuthority::from_pem(&text(secret, CERTIFICATE)?, &text(secret, KEY)?).ok()?;
    let is_due = skep_pki::renewal_due(authority.certificate(), now).unwrap_or(true);
    (!is_due).then_some(authority)
}

async fn renew_authority(
    secrets: &Api<Secret>,
    observed: Option<Secret>,
    now: Timestamp,
) -> Result<CertificateAuthority, CertificateError> {
    let wrong = |source| CertificateError::Make {
        name: AUTHORITY,
        source,
    };
    let authority = CertificateAuthority::create("skep-gateway", now).map_err(wrong)?;
    let (certificate, key) = (authority.certificate().as_str(), authority.key().expose());
    let made = build_secret(secrets, AUTHORITY, &[(CERTIFICATE, certificate), (KEY, key)]);
    write(secrets, AUTHORITY, made, observed).await?;
    Ok(authority)
}

async fn ensure_leaf(
    secrets: &Api<Secret>,
    name: &'static str,
    request: &LeafRequest,
    authority: &CertificateAuthority,
    now: Timestamp,
) -> Result<Leaf, CertificateError> {
    let observed = read(secrets, name).await?;
    let usable = observed
        .as_ref()
        .and_then(|secret| usable_leaf(secret, request, authority, now));
    if let Some(leaf) = usable {
        return Ok(leaf);
    }
    let leaf = authority
        .issue(request, now)
        .map_err(|source| CertificateError::Make { name, source })?;
    let parts = [
        (CERTIFICATE, leaf.certificate.as_str()),
        (KEY, leaf.key.expose()),
        (AUTHORITY_CERTIFICATE, authority.certificate().as_str()),
    ];
    write(secrets, name, build_secret(secrets, name, &parts), observed).await?;
    tracing::info!(secret = name, "issued a certificate");
    Ok(leaf)
}

/// The leaf in a Secret, if it is what the authority would issue now.
fn usable_leaf(
    secret: &Secret,
    request: &LeafRequest,
    authority: &CertificateAuthority,
    now: Timestamp,
) -> Option<Leaf> {
    let leaf = Leaf::from_pem(&text(secret, CERTIFICATE)?, &text(secret, KEY)?).ok()?;
    let is_whole = text(secret, AUTHORITY_CERTIFICATE)? == authority.certificate().as_str();
    (is_whole && leaf.reissue_reason(authority, request, now).is_none()).then_some(leaf)
}

fn build_secret(secrets: &Api<Secret>, name: &str, parts: &[(&str, &str)]) -> Secret {
    let data: BTreeMap<String, ByteString> = parts
        .iter()
        .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())))
        .collect();
    let labels = [
        (labels::APP_NAME, "skep-gateway"),
        (labels::APP_COMPONENT, "gateway"),
        (labels::APP_PART_OF, "skep"),
        (labels::APP_MANAGED_BY, "skep.dev_gateway"),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: secrets.namespace().map(str::to_owned),
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

async fn read(secrets: &Api<Secret>, name: &'static str) -> Result<Option<Secret>, CertificateError> {
    secrets
        .get_opt(name)
        .await
        .map_err(|source| api_error("read", name, source))
}

/// Creates, or replaces exactly what was observed.
async fn write(
    secrets: &Api<Secret>,
    name: &'static str,
    mut made: Secret,
    observed: Option<Secret>,
) -> Result<(), CertificateError> {
    let params = PostParams {
        field_manager: Some(labels::field_manager(CONTROLLER)),
        ..PostParams::default()
    };
    match observed {
        None => secrets
            .create(&params, &made)
            .await
            .map_err(|source| api_error("create", name, source))?,
        Some(before) => {
            made.metadata.resource_version = before.metadata.resource_version;
            let replaced = secrets.replace(name, &params, &made).await;
            replaced.map_err(|source| api_error("replace", name, source))?
        }
    };
    Ok(())
}

fn api_error(verb: &'static str, name: &'static str, source: kube::Error) -> CertificateError {
    CertificateError::Api {
        verb,
        name,
        source: Box::new(source),
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
