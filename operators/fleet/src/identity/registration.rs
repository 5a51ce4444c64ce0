//! Whether a token buys a registration, and whether one stands: pure.

use jiff::Timestamp;
use kube::ResourceExt;
use skep_api::{Cell, ClusterRegistration, RegistrationToken};
use skep_core::{REGISTERING, Registration};

/// What the API server calls the holder of a bootstrap token.
const BOOTSTRAP_PREFIX: &str = "system:bootstrap:";

/// The public half of a bootstrap token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapId(pub String);

impl BootstrapId {
    /// The id of a user that the API server authenticated by a bootstrap token of ours.
    pub fn of(user: &str, groups: &[String]) -> Option<Self> {
        let id = user.strip_prefix(BOOTSTRAP_PREFIX)?;
        let is_ours = groups.iter().any(|group| group == REGISTERING);
        is_ours.then(|| Self(id.to_owned()))
    }
}

/// Why the hub's own records speak against a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token has this bootstrap token.
    #[error("no RegistrationToken has the bootstrap token {0}: make another token")]
    UnknownToken(String),
    /// The token was revoked or is being deleted.
    #[error("the token {0} was revoked: make another token")]
    TokenRevoked(String),
    /// The token's time is over.
    #[error("the token {0} has expired: make another token")]
    TokenExpired(String),
    /// The token's uses are taken.
    #[error("all uses of the token {0} were taken: make another token")]
    TokenUsedUp(String),
    /// The token is for other cells.
    #[error(
        "the token {token} is not for the cell {cell}: make a token whose scope names its pool and no other cell"
    )]
    OutOfScope {
        /// The token.
        token: String,
        /// The cell.
        cell: String,
    },
    /// Another agent speaks for the cell.
    #[error("the cell {cell} has the registration {other}: revoke that one first")]
    CellTaken {
        /// The cell.
        cell: String,
        /// The registration that stands.
        other: String,
    },
    /// The registration was revoked or is another cell's.
    #[error(
        "the registration {0} was revoked, is gone or is another cell's: register with a new key and token"
    )]
    NotStanding(String),
}

impl Refusal {
    /// The reason of the condition, in `PascalCase`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownToken(_) => "UnknownToken",
            Self::TokenRevoked(_) => "TokenRevoked",
            Self::TokenExpired(_) => "TokenExpired",
            Self::TokenUsedUp(_) => "TokenUsedUp",
            Self::OutOfScope { .. } => "OutOfScope",
            Self::CellTaken { .. } => "CellTaken",
            Self::NotStanding(_) => "RegistrationNotStanding",
        }
    }
}

/// Whether a use has to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It has to.
    First,
    /// It was before: the request is a repetition.
    Counted,
}

/// Whether a registration stands: its agent's rights hang on this.
pub fn is_standing(registration: &ClusterRegistration) -> bool {
    !registration.spec.revoked && registration.metadata.deletion_timestamp.is_none()
}

/// Whether `token` buys `asked`, given its cell and all registrations of that cell.
pub fn check_token(
    token: &RegistrationToken,
    asked: &Registration,
    cell: &Cell,
    registrations: &[ClusterRegistration],
    now: Timestamp,
) -> Result<Use, Refusal> {
    let name = token.name_any();
    if token.spec.revoked || token.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::TokenRevoked(name));
    }
    let status = token.status.clone().unwrap_or_default();
    if status.expires_at.is_none_or(|end| now >= end.0) {
        return Err(Refusal::TokenExpired(name));
    }
    let scope = &token.spec.scope;
    let is_of_scope = cell.spec.pool.as_ref() == Some(&scope.pool)
        && scope
            .cell
            .as_deref()
            .is_none_or(|only| only == asked.cell.as_str());
    if !is_of_scope {
        let cell = asked.cell.to_string();
        return Err(Refusal::OutOfScope { token: name, cell });
    }
    let is_counted = status.registrations.contains(&asked.name);
    if !is_counted && status.used >= token.spec.uses {
        return Err(Refusal::TokenUsedUp(name));
    }
    for other in registrations {
        if other.name_any() != asked.name && is_standing(other) {
            let (cell, other) = (asked.cell.to_string(), other.name_any());
            return Err(Refusal::CellTaken { cell, other });
        }
    }
    Ok(if is_counted { Use::Counted } else { Use::First })
}

/// Whether `found` lets the agent of `asked` go on.
pub fn check_standing(found: Option<&ClusterRegistration>, asked: &Registration) -> Result<(), Refusal> {
    let stands = found.is_some_and(|found| is_standing(found) && found.spec.cell == asked.cell.as_str());
    if stands {
        Ok(())
    } else {
        Err(Refusal::NotStanding(asked.name.clone()))
    }
}
