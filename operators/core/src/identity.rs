//! A control plane's identity, fixed at birth: namespace and host names derive from the `cpid` alone.
//!
//! Never from the tenant's or the cell's name, so that a control plane can be claimed, renamed and moved.

use std::{fmt, str::FromStr};

use data_encoding::Specification;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::{Domain, Region};

const LENGTH: usize = 10;

/// The identity of one control plane: `c` and nine characters of lower-case base32.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpid(String);

/// A text that is no `cpid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cpid is 'c' and nine of a-z and 2-7; {0:?} is not")]
pub struct CpidError(String);

impl Cpid {
    /// Derives the identity from the unique id of the object that asked for it, so that a retry gives the same.
    ///
    /// # Panics
    /// Never: the alphabet is a constant that is checked by a test.
    #[allow(clippy::expect_used)]
    pub fn derive(uid: &str) -> Self {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        let base32 = specification.encoding().expect("the alphabet has 32 symbols");
        let digest = base32.encode(&Sha256::digest(uid.as_bytes())[..10]);
        Self(format!("c{}", &digest[..LENGTH - 1]))
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace in the cell that holds this control plane.
    pub fn namespace(&self) -> String {
        format!("cp-{}", self.0)
    }
}

impl FromStr for Cpid {
    type Err = CpidError;
    fn from_str(value: &str) -> Result<Self, CpidError> {
        let is_symbol = |c: char| c.is_ascii_lowercase() || ('2'..='7').contains(&c);
        if value.len() == LENGTH && value.starts_with('c') && value.chars().all(is_symbol) {
            Ok(Self(value.to_owned()))
        } else {
            Err(CpidError(value.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for Cpid {
    type Error = CpidError;
    fn try_from(value: String) -> Result<Self, CpidError> {
        value.parse()
    }
}

impl From<Cpid> for String {
    fn from(cpid: Cpid) -> Self {
        cpid.0
    }
}

impl fmt::Display for Cpid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host names under which a control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// For people and programs.
    pub api: String,
    /// For worker nodes; never wakes a sleeping tenant.
    pub node: String,
    /// For the agents of the way back.
    pub konnectivity: String,
}

impl Endpoint {
    /// The host names of one control plane in one region.
    pub fn new(cpid: &Cpid, region: &Region, domain: &Domain) -> Self {
        let host = |role: &str| format!("{role}.{cpid}.{region}.{domain}");
        Self {
            api: host("api"),
            node: host("node"),
            konnectivity: host("konnectivity"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_uid_gives_the_same_identity_and_it_parses() {
        let one = Cpid::derive("0b7f6f0e-0000-4000-8000-000000000001");
        assert_eq!(one, Cpid::derive("0b7f6f0e-0000-4000-8000-000000000001"));
        assert_ne!(one, Cpid::derive("0b7f6f0e-0000-4000-8000-000000000002"));
        assert_eq!(one.as_str().parse::<Cpid>().unwrap(), one);
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in ["", "c", "cABCDEFGHI", "xabcdefghi", "cabcdefgh1", "cabcdefghij"] {
            assert!(bad.parse::<Cpid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_derive_from_the_identity() {
        let cpid = "cabcdefghi".parse().unwrap();
        let endpoint = Endpoint::new(
            &cpid,
            &"local".parse().unwrap(),
            &"skep.internal".parse().unwrap(),
        );
        assert_eq!(endpoint.api, "api.cabcdefghi.local.skep.internal");
        assert_eq!(endpoint.node, "node.cabcdefghi.local.skep.internal");
    }
}
