//! The identity of a cell's agent that registered with a key, and what its registration is named after.
//!
//! Hub and agent make the name from the same public key: neither has to tell it to the other.

use std::fmt::Write;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::names::{AGENT_PREFIX, CellName};

/// The characters of base32 in a registration's name: 125 bits of the key's hash.
const NAME_CHARACTERS: usize = 25;

/// The identity of one agent: its cell, and the name of its `ClusterRegistration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The cell.
    pub cell: CellName,
    /// The name of the `ClusterRegistration`.
    pub name: String,
}

impl Registration {
    /// Reads both parts of a user name.
    pub fn parse(cell: &str, name: &str) -> Option<Self> {
        let rest = name.strip_prefix('r')?;
        let is_name = rest.len() == NAME_CHARACTERS
            && rest.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
        let name = is_name.then(|| name.to_owned())?;
        Some(Self {
            cell: cell.parse().ok()?,
            name,
        })
    }

    /// Reads a user name at the hub.
    pub fn of_user(user: &str) -> Option<Self> {
        let (cell, name) = user.strip_prefix(AGENT_PREFIX)?.split_once(':')?;
        Self::parse(cell, name)
    }

    /// The user name at the hub.
    pub fn user(&self) -> String {
        self.cell.registered_user(&self.name)
    }
}

/// What a public key makes of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    /// The name of its registration.
    pub name: String,
    /// Its SHA-256 in hexadecimal.
    pub fingerprint: String,
}

impl KeyName {
    /// Of a key as `SubjectPublicKeyInfo` in DER.
    pub fn of(key: &[u8]) -> Self {
        let hash = Sha256::digest(key);
        let text = BASE32_NOPAD.encode(&hash).to_lowercase();
        let fingerprint = hash.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String never fails.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self {
            name: format!("r{}", &text[..NAME_CHARACTERS]),
            fingerprint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_name_and_the_user_name_is_read_back() {
        let key = KeyName::of(b"a key");
        // SHA-256 of these five octets, by sha256sum and base32.
        assert!(
            key.fingerprint.starts_with("8fa3aab2faa9b79e"),
            "{}",
            key.fingerprint
        );
        assert_eq!(key.name, "rr6r2vmx2vg3z4cqdtdnfwwv5a");
        let registration = Registration::parse("one", &key.name).unwrap();
        assert_eq!(registration.user(), format!("skep:cell:one:{}", key.name));
        assert_eq!(Registration::of_user(&registration.user()), Some(registration));
        for other in [
            "skep:cell:one",
            "skep:cell:one:r",
            "skep:cell:One:raaaaaaaaaaaaaaaaaaaaaaaaa",
            "one",
        ] {
            assert_eq!(Registration::of_user(other), None, "{other}");
        }
    }
}
