//! Certificate authorities: made once per control plane, then only rotated.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use crate::certify::{Name, certify, check_name, params};
use crate::error::PkiError;
use crate::inspect;
use crate::leaf::{Leaf, LeafRequest, San, Usage};
use crate::pem::{CertificatePem, KeyPem};

/// How long an authority lasts: ten years of 365 days.
pub const AUTHORITY_VALIDITY: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// An authority: its certificate and the key that signs, which belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateAuthority {
    certificate: CertificatePem,
    key: KeyPem,
    end: Timestamp,
}

impl CertificateAuthority {
    /// Makes a new authority with a new key.
    pub fn create(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        check_name("common name", common_name)?;
        let pair = new_pair()?;
        let mut params = params(now, AUTHORITY_VALIDITY, None)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        // Signs leaves only.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params
            .self_signed(&pair)
            .map_err(PkiError::crypto("sign a certificate authority"))?;
        Self::assemble(CertificatePem::from_der(certificate.der()), KeyPem::of(&pair))
    }

    /// Reads an authority back; refuses a key of another certificate and a certificate that may not sign.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let certificate = CertificatePem::parse(certificate)?;
        let key = KeyPem::parse(key)?;
        if !inspect::is_pair(&certificate, &key)? {
            return Err(PkiError::KeyMismatch);
        }
        if !inspect::describe(&certificate)?.is_authority {
            return Err(PkiError::NotAuthority);
        }
        Self::assemble(certificate, key)
    }

    fn assemble(certificate: CertificatePem, key: KeyPem) -> Result<Self, PkiError> {
        let end = inspect::describe(&certificate)?.not_after;
        Ok(Self {
            certificate,
            key,
            end,
        })
    }

    /// What others trust.
    pub fn certificate(&self) -> &CertificatePem {
        &self.certificate
    }

    /// What signs; it stays in its cell.
    pub fn key(&self) -> &KeyPem {
        &self.key
    }

    /// The end of the authority, and so the latest end of its leaves.
    pub fn not_after(&self) -> Timestamp {
        self.end
    }

    /// Makes a leaf with a new key.
    pub fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<Leaf, PkiError> {
        let pair = new_pair()?;
        let mut params = params(now, request.ttl, Some(self.end))?;
        allow(&mut params, request.usage);
        params.subject_alt_names = request
            .sans
            .iter()
            .map(alternative_name)
            .collect::<Result<_, _>>()?;
        let name = Name {
            common_name: &request.common_name,
            organizations: &request.organizations,
        };
        let certificate = certify(params, &name, &pair, self)?;
        Ok(Leaf {
            certificate,
            key: KeyPem::of(&pair),
        })
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let der = self.certificate.der()?;
        Issuer::from_ca_cert_der(&der.into(), self.key.pair()?)
            .map_err(PkiError::crypto("read a certificate authority"))
    }
}

pub(crate) fn new_pair() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::crypto("make a key"))
}

/// Sets what a leaf may be used for.
pub(crate) fn allow(params: &mut CertificateParams, usage: Usage) {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match usage {
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Peer => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
}

fn alternative_name(san: &San) -> Result<SanType, PkiError> {
    match san {
        San::Ip(address) => Ok(SanType::IpAddress(*address)),
        San::Dns(name) => {
            let invalid = || PkiError::InvalidName {
                field: "DNS name",
                value: name.clone(),
            };
            if !is_dns_name(name) {
                return Err(invalid());
            }
            name.as_str()
                .try_into()
                .map(SanType::DnsName)
                .map_err(|_| invalid())
        }
    }
}

/// A host name after RFC 1123, with a `*` allowed as its first label.
fn is_dns_name(name: &str) -> bool {
    const LONGEST: usize = 253;
    const LONGEST_LABEL: usize = 63;
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let labels = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= LONGEST && labels.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::is_dns_name;

    #[test]
    fn dns_names() {
        for name in [
            "a",
            "etcd-abc12.etcd-peer.cp-c1.svc",
            "*.etcd-client.cp-c1.svc",
            "1.example",
        ] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "a.",
            "-a",
            "a_b",
            "*",
            "a.*",
            "a b",
            "é",
            &"a".repeat(64),
        ] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
