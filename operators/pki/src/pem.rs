//! Texts in PEM, each with a type of its own, so that a key is never taken for a certificate.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::PublicKeyData;
use x509_parser::pem::Pem;

use crate::authority::new_pair;
use crate::error::PkiError;

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const REQUEST: &str = "CERTIFICATE REQUEST";

/// One X.509 certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificatePem(String);

impl CertificatePem {
    /// Reads exactly one certificate.
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        let der = decode(text, CERTIFICATE)?;
        match x509_parser::parse_x509_certificate(&der) {
            Ok(([], _)) => Ok(Self::from_der(&der)),
            _ => Err(PkiError::NotCertificate),
        }
    }

    /// Reads one certificate or more, as a file of authorities holds them.
    pub fn parse_bundle(text: &str) -> Result<Vec<Self>, PkiError> {
        let (mut rest, mut found) = (text, Vec::new());
        while found.is_empty() || !rest.trim().is_empty() {
            let expected = CERTIFICATE;
            match block(rest) {
                Some((label, after, der)) if label == expected => {
                    found.push(Self::parse(&encode(&der, expected))?);
                    rest = after;
                }
                _ => return Err(PkiError::NotPem { expected }),
            }
        }
        Ok(found)
    }

    pub(crate) fn from_der(der: &[u8]) -> Self {
        Self(encode(der, CERTIFICATE))
    }

    /// The certificate's DER.
    pub fn der(&self) -> Result<Vec<u8>, PkiError> {
        decode(&self.0, CERTIFICATE)
    }

    /// The PEM text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The PEM text's bytes, as Secrets hold them.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for CertificatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = crate::fingerprint(self).unwrap_or_default();
        f.debug_tuple("CertificatePem").field(&fingerprint).finish()
    }
}

/// A private key. It has no `Display`, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPem(String);

impl KeyPem {
    /// Reads a private key that this crate can sign with (PKCS#8, SEC 1 or PKCS#1).
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        let key = Self(text.to_owned());
        key.pair()?;
        Ok(key)
    }

    /// Makes a new key.
    pub fn generate() -> Result<Self, PkiError> {
        Ok(Self::of(&new_pair()?))
    }

    /// The public half, as `SubjectPublicKeyInfo` in DER.
    pub fn public_key(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.pair()?.subject_public_key_info())
    }

    pub(crate) fn of(pair: &rcgen::KeyPair) -> Self {
        Self(pair.serialize_pem())
    }

    pub(crate) fn pair(&self) -> Result<rcgen::KeyPair, PkiError> {
        // The library's error text could quote its input.
        rcgen::KeyPair::from_pem(&self.0).map_err(|_| PkiError::NotPem {
            expected: "PRIVATE KEY",
        })
    }

    /// The secret itself, for the Secret or file that it is written to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(redacted)")
    }
}

/// A public key in `SubjectPublicKeyInfo` form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyPem(pub(crate) String);

impl PublicKeyPem {
    /// The PEM text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A certificate signing request that this crate made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPem(pub(crate) String);

impl RequestPem {
    /// The PEM text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Several certificates as one text: what trusts two authorities during a rotation.
pub fn bundle<'a>(certificates: impl IntoIterator<Item = &'a CertificatePem>) -> String {
    certificates.into_iter().map(CertificatePem::as_str).collect()
}

/// Decodes a text that holds exactly one block of this label and nothing after it.
fn decode(text: &str, label: &'static str) -> Result<Vec<u8>, PkiError> {
    match block(text) {
        Some((found, rest, contents)) if found == label && rest.trim().is_empty() => Ok(contents),
        _ => Err(PkiError::NotPem { expected: label }),
    }
}

/// The first block: its label, what follows it, and its content.
pub(crate) fn block(text: &str) -> Option<(String, &str, Vec<u8>)> {
    let (pem, read) = Pem::read(std::io::Cursor::new(text.as_bytes())).ok()?;
    Some((pem.label, text.get(read..)?, pem.contents))
}

fn encode(der: &[u8], label: &str) -> String {
    const LINE: usize = 64;
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}
