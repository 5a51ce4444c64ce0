//! A simulator of years of tenants, with which strategies are compared: seeded, and the same for each of them.
//!
//! Tenants live through the same arrivals, growth and departures whatever a strategy decides, so that only its decisions
//! differ. A day's loads are the truth; a strategy sees what was measured of them.

mod fleet;
mod known;
mod outcome;
mod run;
mod scenario;
mod strategy;

pub use outcome::{Day, Outcome};
pub use run::{Progress, fleet_at_end, simulate};
pub use scenario::{Scenario, ScenarioError};
pub use strategy::Strategy;
