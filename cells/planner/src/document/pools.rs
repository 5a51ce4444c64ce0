//! Pools and cells of a document.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Deserialize;

use super::Fault;
use super::amounts::{MOST_OF_A_ZONE, milli};
use crate::model::{Cell, Class, Name, Phase, Pool, Seconds, Zone};
use crate::resource::{Resource, Vector};

/// A pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolDocument {
    /// The region of its cells.
    pub region: Name,
    /// The jurisdiction of its cells.
    #[serde(default)]
    pub residency: Option<Name>,
    /// Its labels of compliance.
    #[serde(default)]
    pub compliance: BTreeSet<Name>,
    /// Ranges of its cells' nodes, pods and services.
    #[serde(default)]
    pub ranges: Vec<IpNet>,
    /// The zones of a new cell, by name.
    pub zones: BTreeMap<Name, ZoneDocument>,
    /// The class of which each cell keeps room for one tenant more; large when left out, and none when null.
    #[serde(default = "large")]
    pub headroom: Option<Class>,
    /// The price of a cell, in dollars an hour.
    #[serde(default)]
    pub price: f64,
    /// How long an ordered cell takes to be ready, in seconds.
    #[serde(default)]
    pub lead_seconds: Seconds,
    /// The fewest cells.
    #[serde(default)]
    pub minimum: u32,
    /// The most cells.
    #[serde(default = "many")]
    pub maximum: u32,
    /// Cells that the provider's quota still allows; none is without limit.
    #[serde(default)]
    pub quota: Option<u32>,
    /// The most that all cells may cost together, in dollars an hour; none is without limit.
    #[serde(default)]
    pub budget: Option<f64>,
    /// Whether ordering was stopped by hand.
    #[serde(default)]
    pub stopped: bool,
    /// Whether plans are shown and not carried out.
    #[serde(default)]
    pub shadow: bool,
    /// Whether it was short of cells last time.
    #[serde(default)]
    pub short: bool,
    /// What its tenants took at the end of each day, the oldest first, in units.
    #[serde(default)]
    pub history: Vec<BTreeMap<Resource, f64>>,
}

fn many() -> u32 {
    1000
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the default of a field that may be none"
)]
fn large() -> Option<Class> {
    Some(Class::Large)
}

/// A zone of a cell.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneDocument {
    /// What it has, in units.
    pub capacity: BTreeMap<Resource, f64>,
    /// What the cell itself takes of it, in units.
    #[serde(default)]
    pub system: BTreeMap<Resource, f64>,
    /// Whether it is lost at the moment.
    #[serde(default)]
    pub lost: bool,
}

/// A cell.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CellDocument {
    /// Its pool.
    pub pool: Name,
    /// What becomes of it.
    #[serde(default = "active")]
    pub phase: Phase,
    /// Whether it says that it is ready.
    #[serde(default = "yes")]
    pub ready: bool,
    /// When it last reported.
    #[serde(default)]
    pub reported: Seconds,
    /// Its zones as it reports them; the pool's when left out.
    #[serde(default)]
    pub zones: Option<BTreeMap<Name, ZoneDocument>>,
    /// What tenants must tolerate.
    #[serde(default)]
    pub taints: BTreeSet<Name>,
    /// Times of its switches.
    #[serde(default)]
    pub switches: Vec<Seconds>,
}

fn active() -> Phase {
    Phase::Active
}

fn yes() -> bool {
    true
}

