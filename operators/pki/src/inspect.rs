//! Reads certificates: what they say, when they are renewed, whom they belong to.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

use crate::error::PkiError;
use crate::leaf::{San, Usage};
use crate::pem::{CertificatePem, KeyPem};

/// What a certificate says, for statuses and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// The subject's organizations, in order.
    pub organizations: Vec<String>,
    /// The issuer's common name.
    pub issuer: Option<String>,
    /// The names that it is valid for, in order.
    pub sans: Vec<San>,
    /// What a leaf may be used for; nothing when it is none of ours.
    pub usage: Option<Usage>,
    /// Whether it may sign certificates.
    pub is_authority: bool,
    /// The first second of its life.
    pub not_before: Timestamp,
    /// The last second of its life.
    pub not_after: Timestamp,
    /// The serial number, in hexadecimal.
    pub serial: String,
    /// SHA-256 of its DER, in hexadecimal.
    pub fingerprint: String,
}

impl Description {
    /// When two thirds of its life are over.
    pub fn renewal_time(&self) -> Timestamp {
        let life = self.not_before.duration_until(self.not_after);
        self.not_before
            .checked_add(life / 3 * 2)
            .unwrap_or(self.not_after)
    }
}

/// Reads what a certificate says.
pub fn describe(certificate: &CertificatePem) -> Result<Description, PkiError> {
    let der = certificate.der()?;
    let parsed = parse(&der)?;
    let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| PkiError::NotCertificate);
    Ok(Description {
        common_name: common_name(parsed.subject()),
        organizations: organizations(parsed.subject()),
        issuer: common_name(parsed.issuer()),
        sans: alternative_names(&parsed)?,
        usage: usage(&parsed)?,
        is_authority: parsed.is_ca(),
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
        serial: hexadecimal(&parsed.serial.to_bytes_be()),
        fingerprint: digest(&der),
    })
}

/// SHA-256 of the certificate's DER, in hexadecimal.
pub fn fingerprint(certificate: &CertificatePem) -> Result<String, PkiError> {
    Ok(digest(&certificate.der()?))
}

/// SHA-256 of the public key (its `SubjectPublicKeyInfo`), in hexadecimal: by this kubeadm pins an authority.
pub fn public_key_hash(certificate: &CertificatePem) -> Result<String, PkiError> {
    let der = certificate.der()?;
    Ok(digest(parse(&der)?.public_key().raw))
}

/// When two thirds of the certificate's life are over.
pub fn renewal_time(certificate: &CertificatePem) -> Result<Timestamp, PkiError> {
    Ok(describe(certificate)?.renewal_time())
}

/// Whether two thirds of the certificate's life are over.
pub fn renewal_due(certificate: &CertificatePem, now: Timestamp) -> Result<bool, PkiError> {
    Ok(renewal_time(certificate)? <= now)
}

/// Whether the key is the certificate's.
pub(crate) fn is_pair(certificate: &CertificatePem, key: &KeyPem) -> Result<bool, PkiError> {
    let der = certificate.der()?;
    let parsed = parse(&der)?;
    Ok(parsed.public_key().subject_public_key.data.as_ref() == key.pair()?.public_key_raw())
}

/// Whether the authority's key signed the certificate.
pub(crate) fn is_signed_by(
    certificate: &CertificatePem,
    authority: &CertificatePem,
) -> Result<bool, PkiError> {
    let (der, authority) = (certificate.der()?, authority.der()?);
    let (parsed, authority) = (parse(&der)?, parse(&authority)?);
    Ok(parsed.issuer().as_raw() == authority.subject().as_raw()
        && parsed.verify_signature(Some(authority.public_key())).is_ok())
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    hexadecimal(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

pub(crate) fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name()
        .next()
        .and_then(|value| value.as_str().ok())
        .map(str::to_owned)
}

pub(crate) fn organizations(name: &X509Name<'_>) -> Vec<String> {
    name.iter_organization()
        .filter_map(|value| value.as_str().ok())
        .map(str::to_owned)
        .collect()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => Err(PkiError::NotCertificate),
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Result<Vec<San>, PkiError> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| PkiError::NotCertificate)?;
    let names = extension
        .into_iter()
        .flat_map(|extension| names_of(&extension.value.general_names));
    Ok(names.collect())
}

/// The host names and addresses among the names of an extension.
pub(crate) fn names_of(names: &[GeneralName<'_>]) -> Vec<San> {
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
            GeneralName::IPAddress(octets) => address(octets).map(San::Ip),
            _ => None,
        })
        .collect()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(octets)
        .ok()
        .map(|sixteen| Ipv6Addr::from(sixteen).into())
}

fn usage(certificate: &X509Certificate<'_>) -> Result<Option<Usage>, PkiError> {
    let extension = certificate
        .extended_key_usage()
        .map_err(|_| PkiError::NotCertificate)?;
    Ok(extension.and_then(
        |extension| match (extension.value.server_auth, extension.value.client_auth) {
            (true, true) => Some(Usage::Peer),
            (true, false) => Some(Usage::Server),
            (false, true) => Some(Usage::Client),
            (false, false) => None,
        },
    ))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
