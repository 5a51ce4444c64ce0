//! The verdict on one signing request: pure.
//!
//! What is asked for is read from the request itself, never from annotations or names of the object.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use skep_core::{CELL_AGENTS, CellName};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, ParsedExtension};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::LONGEST_SECONDS;

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
            Self::UnknownCell(_) => "UnknownCell",
            Self::Usages => "UsagesNotAllowed",
            Self::Extensions => "ExtensionsNotAllowed",
            Self::Expiration => "ExpirationNotAllowed",
        }
    }
}

/// Judges a request. `requesters` are the users that may ask, `is_cell` knows the cells.
pub fn judge(
    request: &CertificateSigningRequest,
    requesters: &[String],
    is_cell: impl Fn(&CellName) -> bool,
) -> Verdict {
    let conditions = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let is_decided = conditions.is_some_and(|conditions| !conditions.is_empty());
    if request.spec.signer_name != SIGNER || is_decided {
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
    match check(&request.spec, &asked, requesters, is_cell) {
        Ok(cell) => Verdict::Approve(cell),
        Err(denial) => Verdict::Deny(denial),
    }
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
) -> Result<CellName, Denial> {
    let requester = spec.username.as_deref().unwrap_or_default();
    if !requesters.iter().any(|known| known == requester) {
        return Err(Denial::Requester(requester.to_owned()));
    }
    let info = &asked.certification_request_info;
    let name = cell_of(&info.subject).ok_or(Denial::Subject)?;
    let cell: CellName = name.parse().map_err(|_| Denial::Subject)?;
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
    if !is_cell(&cell) {
        return Err(Denial::UnknownCell(cell.to_string()));
    }
    Ok(cell)
}

/// Usages alone may be repeated inside the request; the signer takes them from the object anyway.
fn is_harmless(extension: &ParsedExtension<'_>) -> bool {
    matches!(
        extension,
        ParsedExtension::KeyUsage(_) | ParsedExtension::ExtendedKeyUsage(_)
    )
}

/// The cell of a subject that is exactly one CN of a cell and one O of the cells' group.
fn cell_of(subject: &X509Name<'_>) -> Option<String> {
    let total = subject.iter_attributes().count();
    let mut names = subject.iter_common_name().map(text);
    let mut groups = subject.iter_organization().map(text);
    match (total, names.next(), names.next(), groups.next(), groups.next()) {
        (2, Some(Some(name)), None, Some(Some(group)), None) if group == CELL_AGENTS => {
            name.strip_prefix(USER_PREFIX).map(str::to_owned)
        }
        _ => None,
    }
}

fn text<'a>(attribute: &'a AttributeTypeAndValue<'_>) -> Option<&'a str> {
    attribute.as_str().ok()
}