/// Checks pools; no two may claim one range.
pub(super) fn pools(
    documents: BTreeMap<Name, PoolDocument>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<Name, Pool> {
    let mut claimed: Vec<(IpNet, Name)> = Vec::new();
    let mut pools = BTreeMap::new();
    for (name, document) in documents {
        for range in &document.ranges {
            let overlaps = |(other, _): &&(IpNet, Name)| other.contains(range) || range.contains(other);
            if let Some((other, owner)) = claimed.iter().find(overlaps) {
                let message = format!("{range} overlaps with {other} of pool {owner}");
                faults.push(Fault::new(format!("pools.{name}.ranges"), message));
            }
        }
        claimed.extend(document.ranges.iter().map(|range| (*range, name.clone())));
        let pool = document.check(&name, faults);
        pools.insert(name, pool);
    }
    pools
}

impl PoolDocument {
    /// Checks it; what is wrong counts as nothing and is named.
    pub fn check(self, name: &Name, faults: &mut Vec<Fault>) -> Pool {
        let field = format!("pools.{name}");
        let template = match zones(&self.zones) {
            Ok(zones) => zones,
            Err(fault) => {
                faults.push(Fault::new(format!("{field}.zones"), fault));
                Vec::new()
            }
        };
        let mut amount = |part: &str, value: f64| {
            if let Err(message) = milli(value, MOST_OF_A_ZONE) {
                faults.push(Fault::new(format!("{field}.{part}"), message));
            }
        };
        amount("price", self.price);
        self.budget
            .into_iter()
            .for_each(|budget| amount("budget", budget));
        for (day, amounts) in self.history.iter().enumerate() {
            for (r, value) in amounts {
                amount(&format!("history[{day}].{r}"), *value);
            }
        }
        if self.lead_seconds < 0 {
            faults.push(Fault::new(format!("{field}.leadSeconds"), "it is below 0"));
        }
        if self.minimum > self.maximum {
            let message = format!("{} is more than the maximum, {}", self.minimum, self.maximum);
            faults.push(Fault::new(format!("{field}.minimum"), message));
        }
        let day =
            |amounts: &BTreeMap<Resource, f64>| Vector::from_fn(|r| amounts.get(&r).copied().unwrap_or(0.0));
        Pool {
            name: name.clone(),
            region: self.region,
            residency: self.residency,
            compliance: self.compliance,
            ranges: self.ranges,
            template,
            headroom: self.headroom,
            price: self.price,
            lead_seconds: self.lead_seconds,
            minimum: self.minimum,
            maximum: self.maximum,
            quota: self.quota,
            budget: self.budget,
            is_stopped: self.stopped,
            is_shadow: self.shadow,
            returns_idle: false,
            is_short: self.short,
            history: self.history.iter().map(day).collect(),
        }
    }
}

/// Checks cells; what is wrong in a report closes the cell.
pub(super) fn cells(
    documents: BTreeMap<Name, CellDocument>,
    pools: &BTreeMap<Name, Pool>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<Name, Cell> {
    let mut cells = BTreeMap::new();
    for (name, document) in documents {
        if let Some(pool) = pools.get(&document.pool) {
            cells.insert(name, document.check(pool));
        } else {
            let message = format!("there is no pool {}", document.pool);
            faults.push(Fault::new(format!("cells.{name}.pool"), message));
        }
    }
    cells
}

impl CellDocument {
    /// A cell of a pool; what is wrong in its report is its fault.
    pub fn check(self, pool: &Pool) -> Cell {
        let reported = match &self.zones {
            None => Ok(pool.template.clone()),
            Some(documents) => zones(documents),
        };
        let missing = |zones: &[Zone]| {
            let is_missing = |zone: &&Zone| !zones.iter().any(|own| own.name == zone.name);
            pool.template
                .iter()
                .find(is_missing)
                .map(|zone| format!("zone {} is missing", zone.name))
        };
        let (zones, fault) = match reported {
            Ok(zones) => {
                let fault = missing(&zones);
                (zones, fault)
            }
            Err(fault) => (pool.template.clone(), Some(fault)),
        };
        Cell {
            pool: self.pool,
            phase: self.phase,
            is_ready: self.ready,
            reported: self.reported,
            fault,
            zones,
            headroom: pool.headroom,
            taints: self.taints,
            switches: self.switches,
            is_kept: false,
        }
    }
}

/// Zones by name, or what is wrong with them.
fn zones(documents: &BTreeMap<Name, ZoneDocument>) -> Result<Vec<Zone>, String> {
    if documents.is_empty() || documents.len() > usize::from(u8::MAX) {
        return Err(format!("{} zones are not from 1 to 255", documents.len()));
    }
    let zone = |(name, document): (&Name, &ZoneDocument)| {
        let amounts = |part: &str, amounts: &BTreeMap<Resource, f64>| {
            let mut vector = Vector::splat(0);
            for (r, amount) in amounts {
                vector[*r] = milli(*amount, MOST_OF_A_ZONE)
                    .map_err(|message| format!("{part} of {r} in zone {name}: {message}"))?;
            }
            Ok::<_, String>(vector)
        };
        Ok(Zone {
            name: name.clone(),
            capacity: amounts("capacity", &document.capacity)?,
            system: amounts("system", &document.system)?,
            known: Vector::from_fn(|r| document.capacity.contains_key(&r)),
            is_lost: document.lost,
        })
    };
    documents.iter().map(zone).collect()
}
