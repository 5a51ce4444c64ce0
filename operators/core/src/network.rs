//! A tenant's address ranges and the rules that they must keep.
//!
//! It decides on given ranges alone; who owns which range is the caller's knowledge.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// The address behind the Service `kubernetes` in every tenant: each node's own proxy holds it.
///
/// From 198.18.0.0/15, set aside for tests by RFC 2544, outside the ranges that tenants get by default. Kubernetes
/// refuses link-local and loopback addresses in endpoints.
pub const NODE_API_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 19, 254, 1);
/// The port of it: an apiserver's own, so that the Service needs no other target.
pub const NODE_API_PORT: u16 = 6443;
/// The gateway's port for connections that bring a host name in TLS.
pub const GATEWAY_PORT: u16 = 443;
/// The gateway's port for connections before which a tenant's node puts a host name.
pub const TUNNEL_PORT: u16 = 8444;

/// The ranges of one tenant, parsed and free of overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantNetwork {
    /// The range of the tenant's pods.
    pub pods: IpNet,
    /// The range of the tenant's services.
    pub services: IpNet,
}

/// Why a tenant's ranges were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A range is no CIDR.
    #[error("{value:?} is no CIDR such as 198.19.0.0/17")]
    NotACidr {
        /// The field of the range.
        field: &'static str,
        /// The text that was given.
        value: String,
    },
    /// A range has bits set behind its prefix.
    #[error("{value} has host bits set; the network is {network}")]
    HostBits {
        /// The field of the range.
        field: &'static str,
        /// The range that was given.
        value: IpNet,
        /// The range that was probably meant.
        network: IpNet,
    },
    /// A range is too small or too large to be of use.
    #[error("a prefix of /{prefix} is out of bounds; it must be between /{widest} and /{narrowest}")]
    Size {
        /// The field of the range.
        field: &'static str,
        /// The prefix length that was given.
        prefix: u8,
        /// The shortest prefix that is allowed.
        widest: u8,
        /// The longest prefix that is allowed.
        narrowest: u8,
    },
    /// Two ranges share addresses.
    #[error("{value} overlaps {other}, {owner}")]
    Overlap {
        /// The field of the range.
        field: &'static str,
        /// The range that was given.
        value: IpNet,
        /// The range that it overlaps.
        other: IpNet,
        /// Whose range the other one is.
        owner: String,
    },
}

impl NetworkError {
    /// The field that is wrong, below the tenant's spec.
    pub fn field(&self) -> &'static str {
        match self {
            Self::NotACidr { field, .. }
            | Self::HostBits { field, .. }
            | Self::Size { field, .. }
            | Self::Overlap { field, .. } => field,
        }
    }
}

const PODS: &str = "network.pods";
const SERVICES: &str = "network.services";

impl TenantNetwork {
    /// Parses a tenant's ranges and checks them against each other and against ranges taken by others.
    ///
    /// Pods: /8 to /24; services: /12 to /28 (kube-apiserver refuses service ranges of more than 20 bits).
    pub fn parse(pods: &str, services: &str, taken: &[(IpNet, &str)]) -> Result<Self, NetworkError> {
        let pods = parse_range(PODS, pods, 8, 24)?;
        let services = parse_range(SERVICES, services, 12, 28)?;
        if is_overlapping(pods, services) {
            let owner = "the tenant's own pods".to_owned();
            return Err(NetworkError::Overlap {
                field: SERVICES,
                value: services,
                other: pods,
                owner,
            });
        }
        let node_api = (
            IpNet::from(IpAddr::V4(NODE_API_ADDRESS)),
            "the address of the API on every node",
        );
        for (field, value) in [(PODS, pods), (SERVICES, services)] {
            let all = || taken.iter().chain([&node_api]);
            if let Some((other, owner)) = all().find(|(other, _)| is_overlapping(value, *other)) {
                let owner = (*owner).to_owned();
                return Err(NetworkError::Overlap {
                    field,
                    value,
                    other: *other,
                    owner,
                });
            }
        }
        Ok(Self { pods, services })
    }

    /// The address of the tenant's `kubernetes` Service: the first of the service range.
    pub fn kubernetes_service(&self) -> Option<IpAddr> {
        self.services.hosts().next()
    }

    /// The address of the tenant's cluster DNS: the tenth of the service range, as kubeadm chooses it.
    pub fn cluster_dns(&self) -> Option<IpAddr> {
        self.services.hosts().nth(9)
    }
}

fn parse_range(field: &'static str, text: &str, widest: u8, narrowest: u8) -> Result<IpNet, NetworkError> {
    let refuse = || NetworkError::NotACidr {
        field,
        value: text.chars().take(60).collect(),
    };
    let value: IpNet = text.parse().map_err(|_| refuse())?;
    if !matches!(value, IpNet::V4(_)) {
        return Err(refuse());
    }
    if value.trunc() != value {
        return Err(NetworkError::HostBits {
            field,
            value,
            network: value.trunc(),
        });
    }
    let prefix = value.prefix_len();
    if !(widest..=narrowest).contains(&prefix) {
        return Err(NetworkError::Size {
            field,
            prefix,
            widest,
            narrowest,
        });
    }
    Ok(value)
}

fn is_overlapping(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_apart_are_taken() {
        let network = TenantNetwork::parse("198.19.0.0/17", "198.19.128.0/20", &[]).unwrap();
        assert_eq!(network.kubernetes_service().unwrap().to_string(), "198.19.128.1");
        assert_eq!(network.cluster_dns().unwrap().to_string(), "198.19.128.10");
    }

    #[test]
    fn each_mistake_names_its_field() {
        let cell: IpNet = "198.18.0.0/19".parse().unwrap();
        let taken = [(cell, "a range of the cell")];
        let cases = [
            ("198.19.0.0", "198.19.128.0/20", PODS),
            ("198.19.0.1/17", "198.19.128.0/20", PODS),
            ("198.19.0.0/30", "198.19.128.0/20", PODS),
            ("fd00::/64", "198.19.128.0/20", PODS),
            ("198.18.0.0/20", "198.19.128.0/20", PODS),
            ("198.19.0.0/17", "nonsense", SERVICES),
            ("198.19.0.0/17", "198.19.64.0/20", SERVICES),
            ("198.19.0.0/17", "198.16.0.0/12", SERVICES),
            ("198.19.0.0/17", "198.19.128.0/8", SERVICES),
            ("198.19.0.0/17", "198.19.240.0/20", SERVICES),
        ];
        for (pods, services, field) in cases {
            let error = TenantNetwork::parse(pods, services, &taken).unwrap_err();
            assert_eq!(error.field(), field, "{pods} {services}: {error}");
        }
    }
}
