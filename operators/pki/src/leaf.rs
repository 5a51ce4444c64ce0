//! Leaves: what is asked of one, and whether one that exists still does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::authority::CertificateAuthority;
use crate::error::PkiError;
use crate::inspect;
use crate::pem::{CertificatePem, KeyPem};

/// How long a leaf of a component lasts; it is renewed at two thirds of it.
pub const LEAF_VALIDITY: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A name that a server's certificate is valid for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// A host name; its first label may be `*`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl San {
    /// A host name, or an address where the text is one.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Ip)
    }
}

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To serve TLS.
    Server,
    /// To be a TLS client.
    Client,
    /// Both, for members that talk to each other.
    Peer,
}

/// What a leaf shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    /// The user's name, or a server's.
    pub common_name: String,
    /// The user's groups.
    pub organizations: Vec<String>,
    /// The names that a server answers to.
    pub sans: Vec<San>,
    /// What it may be used for.
    pub usage: Usage,
    /// How long it lasts; never beyond its authority.
    pub ttl: SignedDuration,
}

impl LeafRequest {
    /// A client of [`LEAF_VALIDITY`].
    pub fn client(common_name: &str, organizations: &[&str]) -> Self {
        let organizations = organizations.iter().map(|&group| group.to_owned()).collect();
        Self {
            organizations,
            ..Self::new(common_name, Usage::Client, Vec::new())
        }
    }

    /// A server of [`LEAF_VALIDITY`].
    pub fn server(common_name: &str, sans: Vec<San>) -> Self {
        Self::new(common_name, Usage::Server, sans)
    }

    /// A server that is also a client, of [`LEAF_VALIDITY`].
    pub fn peer(common_name: &str, sans: Vec<San>) -> Self {
        Self::new(common_name, Usage::Peer, sans)
    }

    fn new(common_name: &str, usage: Usage, sans: Vec<San>) -> Self {
        let common_name = common_name.to_owned();
        Self {
            common_name,
            organizations: Vec::new(),
            sans,
            usage,
            ttl: LEAF_VALIDITY,
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificatePem,
    /// Its key.
    pub key: KeyPem,
}

/// Why a leaf has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReissueReason {
    /// The certificate or the key cannot be read.
    Unreadable,
    /// The key belongs to another certificate.
    KeyMismatch,
    /// Another authority signed it.
    OtherAuthority,
    /// It names another user or other groups.
    OtherSubject,
    /// It is valid for other names.
    OtherNames,
    /// It may be used for something else.
    OtherUsage,
    /// Two thirds of its life are over.
    RenewalDue,
}

impl Leaf {
    /// Reads a leaf back, without judging it.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        Ok(Self {
            certificate: CertificatePem::parse(certificate)?,
            key: KeyPem::parse(key)?,
        })
    }

    /// Whether the key is the certificate's.
    pub fn is_pair(&self) -> Result<bool, PkiError> {
        inspect::is_pair(&self.certificate, &self.key)
    }

    /// Whether this leaf is what `authority` would issue for `request`; the reason when it is not.
    pub fn reissue_reason(
        &self,
        authority: &CertificateAuthority,
        request: &LeafRequest,
        now: Timestamp,
    ) -> Option<ReissueReason> {
        let Ok(description) = inspect::describe(&self.certificate) else {
            return Some(ReissueReason::Unreadable);
        };
        match inspect::is_pair(&self.certificate, &self.key) {
            Err(_) => return Some(ReissueReason::Unreadable),
            Ok(false) => return Some(ReissueReason::KeyMismatch),
            Ok(true) => {}
        }
        if !inspect::is_signed_by(&self.certificate, authority.certificate()).unwrap_or(false) {
            return Some(ReissueReason::OtherAuthority);
        }
        if description.common_name.as_deref() != Some(&request.common_name)
            || description.organizations != request.organizations
        {
            return Some(ReissueReason::OtherSubject);
        }
        let wanted: BTreeSet<&San> = request.sans.iter().collect();
        if description.sans.iter().collect::<BTreeSet<_>>() != wanted {
            return Some(ReissueReason::OtherNames);
        }
        if description.usage != Some(request.usage) {
            return Some(ReissueReason::OtherUsage);
        }
        (description.renewal_time() <= now).then_some(ReissueReason::RenewalDue)
    }
}
