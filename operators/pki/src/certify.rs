//! Turns parameters, a public key and an authority into a signed certificate.

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, PublicKeyData, SerialNumber, SigningKey};
use time::OffsetDateTime;

use crate::authority::CertificateAuthority;
use crate::der;
use crate::error::PkiError;
use crate::pem::CertificatePem;

/// How far certificates begin in the past, for clocks that are behind.
pub const BACKDATING: SignedDuration = SignedDuration::from_mins(5);

/// The longest common name or organization, in bytes. X.520 says 64 characters; Go and rustls take any
/// length, and names of Kubernetes users are longer.
const LONGEST_NAME: usize = 253;

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) organizations: &'a [String],
}

impl Name<'_> {
    fn check(&self) -> Result<(), PkiError> {
        check_name("common name", self.common_name)?;
        self.organizations
            .iter()
            .try_for_each(|organization| check_name("organization", organization))
    }
}

pub(crate) fn check_name(field: &'static str, value: &str) -> Result<(), PkiError> {
    if value.is_empty() || value.len() > LONGEST_NAME || value.chars().any(char::is_control) {
        return Err(PkiError::InvalidName {
            field,
            value: value.chars().take(LONGEST_NAME).collect(),
        });
    }
    Ok(())
}

/// Parameters that are valid from shortly before `now` for `ttl`, but not beyond `end`.
pub(crate) fn params(
    now: Timestamp,
    ttl: SignedDuration,
    end: Option<Timestamp>,
) -> Result<CertificateParams, PkiError> {
    let wanted = now.checked_add(ttl).map_err(|_| PkiError::Time { time: now })?;
    let not_after = end.map_or(wanted, |end| wanted.min(end));
    if not_after <= now {
        return Err(PkiError::AuthorityExpired);
    }
    let not_before = now
        .checked_sub(BACKDATING)
        .map_err(|_| PkiError::Time { time: now })?;
    let mut params = CertificateParams::default();
    params.not_before = certificate_time(not_before)?;
    params.not_after = certificate_time(not_after)?;
    params.serial_number = Some(random_serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params)
}

/// Signs with `authority`, as the name with all its organizations.
pub(crate) fn certify(
    mut params: CertificateParams,
    name: &Name<'_>,
    public_key: &impl PublicKeyData,
    authority: &CertificateAuthority,
) -> Result<CertificatePem, PkiError> {
    name.check()?;
    params
        .distinguished_name
        .push(DnType::CommonName, name.common_name);
    params.use_authority_key_identifier_extension = true;
    let issuer = authority.issuer()?;
    let draft = params
        .signed_by(public_key, &issuer)
        .map_err(PkiError::crypto("sign a certificate"))?;
    let (tbs, algorithm) = der::split_certificate(draft.der()).ok_or(PkiError::NotCertificate)?;
    let subject = der::name(name.common_name, name.organizations);
    let tbs = der::with_subject(tbs, &subject).ok_or(PkiError::NotCertificate)?;
    let signature = issuer
        .key()
        .sign(&tbs)
        .map_err(PkiError::crypto("sign a certificate"))?;
    Ok(CertificatePem::from_der(&der::join_certificate(
        &tbs, algorithm, &signature,
    )))
}

/// A time to the second, between the years 1950 and 9999 (RFC 5280, section 4.1.2.5).
fn certificate_time(time: Timestamp) -> Result<OffsetDateTime, PkiError> {
    let converted =
        OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| PkiError::Time { time })?;
    if (1950..=9999).contains(&converted.year()) {
        Ok(converted)
    } else {
        Err(PkiError::Time { time })
    }
}

/// 127 random bits: positive, and never the same for a key that is certified twice.
fn random_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| PkiError::Random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
