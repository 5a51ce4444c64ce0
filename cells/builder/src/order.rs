//! What is asked of a provider: one cell, named by a token.

use std::fmt;
use std::str::FromStr;

use ipnet::Ipv4Net;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use skep_api::Cell;
use skep_core::names::NameError;
use skep_core::{CellName, Domain, Region, Zone};

use crate::ProviderError;

/// The longest token; EC2 takes client tokens of 64 ASCII characters, and some of them tell one request of a cell from another.
const LONGEST_TOKEN: usize = 40;

/// Names an order for ever, so that it may be repeated: whatever a provider makes for it carries it as a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl TryFrom<String> for Token {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One cell as it shall be; the same order with more nodes lets it grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// What it is found by.
    pub token: Token,
    /// What it is called.
    pub cell: CellName,
    /// The pool that it is for.
    pub pool: String,
    /// Where it is.
    pub region: Region,
    /// The domain of its tenants' host names.
    pub domain: Domain,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Nodes.
    pub nodes: Ipv4Net,
    /// Pods.
    pub pods: Ipv4Net,
    /// Cluster addresses of services.
    pub services: Ipv4Net,
}

/// How a new cell's agent comes to the hub, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The hub's API server, as a URL.
    pub hub: String,
    /// The authority of the hub's API server, as PEM.
    pub authority: String,
    /// What buys one client certificate, `id.secret`, and is never to be logged; nothing where the agent has one already.
    pub token: Option<String>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

/// The order that a cell's spec stands for.
///
/// # Errors
/// [`ProviderError::Invalid`] with the field below `spec` that no provider can act upon.
pub(crate) fn order_of(
    cell: &Cell,
    token: Token,
    registration: Registration,
) -> Result<Order, ProviderError> {
    let invalid = |field, message: String| ProviderError::Invalid { field, message };
    let spec = &cell.spec;
    let name = cell.name_any().parse();
    let range = |field, text: &str| {
        let parsed = text.parse::<Ipv4Net>();
        parsed.map_err(|_| {
            invalid(
                field,
                format!("{text:?} is no IPv4 range, and a provider makes no other"),
            )
        })
    };
    let zones = spec.zones.iter().map(|zone| zone.parse::<Zone>());
    let zones = zones.collect::<Result<Vec<_>, _>>();
    Ok(Order {
        token,
        cell: name.map_err(|error: NameError| invalid("metadata.name", error.to_string()))?,
        pool: spec.pool.clone().unwrap_or_default(),
        region: spec
            .region
            .parse()
            .map_err(|error: NameError| invalid("region", error.to_string()))?,
        domain: spec
            .domain
            .parse()
            .map_err(|error: NameError| invalid("domain", error.to_string()))?,
        zones: zones.map_err(|error| invalid("zones", error.to_string()))?,
        nodes_per_zone: spec.nodes_per_zone.unwrap_or(1),
        node_type: None,
        ranges: Ranges {
            nodes: range("network.nodes", &spec.network.nodes)?,
            pods: range("network.pods", &spec.network.pods)?,
            services: range("network.services", &spec.network.services)?,
        },
        registration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_an_order_or_names_the_field_that_is_wrong() {
        let text = "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {name: local-2}
spec:
  pool: local
  region: local
  domain: skep.internal
  zones: [a, b]
  network: {nodes: 198.18.32.0/24, services: 198.18.36.0/22, pods: 198.18.48.0/20}
  gateway: {address: '198.18.32.2:443'}
  provider: local
";
        let order = |text: &str| {
            let registration = Registration {
                hub: String::new(),
                authority: String::new(),
                token: None,
            };
            order_of(
                &serde_saphyr::from_str(text).unwrap(),
                "t".parse().unwrap(),
                registration,
            )
        };
        let right = order(text).unwrap();
        assert_eq!((right.zones.len(), right.nodes_per_zone), (2, 1));
        let grown = text.replace(
            "provider: local",
            "provider: local, nodesPerZone: 3".replace(", ", "\n  ").as_str(),
        );
        assert_eq!(order(&grown).unwrap().nodes_per_zone, 3);
        for (good, bad, field) in [
            ("198.18.48.0/20", "fd00::/64", "network.pods"),
            ("[a, b]", "[A]", "zones"),
            ("region: local", "region: Local", "region"),
        ] {
            let refused = order(&text.replace(good, bad)).unwrap_err();
            assert!(
                matches!(refused, ProviderError::Invalid { field: wrong, .. } if wrong == field),
                "{refused}"
            );
        }
    }

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
            token: Some("abcdef.secret".to_owned()),
        };
        assert!(!format!("{registration:?}").contains("secret"));
    }
}
