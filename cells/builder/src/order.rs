//! What is asked of a provider: one cell, named by a token.

use std::fmt;
use std::str::FromStr;

use ipnet::Ipv4Net;
use skep_core::{CellName, Region, Zone};

/// The longest token; EC2 takes client tokens of 64 ASCII characters, and some of them tell one request of a cell from another.
const LONGEST_TOKEN: usize = 40;

/// Names an order for ever, so that it may be repeated: whatever a provider makes for it carries it as a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(String);

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no token: 1 to {LONGEST_TOKEN} lower-case letters, digits and hyphens")]
pub struct InvalidToken(String);

impl Token {
    /// The token as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let is_of_token = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(is_of_token) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidToken(text.to_owned()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One cell as it shall be; the same order with more nodes lets it grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it is found by.
    pub token: Token,
    /// What it is called.
    pub cell: CellName,
    /// The pool that it is for.
    pub pool: String,
    /// Where it is.
    pub region: Region,
    /// Its zones; each has the same number of nodes.
    pub zones: Vec<Zone>,
    /// Nodes in each zone.
    pub nodes_per_zone: u8,
    /// What its nodes are, in the provider's words, such as `m5.xlarge`; the provider's usual one when none is named.
    pub node_type: Option<String>,
    /// Its ranges; no two cells that can reach each other share an address.
    pub ranges: Ranges,
    /// How its agent comes to the hub.
    pub registration: Registration,
}

/// The ranges of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// Nodes.
    pub nodes: Ipv4Net,
    /// Pods.
    pub pods: Ipv4Net,
    /// Cluster addresses of services.
    pub services: Ipv4Net,
}

/// How a new cell's agent comes to the hub, once.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    /// The hub's API server, as a URL.
    pub hub: String,
    /// The authority of the hub's API server, as PEM.
    pub authority: String,
    /// What buys one client certificate, `id.secret`; never to be logged.
    pub token: String,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_into_any_tag() {
        for text in ["a", "7b9f1c36-9c26-4bb4-8c34-8f3b7a2c4d1e", "cell-2"] {
            assert_eq!(text.parse::<Token>().unwrap().as_str(), text);
        }
        for text in ["", "A", "a b", "a/b", "ä", &"a".repeat(41)] {
            assert_eq!(text.parse::<Token>(), Err(InvalidToken(text.to_owned())));
        }
    }

    #[test]
    fn the_secret_is_in_no_log() {
        let registration = Registration {
            hub: "https://hub:6443".to_owned(),
            authority: String::new(),
            token: "abcdef.secret".to_owned(),
        };
        assert!(!format!("{registration:?}").contains("secret"));
    }
}
