//! Instance types: what a node of each gives to a zone, by the way that pods get their addresses, and its price.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::document::{DocumentError, read};

/// The table that is shipped, with the dates of its prices and limits.
const TABLE: &str = include_str!("../instances.yaml");
/// Addresses of a prefix, a /28.
const PREFIX: u32 = 16;
/// The most pods of a node with prefixes: below and from so many vCPUs (the provider's own recommendation).
const PODS_WITH_PREFIXES: (u32, u32, u32) = (110, 30, 250);
/// Addresses of a subnet that the provider keeps for itself.
const KEPT_BY_SUBNET: u64 = 5;

/// Instance types, with the dates of what is said about them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceTypes {
    /// The region of the prices.
    pub region: String,
    /// The day of the prices.
    pub prices_of: String,
    /// The day of the limits.
    pub limits_of: String,
    /// The types by name.
    pub types: BTreeMap<String, InstanceType>,
}

/// One instance type.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceType {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Network interfaces.
    pub interfaces: u32,
    /// IPv4 addresses of each interface, its own among them.
    pub addresses: u32,
    /// Interfaces that hang on a trunk.
    pub branches: u32,
    /// The price, in dollars an hour.
    pub price: f64,
}

/// How pods get their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// AWS VPC CNI with single addresses.
    Addresses,
    /// AWS VPC CNI with prefixes.
    Prefixes,
    /// Terway with an interface for each pod.
    Exclusive,
    /// Terway with interfaces that pods share.
    Shared,
    /// Terway with so many interfaces used otherwise, and the rest on a trunk.
    Trunk {
        /// Interfaces that are not on the trunk; two at least.
        kept: u32,
    },
}

impl InstanceTypes {
    /// The table that is shipped.
    ///
    /// # Errors
    /// Never for the shipped one, which a test reads.
    pub fn shipped() -> Result<Self, DocumentError> {
        read(TABLE)
    }
}

impl InstanceType {
    /// How many pods a node may run.
    ///
    /// Sources: amazon-vpc-cni-k8s (`ENI × (IPv4 per ENI − 1) + 2`; two pods need no address of their own) and Terway's
    /// quotas of its modes.
    pub fn pods(&self, network: Network) -> u32 {
        let Self {
            vcpus,
            interfaces,
            addresses,
            branches,
            ..
        } = *self;
        let further = interfaces.saturating_sub(1);
        match network {
            Network::Addresses => interfaces * addresses.saturating_sub(1) + 2,
            Network::Prefixes => {
                let (few, from, many) = PODS_WITH_PREFIXES;
                let most = if vcpus < from { few } else { many };
                (interfaces * addresses.saturating_sub(1) * PREFIX + 2).min(most)
            }
            Network::Exclusive => further,
            Network::Shared => further * addresses,
            Network::Trunk { kept } => (interfaces + branches).saturating_sub(kept.max(2)),
        }
    }
}

/// Addresses of a subnet that can be given out; 0 for a length that no subnet has.
pub fn subnet_addresses(prefix_length: u32) -> u64 {
    let bits = 32_u32.saturating_sub(prefix_length);
    (1_u64 << bits).saturating_sub(KEPT_BY_SUBNET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_as_the_providers_tables_say() {
        let table = InstanceTypes::shipped().unwrap();
        let pods = |name: &str, network| table.types[name].pods(network);
        for (name, plain, prefixes) in [
            ("m5.large", 29, 110),
            ("m5.xlarge", 58, 110),
            ("m5.4xlarge", 234, 110),
            ("m5.8xlarge", 234, 250),
            ("m5.24xlarge", 737, 250),
        ] {
            assert_eq!(pods(name, Network::Addresses), plain, "{name}");
            assert_eq!(pods(name, Network::Prefixes), prefixes, "{name}");
        }
        assert_eq!(pods("m5.xlarge", Network::Exclusive), 3);
        assert_eq!(pods("m5.xlarge", Network::Shared), 45);
        assert_eq!(pods("m5.xlarge", Network::Trunk { kept: 4 }), 18);
        assert_eq!(pods("m5.xlarge", Network::Trunk { kept: 0 }), 20);
    }

    #[test]
    fn every_price_and_limit_is_there_and_grows_with_the_size() {
        let table = InstanceTypes::shipped().unwrap();
        assert!(table.types.len() >= 16);
        for (name, one) in &table.types {
            assert!(one.price > 0.0 && one.vcpus > 0 && one.memory_mib > 0, "{name}");
            let by_vcpu = one.price / f64::from(one.vcpus);
            assert!((0.042..0.0481).contains(&by_vcpu), "{name}: {by_vcpu}");
        }
    }

    #[test]
    fn a_subnet_keeps_five_addresses() {
        assert_eq!([24, 28, 32, 40].map(subnet_addresses), [251, 11, 0, 0]);
    }
}
