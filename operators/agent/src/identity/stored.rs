//! The identity as the cell keeps it, and what is to be done with it: pure but for the Secret's reads and writes.
//!
//! The key is stored before anybody hears of it, so that whatever is lost afterwards, the same key asks again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use skep_core::{CellName, KeyName, Registration, SYSTEM_NAMESPACE, labels};
use skep_pki::{CertificatePem, KeyPem, Leaf, PkiError, describe};
use skep_runtime::{Categorised, api_category};

use crate::{MANAGED_BY, NAME};

/// The name of the Secret.
const SECRET: &str = "skep-agent-identity";
/// Its key of the private key.
const KEY: &str = "tls.key";
/// Its key of the certificate.
const CERTIFICATE: &str = "tls.crt";
/// Annotation: the public id of the bootstrap token that the key was made for or last certified with.
const BOOTSTRAP_ID: &str = "skep.dev/bootstrap-id";

/// The stored identity could not be read or written, or is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cell's API failed.
    #[error("cannot {0} the Secret {SYSTEM_NAMESPACE}/{SECRET}")]
    Api(&'static str, #[source] kube::Error),
    /// What is in it is not what the agent wrote.
    #[error(
        "{key} of the Secret {SYSTEM_NAMESPACE}/{SECRET} cannot be read: revoke its registration at the hub, delete the Secret and put a new token into the Secret {SYSTEM_NAMESPACE}/skep-hub"
    )]
    Unreadable {
        /// The key of the Secret.
        key: &'static str,
        /// Why.
        #[source]
        source: Option<PkiError>,
    },
    /// It is the identity of another cell.
    #[error(
        "the Secret {SYSTEM_NAMESPACE}/{SECRET} is the identity of {user}, and this is the cell {cell}: correct the name of the cell, or delete the Secret and put a new token into the Secret {SYSTEM_NAMESPACE}/skep-hub"
    )]
    OtherCell {
        /// Whose it is.
        user: String,
        /// This cell.
        cell: CellName,
    },
}

impl Categorised for StoreError {
    fn category(&self) -> &'static str {
        match self {
            Self::Api(_, source) => api_category(source),
            Self::Unreadable { .. } | Self::OtherCell { .. } => "stored-identity",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make and store a key, and register it.
    MakeKey,
    /// Register the key that is stored, again or for the first time.
    Register,
    /// The certificate is good.
    Use,
    /// Two thirds of the certificate's life are over.
    Renew,
    /// The certificate is over, and only another token helps.
    AwaitToken,
}

/// The identity that is stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The public id of the bootstrap token that the key was made for or last certified with.
    pub(super) bootstrap_id: String,
    /// The private key.
    pub(super) key: KeyPem,
    /// What the hub knows the agent by: made from the first key, and kept.
    pub(super) registration: Registration,
    certificate: Option<Certificate>,
    /// Of the Secret that it was read from.
    version: Option<String>,
}

/// A certificate and its times.
#[derive(Debug, Clone)]
struct Certificate {
    pem: CertificatePem,
    not_after: Timestamp,
    renew_at: Timestamp,
}

/// Decides, given the id of the token that is there and whether the hub is done with what is stored.
pub(super) fn decide(
    stored: Option<&Stored>,
    bootstrap_id: Option<&str>,
    is_denied: bool,
    now: Timestamp,
) -> Step {
    let Some(stored) = stored else {
        return Step::MakeKey;
    };
    let is_new = bootstrap_id.is_some_and(|id| id != stored.bootstrap_id);
    let end = stored
        .certificate
        .as_ref()
        .map(|certificate| certificate.not_after);
    let is_expired = end.is_some_and(|end| end <= now);
    if is_new && (is_denied || is_expired) {
        return Step::MakeKey;
    }
    match &stored.certificate {
        Some(certificate) if !is_expired && now >= certificate.renew_at => Step::Renew,
        Some(_) if !is_expired => Step::Use,
        // A renewed key is not the one that its name was made from: no token certifies it.
        Some(_) if !stored.is_named_after_its_key() => Step::AwaitToken,
        _ => Step::Register,
    }
}

impl Stored {
    /// A new key, which nobody knows yet, in the place of what was stored.
    pub(super) fn make(cell: &CellName, bootstrap_id: &str, old: Option<&Self>) -> Result<Self, PkiError> {
        let key = KeyPem::generate()?;
        Ok(Self {
            bootstrap_id: bootstrap_id.to_owned(),
            registration: name(cell, &key)?,
            key,
            certificate: None,
            version: old.and_then(|old| old.version.clone()),
        })
    }

    /// With a certificate that was issued for `key`.
    pub(super) fn certified(&self, key: KeyPem, pem: &[u8]) -> Result<Self, PkiError> {
        let certificate = Certificate::parse(&String::from_utf8_lossy(pem), &key)?;
        Ok(Self {
            key,
            certificate: Some(certificate),
            ..self.clone()
        })
    }

