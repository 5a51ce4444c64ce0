//! Certificate authorities, leaves, signed requests, service-account keys, kubeconfigs and encryption at
//! rest of one control plane.
//!
//! Pure: no input, no output, no clock (`now` is an argument); chance comes from the crypto library alone.
//! Keys are ECDSA P-256. A private key never appears in `Debug`, in an error or in a description.

mod at_rest;
mod authority;
mod certify;
mod der;
mod error;
mod inspect;
mod kubeconfig;
mod leaf;
mod pem;
mod public_key;
mod request;
mod service_account;

pub use at_rest::{AtRestKey, EncryptionConfiguration};
pub use authority::{AUTHORITY_VALIDITY, CertificateAuthority};
pub use certify::BACKDATING;
pub use error::PkiError;
pub use inspect::{Description, describe, fingerprint, public_key_hash, renewal_due, renewal_time};
pub use kubeconfig::{Kubeconfig, KubeconfigText};
pub use leaf::{LEAF_VALIDITY, Leaf, LeafRequest, ReissueReason, San, Usage};
pub use pem::{CertificatePem, KeyPem, PublicKeyPem, RequestPem, bundle};
pub use public_key::KeyKind;
pub use request::{
    LARGEST_REQUEST, LONGEST_TTL, RequestError, RequestSummary, SHORTEST_TTL, ServingRequest, Subject,
    check_request, describe_serving_request, new_request, request_for,
};
pub use service_account::ServiceAccountKeys;
