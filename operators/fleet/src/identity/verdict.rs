//! The verdict on one signing request: pure.
//!
//! What is asked for is read from the request itself, never from annotations or names of the object.

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use skep_core::{CELL_AGENTS, CellName, KeyName, Registration};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, ParsedExtension};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::LONGEST_SECONDS;
use super::registration::{BootstrapId, Refusal};

/// The signer of client certificates for the hub's API.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// What the user names of agents begin with.
const USER_PREFIX: &str = "skep:cell:";
/// The usages of a client certificate, sorted.
const USAGES: [&str; 2] = ["client auth", "digital signature"];

/// What becomes of a signing request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not about cells, or it is decided already.
    Foreign,
    /// It is granted to this cell's agent.
    Approve(CellName),
    /// The holder of a bootstrap token asks for a registration's first certificate; the token decides.
    Register(Registration, BootstrapId),
    /// A registered agent asks for its next certificate; whether its registration stands decides.
    Renew(Registration),
    /// A registration's certificate was signed, and ends then.
    Issued(Registration, Timestamp),
    /// It speaks in the name of a cell and is refused.
    Deny(Denial),
}

/// Why a request in the name of a cell is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Somebody else than the agents' account asks.
    #[error("{0} may not ask for a cell's certificate")]
    Requester(String),
    /// The user or the group fits no cell.
    #[error("the subject must be one CN skep:cell:NAME and one O skep:cells, and nothing else")]
    Subject,
    /// The registration's name was not made from the key.
    #[error("the registration {asked} is not this key's, whose is {made}: ask for skep:cell:NAME:{made}")]
    Key {
        /// The name in the subject.
        asked: String,
        /// The name that the key makes.
        made: String,
    },
    /// What the hub knows of the token, the cell or the registration speaks against it.
    #[error(transparent)]
    Registration(#[from] Refusal),
    /// There is no such cell.
    #[error("there is no cell {0}")]
    UnknownCell(String),
    /// The usages are others than those of a client certificate.
    #[error("the usages must be digital signature and client auth")]
    Usages,
    /// It asks for more than a client certificate of that name.
    #[error("the request must ask for no alternative names and no further extensions")]
    Extensions,
    /// It would be valid for too long, or for as long as the signer likes.
    #[error("expirationSeconds must be set and at most {LONGEST_SECONDS}")]
    Expiration,
}

impl Denial {
    /// The reason of the condition, in `PascalCase`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Requester(_) => "RequesterNotAllowed",
            Self::Subject => "SubjectNotAllowed",
            Self::Key { .. } => "KeyNotAllowed",
            Self::Registration(refusal) => refusal.reason(),
            Self::UnknownCell(_) => "UnknownCell",
            Self::Usages => "UsagesNotAllowed",
            Self::Extensions => "ExtensionsNotAllowed",
            Self::Expiration => "ExpirationNotAllowed",
        }
    }
}

/// Judges a request. `requesters` are the users that may ask in the name of any cell, `is_cell` knows the cells.
pub fn judge(
    request: &CertificateSigningRequest,
    requesters: &[String],
    is_cell: impl Fn(&CellName) -> bool,
) -> Verdict {
    if request.spec.signer_name != SIGNER {
        return Verdict::Foreign;
    }
    let Ok((_, pem)) = parse_x509_pem(&request.spec.request.0) else {
        return Verdict::Foreign;
    };
    let Ok((_, asked)) = X509CertificationRequest::from_der(&pem.contents) else {
        return Verdict::Foreign;
    };
    if !speaks_of_cells(&asked.certification_request_info.subject) {
        return Verdict::Foreign;
    }
    let status = request.status.clone().unwrap_or_default();
    let decisions = status.conditions.unwrap_or_default();
    if !decisions.is_empty() {
        let is_approved = decisions.iter().any(|told| told.type_ == "Approved");
        let certificate = status.certificate.filter(|_| is_approved);
        return certificate.map_or(Verdict::Foreign, |certificate| issued(&certificate.0));
    }
    match check(&request.spec, &asked, requesters, is_cell) {
        Ok(verdict) => verdict,
        Err(denial) => Verdict::Deny(denial),
    }
}

/// The registration and the end of a signed certificate; of others nothing is recorded.
fn issued(pem: &[u8]) -> Verdict {
    let parsed = parse_x509_pem(pem).ok();
    let told = parsed.as_ref().and_then(|(_, pem)| {
        let certificate = pem.parse_x509().ok()?;
        let Speaker::Registered(registration) = speaker(certificate.subject())? else {
            return None;
        };
        let end = certificate.validity().not_after.timestamp();
        Some(Verdict::Issued(registration, Timestamp::from_second(end).ok()?))
    });
    told.unwrap_or(Verdict::Foreign)
}

