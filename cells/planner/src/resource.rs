//! The dimensions that a cell can run out of, and vectors over them.
//!
//! Amounts are whole thousandths of the unit, so that sums are the same in whatever order they are made.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// How many dimensions there are.
pub const DIMENSIONS: usize = 14;
/// Thousandths to one unit.
pub const MILLI: f64 = 1000.0;

/// One dimension of capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// Processor, in cores.
    Cpu,
    /// Memory, in MiB.
    Memory,
    /// Pods that nodes may run.
    Pods,
    /// Elastic network interfaces.
    Enis,
    /// Addresses of nodes.
    NodeAddresses,
    /// Addresses of pods.
    PodAddresses,
    /// Addresses of services.
    ServiceAddresses,
    /// Address prefixes.
    Prefixes,
    /// Load balancers.
    LoadBalancers,
    /// Attached volumes.
    Volumes,
    /// Bytes of datastores, in MiB.
    Datastore,
    /// Seats of the meta cluster's API server (its priority and fairness).
    Seats,
    /// Units of the provider's quota.
    Quota,
    /// Money, in dollars an hour.
    Money,
}

impl Resource {
    /// All dimensions, in the order of vectors.
    pub const ALL: [Self; DIMENSIONS] = [
        Self::Cpu,
        Self::Memory,
        Self::Pods,
        Self::Enis,
        Self::NodeAddresses,
        Self::PodAddresses,
        Self::ServiceAddresses,
        Self::Prefixes,
        Self::LoadBalancers,
        Self::Volumes,
        Self::Datastore,
        Self::Seats,
        Self::Quota,
        Self::Money,
    ];

    /// The dimension's name as files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pods => "pods",
            Self::Enis => "enis",
            Self::NodeAddresses => "nodeAddresses",
            Self::PodAddresses => "podAddresses",
            Self::ServiceAddresses => "serviceAddresses",
            Self::Prefixes => "prefixes",
            Self::LoadBalancers => "loadBalancers",
            Self::Volumes => "volumes",
            Self::Datastore => "datastore",
            Self::Seats => "seats",
            Self::Quota => "quota",
            Self::Money => "money",
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A value for each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Vector<T>([T; DIMENSIONS]);

impl<T: Copy> Vector<T> {
    /// The same value in each dimension.
    pub fn splat(value: T) -> Self {
        Self([value; DIMENSIONS])
    }

    /// A value made for each dimension.
    pub fn from_fn(mut make: impl FnMut(Resource) -> T) -> Self {
        Self(Resource::ALL.map(&mut make))
    }

    /// Each dimension with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Resource, T)> + '_ {
        Resource::ALL.into_iter().zip(self.0)
    }
}

impl<T> Index<Resource> for Vector<T> {
    type Output = T;

    fn index(&self, resource: Resource) -> &T {
        &self.0[resource as usize]
    }
}

impl<T> IndexMut<Resource> for Vector<T> {
    fn index_mut(&mut self, resource: Resource) -> &mut T {
        &mut self.0[resource as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_code_spell_a_dimension_alike_and_in_order() {
        for (position, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource as usize, position);
            let spelt = serde_json::to_value(resource).unwrap();
            assert_eq!(spelt, resource.name());
        }
    }
}
