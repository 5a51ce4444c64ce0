//! The server's own certificate: made once, shared by all replicas, renewed while they serve.
//!
//! The Secret `skep-provision-tls` holds an authority of its own and the leaf; whoever sees first that it is missing
//! or due writes it, guarded by the resource version, and the others take it over. The authority's certificate is
//! also in the config map `skep-provision-ca`, for those who may not read Secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use skep_core::{SYSTEM_NAMESPACE, labels};
use skep_pki::{CertificateAuthority, Leaf, LeafRequest, PkiError, San};

use crate::routes::{field_manager, post_params};
use crate::state::{ask, hub_code};

/// The Secret that holds authority and leaf.
pub const SECRET: &str = "skep-provision-tls";
/// The config map that holds the authority's certificate, key `ca.crt`.
pub const CONFIG_MAP: &str = "skep-provision-ca";
const AUTHORITY_CERTIFICATE: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const LEAF_CERTIFICATE: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
const COMMON_NAME: &str = "skep-provision";
/// How often a write that met another replica's is decided anew.
const ATTEMPTS: usize = 5;

/// A certificate that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The hub did not take or give it.
    #[error("cannot read or write the server's certificate at the hub")]
    Hub(#[source] Box<kube::Error>),
    /// It could not be made.
    #[error("cannot make the server's certificate")]
    Pki(#[from] PkiError),
    /// It could not be loaded.
    #[error("cannot load the server's certificate")]
    Load(#[source] rustls::Error),
    /// Its PEM could not be read.
    #[error("cannot read the server's certificate")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// Other replicas wrote it again and again.
    #[error("the server's certificate is being changed by others all the time")]
    Contended,
}

impl From<kube::Error> for TlsError {
    fn from(error: kube::Error) -> Self {
        Self::Hub(Box::new(error))
    }
}

/// The certificate that is served now; it may be exchanged at any time.
#[derive(Debug, Default)]
pub struct Serving {
    key: ArcSwapOption<CertifiedKey>,
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.load_full()
    }
}

impl Serving {
    /// Serves another certificate from now on; connections that stand are not touched.
    fn exchange(&self, pair: &Pair, provider: &CryptoProvider) -> Result<(), TlsError> {
        let chain = CertificateDer::pem_slice_iter(pair.leaf.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(TlsError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(pair.leaf.key.expose().as_bytes()).map_err(TlsError::Pem)?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Load)?;
        self.key.store(Some(Arc::new(key)));
        Ok(())
    }
}

/// An authority and the leaf that it issued.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    authority: CertificateAuthority,
    leaf: Leaf,
}

impl Pair {
    /// Reads it from its Secret; nothing when any of it is missing or unreadable.
    fn read(secret: &Secret) -> Option<Self> {
        let entry = |key: &str| std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok();
        let authority =
            CertificateAuthority::from_pem(entry(AUTHORITY_CERTIFICATE)?, entry(AUTHORITY_KEY)?).ok()?;
        let leaf = Leaf::from_pem(entry(LEAF_CERTIFICATE)?, entry(LEAF_KEY)?).ok()?;
        Some(Self { authority, leaf })
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let entries = [
            (AUTHORITY_CERTIFICATE, self.authority.certificate().as_bytes()),
            (AUTHORITY_KEY, self.authority.key().expose().as_bytes()),
            (LEAF_CERTIFICATE, self.leaf.certificate.as_bytes()),
            (LEAF_KEY, self.leaf.key.expose().as_bytes()),
        ];
        entries
            .map(|(key, bytes)| (key.to_owned(), ByteString(bytes.to_vec())))
            .into()
    }
}

/// What is to be done about a Secret that was found.
#[derive(Debug)]
enum Decision {
    /// It is right.
    Keep(Box<Pair>),
    /// It is to be replaced by this.
    Write(Box<Pair>),
}

/// Decides about the certificate: what stands is kept while it is what would be issued.
fn decide(found: Option<&Secret>, request: &LeafRequest, now: Timestamp) -> Result<Decision, PkiError> {
    let found = found
        .and_then(Pair::read)
        .filter(|pair| now < pair.authority.not_after());
    let authority = match found {
        Some(pair) => match pair.leaf.reissue_reason(&pair.authority, request, now) {
            None => return Ok(Decision::Keep(Box::new(pair))),
            Some(reason) => {
                tracing::info!(?reason, "the server's certificate is made anew");
                pair.authority
            }
        },
        None => CertificateAuthority::create("skep-provision-ca", now)?,
    };
    let leaf = authority.issue(request, now)?;
    Ok(Decision::Write(Box::new(Pair { authority, leaf })))
}

/// Keeps the certificate at the hub and in the server in step.
pub struct Keeper {
    client: Client,
    request: LeafRequest,
    provider: Arc<CryptoProvider>,
    serving: Arc<Serving>,
}

impl Keeper {
    /// A keeper of a certificate for these host names and addresses.
    pub fn new(client: Client, names: &[String]) -> Self {
        let sans = names.iter().map(|name| San::parse(name)).collect();
        Self {
            client,
            request: LeafRequest::server(COMMON_NAME, sans),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            serving: Arc::default(),
        }
    }

    /// The TLS settings of a server that serves what this keeper keeps.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Load)?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(self.serving.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Brings hub and server in step: makes, renews or takes over. Safe to call again at any time.
    pub async fn keep(&self, now: Timestamp) -> Result<(), TlsError> {
        let pair = self.settle(now).await?;
        self.serving.exchange(&pair, &self.provider)?;
        self.publish(&pair).await
    }

    async fn settle(&self, now: Timestamp) -> Result<Pair, TlsError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        for _ in 0..ATTEMPTS {
            let found = ask(secrets.get_opt(SECRET)).await?;
            let pair = match decide(found.as_ref(), &self.request, now)? {
                Decision::Keep(pair) => return Ok(*pair),
                Decision::Write(pair) => *pair,
            };
            let written = match found {
                None => ask(secrets.create(&post_params(), &build_secret(None, &pair))).await,
                Some(found) => {
                    let secret = build_secret(found.metadata.resource_version, &pair);
                    ask(secrets.replace(SECRET, &replace_params(), &secret)).await
                }
            };
            match written {
                Ok(_) => return Ok(pair),
                Err(error) if matches!(hub_code(&error), Some(404 | 409)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TlsError::Contended)
    }

    async fn publish(&self, pair: &Pair) -> Result<(), TlsError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let text = pair.authority.certificate().as_str().to_owned();
        let standing = ask(maps.get_opt(CONFIG_MAP)).await?;
        let told = standing.and_then(|map| map.data?.remove(AUTHORITY_CERTIFICATE));
        if told.as_ref() == Some(&text) {
            return Ok(());
        }
        let map = ConfigMap {
            metadata: build_meta(CONFIG_MAP, None),
            data: Some([(AUTHORITY_CERTIFICATE.to_owned(), text)].into()),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(&field_manager()).force();
        ask(maps.patch(CONFIG_MAP, &params, &Patch::Apply(map))).await?;
        Ok(())
    }
}

fn replace_params() -> PostParams {
    post_params()
}

fn build_meta(name: &str, resource_version: Option<String>) -> ObjectMeta {
    let marks = [(labels::APP_PART_OF, "skep"), (labels::APP_NAME, "provision")];
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        resource_version,
        labels: Some(
            marks
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..ObjectMeta::default()
    }
}

fn build_secret(resource_version: Option<String>, pair: &Pair) -> Secret {
    Secret {
        metadata: build_meta(SECRET, resource_version),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(pair.data()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn request(name: &str) -> LeafRequest {
        LeafRequest::server(COMMON_NAME, vec![San::parse(name), San::parse("198.18.0.2")])
    }

    fn written(found: Option<&Secret>, request: &LeafRequest, now: &str) -> Option<Secret> {
        match decide(found, request, at(now)).unwrap() {
            Decision::Keep(_) => None,
            Decision::Write(pair) => Some(build_secret(None, &pair)),
        }
    }

    #[test]
    fn it_is_made_once_and_renewed_at_two_thirds_under_the_same_authority() {
        let request = request("a.example");
        let made = written(None, &request, "2026-01-01T00:00:00Z").unwrap();
        assert!(written(Some(&made), &request, "2026-02-25T00:00:00Z").is_none());
        let renewed = written(Some(&made), &request, "2026-03-05T00:00:00Z").unwrap();
        let authority = |secret: &Secret| secret.data.as_ref().unwrap()[AUTHORITY_CERTIFICATE].clone();
        assert_eq!(authority(&made), authority(&renewed));
        assert_ne!(
            made.data.unwrap()[LEAF_CERTIFICATE],
            renewed.data.unwrap()[LEAF_CERTIFICATE]
        );
    }

    #[test]
    fn other_names_or_a_broken_secret_make_another() {
        let now = "2026-01-01T00:00:00Z";
        let mut made = written(None, &request("a.example"), now).unwrap();
        assert!(written(Some(&made), &request("b.example"), now).is_some());
        made.data.as_mut().unwrap().remove(LEAF_KEY);
        assert!(written(Some(&made), &request("a.example"), now).is_some());
        assert!(written(Some(&Secret::default()), &request("a.example"), now).is_some());
    }

    #[test]
    fn a_pair_can_be_served() {
        let made = written(None, &request("a.example"), "2026-01-01T00:00:00Z").unwrap();
        let serving = Serving::default();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        serving.exchange(&Pair::read(&made).unwrap(), &provider).unwrap();
        assert!(serving.key.load().is_some());
    }
}
