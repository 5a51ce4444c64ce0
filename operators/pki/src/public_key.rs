//! Which public keys are strong enough, and whether a request's signature proves the key.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::asn1_rs::{Oid, Tag};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::request::RequestError;

/// The weakest RSA key, in bits (NIST SP 800-131A).
const WEAKEST_RSA: usize = 2048;
/// The longest RSA key, in bits: what TLS libraries verify.
const LONGEST_RSA: usize = 8192;

/// A public key that may be certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of this many bits.
    Rsa {
        /// The modulus' length.
        bits: usize,
    },
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    /// Reads the kind, and refuses what is weak or unknown.
    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, RequestError> {
        let algorithm = &info.algorithm.algorithm;
        if *algorithm == OID_SIG_ED25519 {
            return Ok(Self::Ed25519);
        }
        if *algorithm == OID_PKCS1_RSAENCRYPTION {
            return Self::rsa(info);
        }
        if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            return Self::curve(info);
        }
        Err(RequestError::UnsupportedKey {
            algorithm: algorithm.to_id_string(),
        })
    }

    fn rsa(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, RequestError> {
        let Ok(PublicKey::RSA(key)) = info.parsed() else {
            return Err(RequestError::Malformed);
        };
        // The modulus may have a leading zero octet; count its bits instead of its octets.
        let zeros = key.modulus.iter().take_while(|octet| **octet == 0).count();
        let significant = &key.modulus[zeros..];
        let leading = significant
            .first()
            .map_or(0, |octet| octet.leading_zeros() as usize);
        let bits = significant.len() * 8 - leading;
        if (WEAKEST_RSA..=LONGEST_RSA).contains(&bits) {
            Ok(Self::Rsa { bits })
        } else {
            Err(RequestError::WeakKey {
                key: format!("RSA of {bits} bits"),
            })
        }
    }

    fn curve(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, RequestError> {
        let parameters = info.algorithm.parameters.as_ref();
        // `as_oid` alone takes explicit parameters for an identifier.
        let named = parameters.filter(|parameters| parameters.tag() == Tag::Oid);
        let Some(curve) = named.and_then(|parameters| parameters.as_oid().ok()) else {
            return Err(RequestError::WeakKey {
                key: "ECDSA on a curve without a name".into(),
            });
        };
        [
            (OID_EC_P256, Self::P256),
            (OID_NIST_EC_P384, Self::P384),
            (OID_NIST_EC_P521, Self::P521),
        ]
        .into_iter()
        .find_map(|(known, kind)| (curve == known).then_some(kind))
        .ok_or_else(|| RequestError::WeakKey {
            key: format!("ECDSA on curve {}", curve.to_id_string()),
        })
    }
}

/// Verifies that the holder of the key made the request. SHA-1 is refused.
pub(crate) fn verify(request: &X509CertificationRequest<'_>, kind: KeyKind) -> Result<(), RequestError> {
    let stated = &request.signature_algorithm.algorithm;
    let Some(algorithm) = algorithm(kind, stated) else {
        return Err(RequestError::UnsupportedSignature {
            algorithm: stated.to_id_string(),
        });
    };
    let info = &request.certification_request_info;
    UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| RequestError::BadSignature)
}

fn algorithm(kind: KeyKind, stated: &Oid<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let choices: [(Oid<'_>, &'static dyn VerificationAlgorithm); 3] = match kind {
        KeyKind::Rsa { .. } => [
            (OID_PKCS1_SHA256WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA256),
            (OID_PKCS1_SHA384WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA384),
            (OID_PKCS1_SHA512WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA512),
        ],
        KeyKind::P256 => [
            (OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P256_SHA256_ASN1),
            (OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P256_SHA384_ASN1),
            (OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P256_SHA512_ASN1),
        ],
        KeyKind::P384 => [
            (OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P384_SHA256_ASN1),
            (OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P384_SHA384_ASN1),
            (OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P384_SHA512_ASN1),
        ],
        KeyKind::P521 => [
            (OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P521_SHA256_ASN1),
            (OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P521_SHA384_ASN1),
            (OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P521_SHA512_ASN1),
        ],
        KeyKind::Ed25519 => {
            return (*stated == OID_SIG_ED25519).then_some(&signature::ED25519 as &dyn VerificationAlgorithm);
        }
    };
    choices
        .into_iter()
        .find_map(|(known, algorithm)| (*stated == known).then_some(algorithm))
}
