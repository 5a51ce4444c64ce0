//! Pools: the planner looks at the whole fleet, and each pool says whether its cells suffice, what binds, and what is wanted.
//!
//! It reads and tells; nothing is built or emptied here.

mod controller;
mod fleet;
mod metrics;
mod status;

pub(crate) use controller::run;

/// The controller's name: of its field manager and metrics.
const NAME: &str = "cell-pools";
