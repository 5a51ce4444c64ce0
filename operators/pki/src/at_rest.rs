//! Encryption at rest: kube-apiserver's `EncryptionConfiguration` with secretbox
//! (`XSalsa20` and Poly1305, 32-byte keys).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::error::PkiError;

/// A named key of 32 random bytes, which the caller takes from the operating system.
#[derive(Clone, PartialEq, Eq)]
pub struct AtRestKey {
    name: String,
    bytes: [u8; 32],
}

impl AtRestKey {
    /// Names the bytes; stored objects refer to the name, so it stays with its key.
    pub fn new(name: &str, bytes: [u8; 32]) -> Self {
        Self {
            name: name.to_owned(),
            bytes,
        }
    }
}

impl fmt::Debug for AtRestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtRestKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What kube-apiserver encrypts and with which keys. Its text is a secret: it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionConfiguration {
    api_version: &'static str,
    kind: &'static str,
    resources: Vec<Resources>,
}

impl EncryptionConfiguration {
    /// Encrypts `resources` with the first key and still reads what `older` keys wrote.
    ///
    /// Nothing is read that is not encrypted: a control plane has its first key from birth.
    pub fn secretbox(resources: &[&str], first: &AtRestKey, older: &[AtRestKey]) -> Self {
        let keys = std::iter::once(first).chain(older);
        let keys = keys.map(|key| Key {
            name: key.name.clone(),
            secret: STANDARD.encode(key.bytes),
        });
        Self {
            api_version: "apiserver.config.k8s.io/v1",
            kind: "EncryptionConfiguration",
            resources: vec![Resources {
                resources: resources.iter().map(|&resource| resource.to_owned()).collect(),
                providers: vec![Provider {
                    secretbox: Secretbox { keys: keys.collect() },
                }],
            }],
        }
    }

    /// Writes the YAML, which holds the keys.
    pub fn to_yaml(&self) -> Result<String, PkiError> {
        serde_saphyr::to_string(self).map_err(|error| PkiError::Yaml(Box::new(error)))
    }
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Provider {
    secretbox: Secretbox,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Secretbox {
    keys: Vec<Key>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
struct Key {
    name: String,
    secret: String,
}