/// Whether any name of the subject claims a cell or the cells' group.
fn speaks_of_cells(subject: &X509Name<'_>) -> bool {
    subject
        .iter_attributes()
        .filter_map(text)
        .any(|value| value.starts_with(USER_PREFIX) || value == CELL_AGENTS)
}

fn check(
    spec: &CertificateSigningRequestSpec,
    asked: &X509CertificationRequest<'_>,
    requesters: &[String],
    is_cell: impl Fn(&CellName) -> bool,
) -> Result<Verdict, Denial> {
    let verdict = claim(spec, asked, requesters)?;
    check_request(spec, asked)?;
    let cell = match &verdict {
        Verdict::Approve(cell) => cell,
        Verdict::Register(registration, _) | Verdict::Renew(registration) => &registration.cell,
        Verdict::Foreign | Verdict::Issued(..) | Verdict::Deny(_) => return Ok(verdict),
    };
    if !is_cell(cell) {
        return Err(Denial::UnknownCell(cell.to_string()));
    }
    Ok(verdict)
}

/// Who asks for whose certificate: each kind of requester may ask for its own kind of subject only.
fn claim(
    spec: &CertificateSigningRequestSpec,
    asked: &X509CertificationRequest<'_>,
    requesters: &[String],
) -> Result<Verdict, Denial> {
    let user = spec.username.as_deref().unwrap_or_default();
    let refused = || Denial::Requester(user.to_owned());
    let info = &asked.certification_request_info;
    if requesters.iter().any(|known| known == user) {
        return match speaker(&info.subject).ok_or(Denial::Subject)? {
            Speaker::Agent(cell) => Ok(Verdict::Approve(cell)),
            Speaker::Registered(_) => Err(refused()),
        };
    }
    let bootstrap = BootstrapId::of(user, spec.groups.as_deref().unwrap_or_default());
    if bootstrap.is_none() && !user.starts_with(USER_PREFIX) {
        return Err(refused());
    }
    let Speaker::Registered(registration) = speaker(&info.subject).ok_or(Denial::Subject)? else {
        return Err(refused());
    };
    let Some(bootstrap) = bootstrap else {
        let is_its_own = user == registration.user();
        return if is_its_own {
            Ok(Verdict::Renew(registration))
        } else {
            Err(refused())
        };
    };
    let key = KeyName::of(info.subject_pki.raw);
    if key.name != registration.name {
        let (asked, made) = (registration.name, key.name);
        return Err(Denial::Key { asked, made });
    }
    Ok(Verdict::Register(registration, bootstrap))
}

/// That nothing but a client certificate of bounded validity is asked for.
fn check_request(
    spec: &CertificateSigningRequestSpec,
    asked: &X509CertificationRequest<'_>,
) -> Result<(), Denial> {
    let info = &asked.certification_request_info;
    let mut usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    usages.sort_unstable();
    if usages != USAGES {
        return Err(Denial::Usages);
    }
    // Of several attributes this parser reads the first alone, and the signer all of them.
    if info.iter_attributes().count() > 1 {
        return Err(Denial::Extensions);
    }
    let extensions = asked.requested_extensions().into_iter().flatten();
    if extensions.into_iter().any(|extension| !is_harmless(extension)) {
        return Err(Denial::Extensions);
    }
    if spec
        .expiration_seconds
        .is_none_or(|seconds| seconds > LONGEST_SECONDS)
    {
        return Err(Denial::Expiration);
    }
    Ok(())
}

/// Usages alone may be repeated inside the request; the signer takes them from the object anyway.
fn is_harmless(extension: &ParsedExtension<'_>) -> bool {
    matches!(
        extension,
        ParsedExtension::KeyUsage(_) | ParsedExtension::ExtendedKeyUsage(_)
    )
}

/// Whose certificate a subject is.
enum Speaker {
    Agent(CellName),
    Registered(Registration),
}

/// The owner of a subject that is exactly one CN of a cell or registration and one O of the cells' group.
fn speaker(subject: &X509Name<'_>) -> Option<Speaker> {
    let total = subject.iter_attributes().count();
    let mut names = subject.iter_common_name().map(text);
    let mut groups = subject.iter_organization().map(text);
    match (total, names.next(), names.next(), groups.next(), groups.next()) {
        (2, Some(Some(name)), None, Some(Some(group)), None) if group == CELL_AGENTS => {
            let name = name.strip_prefix(USER_PREFIX)?;
            match name.split_once(':') {
                None => name.parse().ok().map(Speaker::Agent),
                Some((cell, registration)) => {
                    Registration::parse(cell, registration).map(Speaker::Registered)
                }
            }
        }
        _ => None,
    }
}

fn text<'a>(attribute: &'a AttributeTypeAndValue<'_>) -> Option<&'a str> {
    attribute.as_str().ok()
}
