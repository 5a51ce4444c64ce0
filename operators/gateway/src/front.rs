//! The front of another cell: where its gateway takes connections for its tenants.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use skep_core::network::TUNNEL_PORT;

/// The most characters of a host name.
const LONGEST_NAME: usize = 253;
/// The most characters between two dots of it.
const LONGEST_LABEL: usize = 63;

/// Why an address is no front.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// The port is missing or no number above 0.
    #[error("{0:?} names no port; an address is such as 192.0.2.1:443 or front.example.com:443")]
    Port(String),
    /// The host is neither an address nor a name.
    #[error("{0:?} names no host; an address is such as 192.0.2.1:443 or front.example.com:443")]
    Host(String),
    /// The cell cannot be read as a whole.
    #[error("the cell cannot be read")]
    Unreadable,
}

/// The host of a front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, which each Envoy resolves.
    Name(String),
}

/// A cell's way in, for tenants of it that are reached from another cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    host: Host,
    port: u16,
}

impl Front {
    /// The host that serves both ports.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port for connections that bring a host name in TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for connections before which a host name is put: the same in every cell.
    pub fn tunnel_port(&self) -> u16 {
        TUNNEL_PORT
    }
}

impl FromStr for Front {
    type Err = FrontError;

    fn from_str(value: &str) -> Result<Self, FrontError> {
        let shown = || value.chars().take(80).collect::<String>();
        let (host, port) = value.rsplit_once(':').ok_or_else(|| FrontError::Port(shown()))?;
        let port: u16 = port.parse().map_err(|_| FrontError::Port(shown()))?;
        if port == 0 {
            return Err(FrontError::Port(shown()));
        }
        let host = match value.parse::<SocketAddr>() {
            Ok(address) if !address.ip().is_unspecified() => Host::Address(address.ip()),
            Err(_) if is_name(host) => Host::Name(host.to_owned()),
            _ => return Err(FrontError::Host(shown())),
        };
        Ok(Self { host, port })
    }
}

/// Whether this is a host name; an address with a number too few or too large is none.
fn is_name(host: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_label = |label: &str| {
        let length = 1..=LONGEST_LABEL;
        let is_edged = label.starts_with('-') || label.ends_with('-');
        length.contains(&label.len()) && !is_edged && label.chars().all(is_inner)
    };
    let is_numeric = |label: &str| label.chars().all(|c| c.is_ascii_digit());
    let last = host.rsplit('.').next();
    host.len() <= LONGEST_NAME && host.split('.').all(is_label) && !last.is_none_or(is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_and_names_with_a_port_are_taken() {
        let cases = [
            ("198.18.0.2:443", Host::Address([198, 18, 0, 2].into())),
            ("[fd00::1]:443", Host::Address("fd00::1".parse().unwrap())),
            (
                "front.eu.example.com:443",
                Host::Name("front.eu.example.com".into()),
            ),
            (
                "1-a.elb.eu-west-1.example.com:443",
                Host::Name("1-a.elb.eu-west-1.example.com".into()),
            ),
        ];
        for (text, host) in cases {
            let front: Front = text.parse().unwrap();
            assert_eq!(
                (front.host(), front.port(), front.tunnel_port()),
                (&host, 443, 8444),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for text in [
            "",
            "198.18.0.2",
            "front",
            "198.18.0.2:",
            "198.18.0.2:0",
            "198.18.0.2:65536",
            "a:b",
        ] {
            assert_eq!(text.parse::<Front>(), Err(FrontError::Port(text.into())));
        }
        let hosts = [
            "0.0.0.0:443",
            ":443",
            "198.18.0.256:443",
            "198.18.0:443",
            "fd00::1:443",
            "[::]:443",
            "-a:443",
            "a..b:443",
            "https://front:443",
            "a b:443",
        ];
        for text in hosts {
            assert_eq!(text.parse::<Front>(), Err(FrontError::Host(text.into())));
        }
        assert!(format!("{}.com:443", "a".repeat(64)).parse::<Front>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            if let Ok(front) = text.parse::<Front>() {
                prop_assert!(front.port() > 0);
            }
        }

        #[test]
        fn every_address_is_taken(ip: std::net::Ipv4Addr, port in 1u16..) {
            prop_assume!(!ip.is_unspecified());
            let front: Front = format!("{ip}:{port}").parse().unwrap();
            prop_assert_eq!((front.host(), front.port()), (&Host::Address(ip.into()), port));
        }
    }
}
