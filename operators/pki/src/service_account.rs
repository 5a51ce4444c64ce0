//! The key pair that signs a control plane's service-account tokens.

use crate::authority::new_pair;
use crate::error::PkiError;
use crate::pem::{KeyPem, PublicKeyPem};

/// An ECDSA P-256 key pair; kube-apiserver and kube-controller-manager sign ES256 with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountKeys {
    /// `sa.key`, in PKCS#8.
    pub private: KeyPem,
    /// `sa.pub`.
    pub public: PublicKeyPem,
}

impl ServiceAccountKeys {
    /// Makes a new pair.
    pub fn generate() -> Result<Self, PkiError> {
        let pair = new_pair()?;
        Ok(Self {
            private: KeyPem::of(&pair),
            public: PublicKeyPem(pair.public_key_pem()),
        })
    }

    /// Reads the private key back and derives the public one.
    pub fn from_private(private: &str) -> Result<Self, PkiError> {
        let private = KeyPem::parse(private)?;
        let public = PublicKeyPem(private.pair()?.public_key_pem());
        Ok(Self { private, public })
    }
}
