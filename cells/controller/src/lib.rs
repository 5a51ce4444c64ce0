//! `cells`: says of each cell whether it is ready, gives its agent a place at the hub and the right to it, and says of each
//! pool whether its cells suffice.
//!
//! It reads check-ins and never talks to a cell. A cell with tenants is not let go.

mod build;
mod controller;
mod error;
mod pools;
mod status;
mod validate;

pub use controller::{Settings, run};
pub use error::Error;

/// The controller's name: of its field manager, finalizer, role and metrics.
pub const NAME: &str = "cells";
/// The role that each agent gets in its cell's namespace.
pub const AGENT_ROLE: &str = "skep:cell-agent";
