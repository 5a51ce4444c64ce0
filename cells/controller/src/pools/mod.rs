//! Pools: the planner looks at the whole fleet, and each pool says whether its cells suffice, what binds, and what is wanted.
//!
//! Where the pool says so, cells are ordered, and those that were and hold nobody are given back: as `Cell`s with a provider, which
//! the builder has made and removed.

mod controller;
mod fleet;
mod metrics;
mod orders;
mod status;

pub(crate) use controller::run;

/// The controller's name: of its field manager and metrics.
const NAME: &str = "cell-pools";
