//! The fleet as the planner sees it, read from the objects of the hub. Pure: who lists and watches them is elsewhere.
//!
//! What cannot be read is told as a fault and counts as nothing; one bad object never keeps the others from being planned.

mod cells;
mod classes;
mod pools;
mod tenants;

use std::collections::BTreeMap;

use kube::ResourceExt;
use skep_api::{Cell, CellPool, ClusterProfile, ClusterProfileSpec, SizeClass, SizeClassSpec, TenantCluster};
use skep_planner::document::Fault;
use skep_planner::model::{Input, Seconds};
use skep_planner::{Policy, State};

/// The objects of the hub that a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Pools.
    pub pools: Vec<CellPool>,
    /// Cells.
    pub cells: Vec<Cell>,
    /// Profiles by name.
    pub profiles: BTreeMap<String, ClusterProfileSpec>,
    /// Size classes by name.
    pub classes: BTreeMap<String, SizeClassSpec>,
    /// Tenants.
    pub tenants: Vec<TenantCluster>,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct View {
    /// What the planner is given.
    pub input: Input,
    /// What could not be read, by field.
    pub faults: Vec<Fault>,
}

impl Objects {
    /// What was listed or cached of each kind.
    pub fn new(
        pools: Vec<CellPool>,
        cells: Vec<Cell>,
        profiles: Vec<ClusterProfile>,
        classes: Vec<SizeClass>,
        tenants: Vec<TenantCluster>,
    ) -> Self {
        let profiles = profiles
            .into_iter()
            .map(|profile| (profile.name_any(), profile.spec));
        let classes = classes.into_iter().map(|class| (class.name_any(), class.spec));
        Self {
            pools,
            cells,
            profiles: profiles.collect(),
            classes: classes.collect(),
            tenants,
        }
    }

    /// Reads everything as it is at a time, in seconds since 1970.
    pub fn view(&self, now: Seconds) -> View {
        let mut faults = Vec::new();
        let sizes = classes::Sizes::new(self, &mut faults);
        let pools = pools::read(self, &mut faults);
        let cells = cells::read(self, &pools, &mut faults);
        let tenants = tenants::read(self, &sizes, &mut faults);
        View {
            input: Input {
                now,
                policy: Policy::default(),
                classes: sizes.classes,
                pools,
                cells,
                tenants,
            },
            faults,
        }
    }
}

impl View {
    /// The state that plans are made from.
    pub fn state(self) -> State {
        State::new(self.input)
    }
}

#[cfg(test)]
mod tests;
