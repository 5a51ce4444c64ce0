//! Pools, their cells and the cells' zones.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Class, Name, Seconds};
use crate::policy::Policy;
use crate::resource::{Resource, Vector};

/// A pool: a region's policy for cells of one kind.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// The region of its cells.
    pub region: Name,
    /// The jurisdiction of its cells.
    pub residency: Option<Name>,
    /// Its labels of compliance.
    pub compliance: BTreeSet<Name>,
    /// Ranges that its cells' nodes, pods and services are given.
    pub ranges: Vec<IpNet>,
    /// The zones of a new cell and what each has.
    pub template: Vec<Zone>,
    /// The class of which each cell keeps room for one tenant more; none keeps none.
    pub headroom: Option<Class>,
    /// The price of a cell, in dollars an hour.
    pub price: f64,
    /// How long it takes until an ordered cell is ready: the measured 95th percentile with approval of quota, in seconds.
    pub lead_seconds: Seconds,
    /// The fewest cells.
    pub minimum: u32,
    /// The most cells.
    pub maximum: u32,
    /// Cells that the provider's quota still allows.
    pub quota: Option<u32>,
    /// The most that all cells may cost together, in dollars an hour.
    pub budget: Option<f64>,
    /// Whether ordering was stopped by hand.
    pub is_stopped: bool,
    /// Whether plans are shown and not carried out.
    pub is_shadow: bool,
    /// Whether a cell that holds nobody is given back without a forecast too: its pool waits until it was so for long.
    pub returns_idle: bool,
    /// Whether more cells were found wanting last time: the memory of hysteresis.
    pub is_short: bool,
    /// What its tenants took at the end of each day, the oldest first.
    pub history: Vec<Vector<f64>>,
}

/// A zone of a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    /// Its name.
    pub name: Name,
    /// What it has, in thousandths.
    pub capacity: Vector<u64>,
    /// What the cell itself takes of it, in thousandths.
    pub system: Vector<u64>,
    /// The dimensions that its report names.
    pub known: Vector<bool>,
    /// Whether it is lost at the moment: what it has counts for nothing, and its tenants run in the others.
    pub is_lost: bool,
}

/// What becomes of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It is built.
    Building,
    /// It takes tenants.
    Active,
    /// It keeps its tenants and takes no more.
    Cordoned,
    /// Its tenants leave.
    Draining,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its pool.
    pub pool: Name,
    /// What becomes of it.
    pub phase: Phase,
    /// Whether its agent says that it is ready.
    pub is_ready: bool,
    /// When it last reported.
    pub reported: Seconds,
    /// What is wrong with its report, if something is.
    pub fault: Option<String>,
    /// Its zones, by name.
    pub zones: Vec<Zone>,
    /// The class of which it keeps room for one tenant more.
    pub headroom: Option<Class>,
    /// What tenants must tolerate.
    pub taints: BTreeSet<Name>,
    /// Times of the switches of the last window.
    pub switches: Vec<Seconds>,
    /// Whether it stays whatever would be saved: nobody can give it back.
    pub is_kept: bool,
}

impl Cell {
    /// A cell of a pool, as it is when it was built.
    pub fn from_template(pool: &Pool) -> Self {
        Self {
            pool: pool.name.clone(),
            phase: Phase::Building,
            is_ready: true,
            reported: Seconds::MIN,
            fault: None,
            zones: pool.template.clone(),
            headroom: pool.headroom,
            taints: BTreeSet::new(),
            switches: Vec::new(),
            is_kept: false,
        }
    }

    /// Whether another has the same zones in the same order.
    pub fn has_zones_of(&self, other: &Self) -> bool {
        self.zones
            .iter()
            .map(|zone| &zone.name)
            .eq(other.zones.iter().map(|zone| &zone.name))
    }
}

impl Zone {
    /// What of one dimension tenants may take, in units; below 0 where the system takes more than all.
    pub fn allotted(&self, r: Resource, policy: &Policy) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "capacities are compared to thousandths"
        )]
        let real = |milli: u64| milli as f64 / crate::resource::MILLI;
        policy.kappa * real(self.capacity[r]) - real(self.system[r])
    }
}
