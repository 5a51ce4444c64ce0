//! How an order's ranges are split: one subnet of nodes for each zone, and the address of the first API server.
//!
//! Pure: the same order gives the same subnets, so that a pass that was cut off is taken up where it stopped.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use skep_builder::{Order, ProviderError};
use skep_planner::instance::subnet_addresses;

/// The shortest and the longest prefix of a network or a subnet of EC2.
const PREFIXES: std::ops::RangeInclusive<u8> = 16..=28;
/// Addresses at a subnet's start that EC2 keeps: the network's own, the router's, the resolver's and a spare one.
const KEPT_AT_START: u32 = 4;

/// The split of an order's ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The subnets of nodes, in the order of the zones.
    pub zones: Vec<ZoneLayout>,
}

/// What a zone gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneLayout {
    /// The zone.
    pub zone: String,
    /// The subnet of its nodes.
    pub nodes: Ipv4Net,
    /// The subnet of its pods.
    pub pods: Ipv4Net,
}

impl Layout {
    /// Splits an order's ranges for nodes with so many addresses of pods each, or tells which field of the order cannot be met.
    pub fn of(order: &Order, addresses_per_node: u32) -> Result<Self, ProviderError> {
        check_zones(order)?;
        check_ranges(order)?;
        let nodes = u64::from(order.nodes_per_zone);
        let wanted = [
            ("ranges.nodes", order.ranges.nodes, nodes),
            (
                "ranges.pods",
                order.ranges.pods,
                nodes * u64::from(addresses_per_node),
            ),
        ];
        let mut split = Vec::new();
        for (field, range, addresses) in wanted {
            split.push(subnets(field, range, order.zones.len(), addresses)?);
        }
        let [nodes, pods] = split.try_into().unwrap_or_default();
        let zones = order.zones.iter().zip(nodes).zip(pods);
        let zones = zones.map(|((zone, nodes), pods)| ZoneLayout {
            zone: zone.to_string(),
            nodes,
            pods,
        });
        Ok(Self {
            zones: zones.collect(),
        })
    }

    /// The fixed address of the first node, by which the others find its API server.
    pub fn api(&self) -> Option<Ipv4Addr> {
        let first = self.zones.first()?;
        Some(Ipv4Addr::from(u32::from(first.nodes.network()) + KEPT_AT_START))
    }
}

/// A range in equal parts, one for each zone, with so many addresses to give out at least.
fn subnets(
    field: &'static str,
    range: Ipv4Net,
    zones: usize,
    addresses: u64,
) -> Result<Vec<Ipv4Net>, ProviderError> {
    let bits = u8::try_from(zones.next_power_of_two().trailing_zeros()).unwrap_or(u8::MAX);
    let length = range.prefix_len().saturating_add(bits);
    if !PREFIXES.contains(&length) {
        let message = format!("{range} is too small for {zones} zones: a subnet is a /28 at least");
        return Err(invalid(field, message));
    }
    let admitted = subnet_addresses(u32::from(length));
    if addresses > admitted {
        let message =
            format!("{range} has {admitted} addresses for each of {zones} zones, and {addresses} are needed");
        return Err(invalid(field, message));
    }
    let split = range
        .subnets(length)
        .map_err(|error| invalid(field, error.to_string()))?;
    Ok(split.take(zones).collect())
}

fn check_zones(order: &Order) -> Result<(), ProviderError> {
    let distinct: BTreeSet<String> = order.zones.iter().map(ToString::to_string).collect();
    if order.zones.is_empty() || distinct.len() != order.zones.len() {
        return Err(invalid("zones", "one zone at least, and none twice".to_owned()));
    }
    if order.nodes_per_zone == 0 {
        return Err(invalid("nodesPerZone", "one node at least".to_owned()));
    }
    Ok(())
}

fn check_ranges(order: &Order) -> Result<(), ProviderError> {
    let ranges = &order.ranges;
    for (field, range) in [("ranges.nodes", ranges.nodes), ("ranges.pods", ranges.pods)] {
        if !PREFIXES.contains(&range.prefix_len()) {
            return Err(invalid(field, format!("{range} is no range of EC2: /16 to /28")));
        }
    }
    for (field, one, other) in [
        ("ranges.pods", ranges.pods, ranges.nodes),
        ("ranges.services", ranges.services, ranges.nodes),
        ("ranges.services", ranges.services, ranges.pods),
    ] {
        if one.contains(&other.network()) || other.contains(&one.network()) {
            return Err(invalid(field, format!("{one} overlaps {other}")));
        }
    }
    Ok(())
}

fn invalid(field: &'static str, message: String) -> ProviderError {
    ProviderError::Invalid { field, message }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
pub(crate) mod tests;