    /// The certificate and its key.
    pub(super) fn credentials(&self) -> Result<(&CertificatePem, &KeyPem), StoreError> {
        let certificate = self.certificate.as_ref().ok_or(StoreError::Unreadable {
            key: CERTIFICATE,
            source: None,
        })?;
        Ok((&certificate.pem, &self.key))
    }

    fn is_named_after_its_key(&self) -> bool {
        name(&self.registration.cell, &self.key).is_ok_and(|made| made == self.registration)
    }

    fn read(secret: &Secret, cell: &CellName) -> Result<Self, StoreError> {
        let unreadable = |key| move |source| StoreError::Unreadable { key, source };
        let data = secret.data.clone().unwrap_or_default();
        let key = text(&data, KEY).ok_or_else(|| unreadable(KEY)(None))?;
        let key = KeyPem::parse(&key).map_err(|source| unreadable(KEY)(Some(source)))?;
        let mut registration = name(cell, &key).map_err(|source| unreadable(KEY)(Some(source)))?;
        let mut certificate = None;
        if data.contains_key(CERTIFICATE) {
            let pem = text(&data, CERTIFICATE).ok_or_else(|| unreadable(CERTIFICATE)(None))?;
            let parsed =
                Certificate::parse(&pem, &key).map_err(|source| unreadable(CERTIFICATE)(Some(source)))?;
            registration = parsed.registration(cell)?;
            certificate = Some(parsed);
        }
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        Ok(Self {
            bootstrap_id: annotations.get(BOOTSTRAP_ID).cloned().unwrap_or_default(),
            key,
            registration,
            certificate,
            version: secret.metadata.resource_version.clone(),
        })
    }

    fn secret(&self) -> Secret {
        let mut data = BTreeMap::new();
        let octets = |text: &str| ByteString(text.as_bytes().to_vec());
        data.insert(KEY.to_owned(), octets(self.key.expose()));
        if let Some(certificate) = &self.certificate {
            data.insert(CERTIFICATE.to_owned(), octets(certificate.pem.as_str()));
        }
        let of = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()));
            Some(owned.collect())
        };
        Secret {
            metadata: ObjectMeta {
                resource_version: self.version.clone(),
                labels: of(&[
                    (labels::APP_PART_OF, "skep"),
                    (labels::APP_MANAGED_BY, MANAGED_BY),
                ]),
                annotations: of(&[(BOOTSTRAP_ID, &self.bootstrap_id)]),
                ..reference().metadata
            },
            data: Some(data),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }
}

impl Certificate {
    fn parse(pem: &str, key: &KeyPem) -> Result<Self, PkiError> {
        let leaf = Leaf {
            certificate: CertificatePem::parse(pem)?,
            key: key.clone(),
        };
        if !leaf.is_pair()? {
            return Err(PkiError::KeyMismatch);
        }
        let description = describe(&leaf.certificate)?;
        Ok(Self {
            pem: leaf.certificate,
            not_after: description.not_after,
            renew_at: description.renewal_time(),
        })
    }

    /// Whose it is, which has to be this cell.
    fn registration(&self, cell: &CellName) -> Result<Registration, StoreError> {
        let described = describe(&self.pem).map_err(|source| StoreError::Unreadable {
            key: CERTIFICATE,
            source: Some(source),
        })?;
        let user = described.common_name.unwrap_or_default();
        let own = Registration::of_user(&user).filter(|registration| registration.cell == *cell);
        own.ok_or_else(|| StoreError::OtherCell {
            user,
            cell: cell.clone(),
        })
    }
}

/// The Secret of the identity, in the cell.
pub(super) struct Store {
    secrets: Api<Secret>,
    cell: CellName,
}

impl Store {
    pub(super) fn new(client: Client, cell: CellName) -> Self {
        Self {
            secrets: Api::namespaced(client, SYSTEM_NAMESPACE),
            cell,
        }
    }

    pub(super) async fn read(&self) -> Result<Option<Stored>, StoreError> {
        let found = self.secrets.get_opt(SECRET).await;
        let found = found.map_err(|source| StoreError::Api("read", source))?;
        found.map(|secret| Stored::read(&secret, &self.cell)).transpose()
    }

    /// Writes it in the place of exactly what it was made from; returns it as it is stored.
    pub(super) async fn write(&self, stored: &Stored) -> Result<Stored, StoreError> {
        let params = PostParams {
            field_manager: Some(labels::field_manager(NAME)),
            ..PostParams::default()
        };
        let secret = stored.secret();
        let written = if stored.version.is_some() {
            self.secrets.replace(SECRET, &params, &secret).await
        } else {
            self.secrets.create(&params, &secret).await
        };
        let written = written.map_err(|source| StoreError::Api("write", source))?;
        Ok(Stored {
            version: written.metadata.resource_version,
            ..stored.clone()
        })
    }
}

/// The Secret as events name it.
pub(super) fn reference() -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    }
}

fn name(cell: &CellName, key: &KeyPem) -> Result<Registration, PkiError> {
    Ok(Registration {
        cell: cell.clone(),
        name: KeyName::of(&key.public_key()?).name,
    })
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok()
}

#[cfg(test)]
mod tests;
