//! The address plan: which part of 198.18.0.0/16 an instance has, and what is where in it.
//!
//! 198.18.0.0/15 is the benchmark range of RFC 2544, so local cells clash with no one's network.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::spec::Ranges;

/// How many /19 slots 198.18.0.0/16 has.
pub(crate) const SLOTS: u8 = 8;
/// Links of tenants' networks lie behind the machines' addresses.
const FIRST_LINK: u8 = 128;
/// How many tenants can have workers on one machine.
pub(crate) const MAX_LINKS: u8 = 100;
/// The network of a tenant's workers: the same for each, since none is connected to another.
pub(crate) fn workers() -> Ipv4Net {
    net(Ipv4Addr::new(198, 19, 255, 0), 24)
}

/// The router's address in it.
pub(crate) fn workers_router() -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 255, 1)
}

/// A worker's address in it.
pub(crate) fn worker(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 255, 10 + index)
}

/// The last numbers of addresses in it that pods of the cell take, behind those of workers.
pub(crate) const INTERFACES: RangeInclusive<u8> = 220..=249;

/// The address of such a pod.
pub(crate) fn interface(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 255, number)
}

/// How many /24 pod ranges a slot's /20 has.
pub(crate) const MAX_NODES: u8 = 16;

/// One of the /19 blocks; an instance has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct Slot(u8);

impl TryFrom<u8> for Slot {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        if number < SLOTS {
            Ok(Self(number))
        } else {
            Err(format!("slot {number} is not below {SLOTS}"))
        }
    }
}

impl From<Slot> for u8 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.whole())
    }
}

impl Slot {
    /// Every slot, lowest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    /// The address at an offset of /24 blocks and a last byte.
    fn at(self, block: u8, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0 * 32 + block, last)
    }

    /// The whole block.
    pub(crate) fn whole(self) -> Ipv4Net {
        net(self.at(0, 0), 19)
    }

    /// The addresses of machines.
    pub(crate) fn nodes(self) -> Ipv4Net {
        net(self.at(0, 0), 24)
    }

    /// The addresses of services.
    pub(crate) fn services(self) -> Ipv4Net {
        net(self.at(4, 0), 22)
    }

    /// The addresses of pods.
    pub(crate) fn pods(self) -> Ipv4Net {
        net(self.at(16, 0), 20)
    }

    /// The pods of one node.
    pub(crate) fn pods_of(self, index: u8) -> Ipv4Net {
        net(self.at(16 + index, 0), 24)
    }

    /// The host's end.
    pub(crate) fn host(self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// The front proxy.
    pub(crate) fn front(self) -> Ipv4Addr {
        self.at(0, 2)
    }

    /// The router between the nodes' pods and the host, which is also everyone's default route.
    pub(crate) fn router(self) -> Ipv4Addr {
        self.at(0, 254)
    }

    /// A node machine.
    pub(crate) fn node(self, index: u8) -> Ipv4Addr {
        self.at(0, 11 + index)
    }

    /// The way of a tenant's workers into the cell: their router's address on the bridge.
    pub(crate) fn link(self, number: u8) -> Ipv4Addr {
        self.at(0, FIRST_LINK + number)
    }

    /// The cluster's DNS service.
    pub(crate) fn dns(self) -> Ipv4Addr {
        self.at(4, 10)
    }

    /// The slot that has exactly these ranges.
    pub(crate) fn of(ranges: &Ranges) -> Option<Self> {
        Self::all().find(|slot| slot.ranges() == *ranges)
    }

    /// All three ranges.
    pub(crate) fn ranges(self) -> Ranges {
        Ranges {
            nodes: IpNet::V4(self.nodes()),
            pods: IpNet::V4(self.pods()),
            services: IpNet::V4(self.services()),
        }
    }
}

/// A network whose prefix length is a constant of this module.
fn net(address: Ipv4Addr, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_ends_with_the_range() {
        let last = Slot::try_from(7).unwrap();
        assert_eq!(last.whole().to_string(), "198.18.224.0/19");
        assert_eq!(last.nodes().to_string(), "198.18.224.0/24");
        assert_eq!(last.services().to_string(), "198.18.228.0/22");
        assert_eq!(last.pods().to_string(), "198.18.240.0/20");
        assert_eq!(last.pods_of(15).to_string(), "198.18.255.0/24");
        assert_eq!(last.dns().to_string(), "198.18.228.10");
        assert_eq!(last.node(15).to_string(), "198.18.224.26");
        assert!(Slot::try_from(8).is_err());
    }

    #[test]
    fn only_a_slots_own_ranges_name_it() {
        for slot in Slot::all() {
            assert_eq!(Slot::of(&slot.ranges()), Some(slot));
        }
        let slot = Slot::try_from(2).unwrap();
        let other = Slot::try_from(3).unwrap();
        let mixed = Ranges {
            pods: other.ranges().pods,
            ..slot.ranges()
        };
        assert_eq!(Slot::of(&mixed), None);
    }

    #[test]
    fn nothing_overlaps() {
        for slot in Slot::all() {
            let parts = [slot.nodes(), slot.services(), slot.pods()];
            for (i, one) in parts.iter().enumerate() {
                assert!(slot.whole().contains(one));
                assert!(
                    parts[i + 1..]
                        .iter()
                        .all(|other| !one.contains(other) && !other.contains(one))
                );
            }
            for other in Slot::all().filter(|other| *other != slot) {
                assert!(!slot.whole().contains(&other.whole()));
            }
        }
    }
}
