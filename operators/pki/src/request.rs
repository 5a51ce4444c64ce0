//! Signing requests of users: what is refused, and what a signed one says.
//!
//! Nothing of a request but its public key reaches the certificate. What it asks for is still judged, so
//! that a client that asks for more than it gets hears so instead of wondering.

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Version};

use crate::authority::{CertificateAuthority, allow};
use crate::certify::{Name, certify, check_name, params};
use crate::error::PkiError;
use crate::inspect::{self, digest};
use crate::leaf::{San, Usage};
use crate::pem::{CertificatePem, KeyPem, REQUEST, RequestPem, block};
use crate::public_key::{KeyKind, verify};

/// The largest request, in bytes; one with an RSA key of 8192 bits is under 4 KiB.
pub const LARGEST_REQUEST: usize = 16 * 1024;
/// The shortest life of a user's certificate.
pub const SHORTEST_TTL: SignedDuration = SignedDuration::from_mins(10);
/// The longest life of a user's certificate.
pub const LONGEST_TTL: SignedDuration = SignedDuration::from_hours(24);

/// The prefix that Kubernetes keeps for itself; `system:masters` is above all authorization.
const RESERVED_PREFIX: &str = "system:";

/// Whom a user's certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The user's name.
    pub username: String,
    /// The user's groups.
    pub groups: Vec<String>,
}

