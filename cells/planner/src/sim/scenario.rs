//! A scenario: fixed parameters of a pool, its tenants and what happens to them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::document::{CellDocument, ClassDocument, Document, DocumentError, Fault, PoolDocument, read};
use crate::model::{Class, Input, Name};
use crate::policy::Policy;

/// A scenario file. An unknown key is refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub about: String,
    /// How long it goes on, in days.
    pub days: u32,
    /// Steps of a day.
    #[serde(default = "four")]
    pub steps_a_day: u32,
    /// Seeds that it is run with.
    pub seeds: Vec<u64>,
    /// How our strategy decides; what is left out has its default.
    #[serde(default)]
    pub policy: Policy,
    /// The size classes.
    pub classes: BTreeMap<Class, ClassDocument>,
    /// The pool.
    pub pool: PoolDocument,
    /// Cells at the beginning.
    pub cells: u32,
    /// The least lead time by the pool's, 0 to 1: a cell is ready after a time between.
    #[serde(default = "four_fifths")]
    pub least_lead: f64,
    /// Tenants.
    pub tenants: Tenants,
    /// Days of sudden arrivals.
    #[serde(default)]
    pub bursts: Vec<Burst>,
    /// Zones that are lost for a time.
    #[serde(default)]
    pub zone_losses: Vec<ZoneLoss>,
    /// Times in which cells do not report.
    #[serde(default)]
    pub stale_reports: Vec<StaleReports>,
}

fn four() -> u32 {
    4
}

fn four_fifths() -> f64 {
    0.8
}

/// How tenants come, grow and go.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenants {
    /// How many there are at the beginning.
    pub initial: u32,
    /// How many come a day, at the beginning.
    pub arrivals_a_day: f64,
    /// By how much arrivals grow in a year; 0.5 is half more.
    #[serde(default)]
    pub arrivals_growth: f64,
    /// How long a tenant lives on average, in days.
    pub lifetime_days: f64,
    /// Tenants of one account on average.
    #[serde(default = "ten")]
    pub per_account: f64,
    /// The deviation of the logarithm of tenants' sizes around their class's prior.
    pub size_spread: f64,
    /// The share of tenants that grow.
    pub growing: f64,
    /// How much of its size a growing tenant gains a day.
    pub growth_a_day: f64,
    /// The size, by a small class's prior, at which a tenant stops growing.
    pub most_growth: f64,
    /// The deviation of a tenant's load around its size, as a share.
    pub noise: BTreeMap<crate::resource::Resource, f64>,
    /// How much of a tenant's noise is common to all.
    #[serde(default)]
    pub common_noise: f64,
    /// Load at weekends by that of other days.
    pub weekend: f64,
    /// Nodes of a tenant of a small class's prior.
    pub nodes: f64,
}

fn ten() -> f64 {
    10.0
}

/// Tenants that come on one day beside the others.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Burst {
    /// The day.
    pub day: u32,
    /// How many.
    pub tenants: u32,
}

/// A zone that is lost.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneLoss {
    /// The day.
    pub day: u32,
    /// For how many days.
    pub days: u32,
    /// The zone.
    pub zone: Name,
}

/// A time without reports.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaleReports {
    /// The day.
    pub day: u32,
    /// For how many days.
    pub days: u32,
    /// The share of cells, 0 to 1.
    pub share: f64,
}

/// What is wrong with a scenario file.
pub type ScenarioError = DocumentError;

/// The most tenants that may ever come: more would not fit into memory.
const MOST_TENANTS: f64 = 1e7;
/// The name of the pool.
pub(super) const POOL: &str = "pool";

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// An unknown or missing key with its line, or every field that is wrong.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = read(text)?;
        let faults = scenario.faults();
        if !faults.is_empty() {
            return Err(DocumentError::Fields(faults));
        }
        scenario.input(&scenario.policy)?;
        Ok(scenario)
    }

    /// The pool with its first cells and without tenants.
    pub(super) fn input(&self, policy: &Policy) -> Result<Input, DocumentError> {
        let cell = CellDocument {
            pool: POOL.into(),
            phase: crate::model::Phase::Active,
            ready: true,
            reported: 0,
            zones: None,
            taints: std::collections::BTreeSet::new(),
            switches: Vec::new(),
        };
        let cells = (0..self.cells).map(|number| (cell_name(number), cell.clone()));
        let document = Document {
            now: 0,
            policy: *policy,
            classes: self.classes.clone(),
            pools: BTreeMap::from([(Name::from(POOL), self.pool.clone())]),
            cells: cells.collect(),
            tenants: BTreeMap::new(),
        };
        document.check()
    }

    fn faults(&self) -> Vec<Fault> {
        let Tenants {
            initial,
            arrivals_a_day,
            arrivals_growth,
            lifetime_days,
            per_account,
            size_spread,
            growing,
            growth_a_day,
            most_growth,
            noise,
            common_noise,
            weekend,
            nodes,
        } = &self.tenants;
        let mut faults = Vec::new();
        let mut within = |field: &str, value: f64, least: f64, most: f64| {
            if !(least..=most).contains(&value) {
                faults.push(Fault::new(
                    field,
                    format!("{value} is not from {least} to {most}"),
                ));
            }
        };
        within("days", f64::from(self.days), 1.0, 3660.0);
        within("stepsADay", f64::from(self.steps_a_day), 1.0, 24.0);
        within("cells", f64::from(self.cells), 1.0, 10_000.0);
        within("leastLead", self.least_lead, 0.0, 1.0);
        within("tenants.initial", f64::from(*initial), 0.0, 1e6);
        within("tenants.arrivalsADay", *arrivals_a_day, 0.0, 1e5);
        within("tenants.arrivalsGrowth", *arrivals_growth, -1.0, 100.0);
        within("tenants.lifetimeDays", *lifetime_days, 1.0, 1e6);
        within("tenants.perAccount", *per_account, 1.0, 1e6);
        within("tenants.sizeSpread", *size_spread, 0.0, 3.0);
        within("tenants.growing", *growing, 0.0, 1.0);
        within("tenants.growthADay", *growth_a_day, 0.0, 1.0);
        within("tenants.mostGrowth", *most_growth, 1.0, 1e4);
        within("tenants.commonNoise", *common_noise, 0.0, 1.0);
        within("tenants.weekend", *weekend, 0.0, 10.0);
        within("tenants.nodes", *nodes, 0.0, 1e4);
        for (r, value) in noise {
            within(&format!("tenants.noise.{r}"), *value, 0.0, 3.0);
        }
        for (position, times) in self.stale_reports.iter().enumerate() {
            within(&format!("staleReports[{position}].share"), times.share, 0.0, 1.0);
        }
        for (position, burst) in self.bursts.iter().enumerate() {
            within(
                &format!("bursts[{position}].tenants"),
                f64::from(burst.tenants),
                0.0,
                1e6,
            );
        }
        let come =
            f64::from(*initial) + arrivals_a_day * f64::from(self.days) * (1.0 + arrivals_growth.max(0.0));
        within("tenants", come, 0.0, MOST_TENANTS);
        if self.seeds.is_empty() {
            faults.push(Fault::new("seeds", "there is none"));
        }
        for (position, loss) in self.zone_losses.iter().enumerate() {
            if !self.pool.zones.contains_key(&loss.zone) {
                let message = format!("the pool has no zone {}", loss.zone);
                faults.push(Fault::new(format!("zoneLosses[{position}].zone"), message));
            }
        }
        faults
    }
}

/// The name of a cell, by its number.
pub(super) fn cell_name(number: u32) -> Name {
    Name::from(format!("cell-{number:04}"))
}