/// What a request is, once it is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSummary {
    /// The common name that it asks for; it is not what it gets.
    pub common_name: Option<String>,
    /// The organizations that it asks for; they are not what it gets.
    pub organizations: Vec<String>,
    /// The kind of its key.
    pub key: KeyKind,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`), in hexadecimal.
    pub key_fingerprint: String,
}

/// Why a request is refused. [`RequestError::field`] and [`RequestError::reason`] are stable.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is larger than any honest request.
    #[error("the request has {size} bytes, more than {LARGEST_REQUEST}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// It is not one PEM block.
    #[error("the request is not one PEM block")]
    NotPem,
    /// It is PEM, but of something else.
    #[error("the request is a PEM block {label:?} and not {REQUEST:?}")]
    NotRequest {
        /// The block's label.
        label: String,
    },
    /// Its content is no PKCS #10 request.
    #[error("the request is not a PKCS #10 certificate signing request")]
    Malformed,
    /// The key is too weak.
    #[error("the key is too weak: {key}; use RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519")]
    WeakKey {
        /// What it is.
        key: String,
    },
    /// The key's algorithm is unknown.
    #[error("the key's algorithm {algorithm} is not supported")]
    UnsupportedKey {
        /// The object identifier.
        algorithm: String,
    },
    /// The signature's algorithm is unknown, or does not fit the key.
    #[error("the signature's algorithm {algorithm} is not supported for this key")]
    UnsupportedSignature {
        /// The object identifier.
        algorithm: String,
    },
    /// The signature is not by the request's own key.
    #[error("the request is not signed by its own key")]
    BadSignature,
    /// It asks for a name that is Kubernetes' own.
    #[error("{attribute} {value:?} is reserved: names that begin with {RESERVED_PREFIX:?} are refused")]
    ReservedName {
        /// `common name`, `organization`, `username` or `group`.
        attribute: &'static str,
        /// The name.
        value: String,
    },
    /// It asks for host names or addresses.
    #[error("the request asks for subject alternative names; a user's certificate has none")]
    NamesRequested,
    /// It asks to become an authority.
    #[error("the request asks for a certificate authority")]
    AuthorityRequested,
    /// The subject to certify is not valid.
    #[error("{attribute} {value:?} is not a valid name")]
    InvalidSubject {
        /// `username` or `group`.
        attribute: &'static str,
        /// The name.
        value: String,
    },
    /// The authority could not sign; this is not the requester's fault.
    #[error("the certificate cannot be signed")]
    Sign(#[source] PkiError),
}

impl RequestError {
    /// The field of a `CertificateRequest`'s spec that has to change; nothing when none would help.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::ReservedName {
                attribute: "username",
                ..
            }
            | Self::InvalidSubject {
                attribute: "username",
                ..
            } => Some("username"),
            Self::ReservedName {
                attribute: "group", ..
            }
            | Self::InvalidSubject {
                attribute: "group", ..
            } => Some("groups"),
            Self::Sign(_) => None,
            _ => Some("request"),
        }
    }

    /// A word for conditions and API errors.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "RequestTooLarge",
            Self::NotPem => "NotPem",
            Self::NotRequest { .. } => "NotCertificateRequest",
            Self::Malformed => "MalformedRequest",
            Self::WeakKey { .. } => "WeakKey",
            Self::UnsupportedKey { .. } => "UnsupportedKey",
            Self::UnsupportedSignature { .. } => "UnsupportedSignature",
            Self::BadSignature => "BadSignature",
            Self::ReservedName { .. } => "ReservedName",
            Self::NamesRequested => "NamesRequested",
            Self::AuthorityRequested => "AuthorityRequested",
            Self::InvalidSubject { .. } => "InvalidSubject",
            Self::Sign(_) => "SigningFailed",
        }
    }

    /// Whether the requester, and not the authority, has to change something.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Sign(_))
    }
}

impl CertificateAuthority {
    /// Certifies the request's key as `subject`, for client authentication.
    ///
    /// The request's own subject and extensions are dropped. `ttl` is brought between [`SHORTEST_TTL`] and
    /// [`LONGEST_TTL`] and ends with the authority.
    pub fn sign_request(
        &self,
        csr_pem: &str,
        subject: &Subject,
        ttl: SignedDuration,
        now: Timestamp,
    ) -> Result<CertificatePem, RequestError> {
        check_subject(subject)?;
        let der = decode(csr_pem)?;
        let request = parse(&der)?;
        check(&request)?;
        let info = request.certification_request_info.subject_pki.raw;
        let public_key = rcgen::SubjectPublicKeyInfo::from_der(info).map_err(|_| RequestError::Malformed)?;
        let ttl = ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
        let mut params = params(now, ttl, Some(self.not_after())).map_err(RequestError::Sign)?;
        allow(&mut params, Usage::Client);
        let name = Name {
            common_name: &subject.username,
            organizations: &subject.groups,
        };
        certify(params, &name, &public_key, self).map_err(RequestError::Sign)
    }
}

/// Judges a request without signing it.
pub fn check_request(csr_pem: &str) -> Result<RequestSummary, RequestError> {
    let der = decode(csr_pem)?;
    let request = parse(&der)?;
    check(&request)
}

/// What a request for a server's certificate asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingRequest {
    /// The common name.
    pub common_name: Option<String>,
    /// The organizations.
    pub organizations: Vec<String>,
    /// The host names and addresses.
    pub sans: Vec<San>,
    /// Whether it asks for mail addresses, URIs or other names as well.
    pub has_other_names: bool,
}

/// Reads a server's request, which must be signed by its own key; whether to grant it is the caller's business.
pub fn describe_serving_request(csr_pem: &str) -> Result<ServingRequest, RequestError> {
    let der = decode(csr_pem)?;
    let request = parse(&der)?;
    let info = &request.certification_request_info;
    verify(&request, KeyKind::of(&info.subject_pki)?)?;
    let mut described = ServingRequest {
        common_name: inspect::common_name(&info.subject),
        organizations: inspect::organizations(&info.subject),
        sans: Vec::new(),
        has_other_names: false,
    };
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            continue;
        };
        for extension in &requested.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    let known = inspect::names_of(&names.general_names);
                    described.has_other_names |= known.len() < names.general_names.len();
                    described.sans.extend(known);
                }
                other => check_extension(other)?,
            }
        }
    }
    Ok(described)
}

/// Makes a new key and a request for it, for a client that keeps the key.
pub fn new_request(common_name: &str, organizations: &[&str]) -> Result<(KeyPem, RequestPem), PkiError> {
    let key = KeyPem::generate()?;
    let request = request_for(&key, common_name, organizations)?;
    Ok((key, request))
}

/// Makes a request for a key that is there.
pub fn request_for(key: &KeyPem, common_name: &str, organizations: &[&str]) -> Result<RequestPem, PkiError> {
    check_name("common name", common_name)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // rcgen writes one organization; more are not needed of a request.
    if let Some(organization) = organizations.first() {
        params
            .distinguished_name
            .push(DnType::OrganizationName, *organization);
    }
    let action = PkiError::crypto("make a certificate signing request");
    let request = params
        .serialize_request(&key.pair()?)
        .and_then(|request| request.pem())
        .map_err(action)?;
    Ok(RequestPem(request))
}

fn decode(csr_pem: &str) -> Result<Vec<u8>, RequestError> {
    if csr_pem.len() > LARGEST_REQUEST {
        return Err(RequestError::TooLarge { size: csr_pem.len() });
    }
    let (label, rest, contents) = block(csr_pem).ok_or(RequestError::NotPem)?;
    if label != REQUEST {
        return Err(RequestError::NotRequest { label });
    }
    if rest.trim().is_empty() {
        Ok(contents)
    } else {
        Err(RequestError::NotPem)
    }
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, RequestError> {
    match X509CertificationRequest::from_der(der) {
        Ok((rest, request))
            if rest.is_empty() && request.certification_request_info.version == X509Version::V1 =>
        {
            Ok(request)
        }
        _ => Err(RequestError::Malformed),
    }
}

fn check(request: &X509CertificationRequest<'_>) -> Result<RequestSummary, RequestError> {
    let info = &request.certification_request_info;
    let key = KeyKind::of(&info.subject_pki)?;
    verify(request, key)?;
    for attribute in info.subject.iter_common_name() {
        check_requested("common name", attribute)?;
    }
    for attribute in info.subject.iter_organization() {
        check_requested("organization", attribute)?;
    }
    for attribute in info.iter_attributes() {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => {
                requested
                    .extensions
                    .iter()
                    .try_for_each(|extension| check_extension(extension.parsed_extension()))?;
            }
            ParsedCriAttribute::ChallengePassword(_) | ParsedCriAttribute::UnsupportedAttribute => {}
        }
    }
    Ok(RequestSummary {
        common_name: inspect::common_name(&info.subject),
        organizations: inspect::organizations(&info.subject),
        key,
        key_fingerprint: digest(info.subject_pki.raw),
    })
}

fn check_extension(extension: &ParsedExtension<'_>) -> Result<(), RequestError> {
    match extension {
        ParsedExtension::SubjectAlternativeName(_) => Err(RequestError::NamesRequested),
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
            Err(RequestError::AuthorityRequested)
        }
        ParsedExtension::ParseError { .. } => Err(RequestError::Malformed),
        _ => Ok(()),
    }
}

fn check_requested(attribute: &'static str, value: &AttributeTypeAndValue<'_>) -> Result<(), RequestError> {
    let text = value.as_str().map_err(|_| RequestError::Malformed)?;
    refuse_reserved(attribute, text)
}

fn check_subject(subject: &Subject) -> Result<(), RequestError> {
    let named = subject.groups.iter().map(|group| ("group", group));
    for (attribute, value) in std::iter::once(("username", &subject.username)).chain(named) {
        refuse_reserved(attribute, value)?;
        check_name(attribute, value).map_err(|_| RequestError::InvalidSubject {
            attribute,
            value: value.clone(),
        })?;
    }
    Ok(())
}

fn refuse_reserved(attribute: &'static str, value: &str) -> Result<(), RequestError> {
    // Kubernetes compares exactly; what only looks like a reserved name is refused as well.
    if value
        .trim_start()
        .to_ascii_lowercase()
        .starts_with(RESERVED_PREFIX)
    {
        return Err(RequestError::ReservedName {
            attribute,
            value: value.to_owned(),
        });
    }
    Ok(())
}
