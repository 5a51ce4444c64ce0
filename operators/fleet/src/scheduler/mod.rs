//! `scheduler`: gives every tenant cluster a cell and keeps its record there.
//!
//! The cell is latched in the status before the record is written, so that no tenant is ever in two cells.
//! It writes metadata and spec of records, never their status, and knows nothing of what runs in a cell.

mod build;
mod catalog;
pub mod choose;
mod controller;
mod decide;
mod error;
mod janitor;
mod observe;
mod planner;
mod status;

#[cfg(test)]
mod tests;

pub use controller::{Settings, run};
pub use error::Error;

/// The controller's name: of its field manager, finalizer, role and metrics.
pub const NAME: &str = "scheduler";
/// The finalizer that the hub keeps on a record until the cell has said that everything is gone.
pub const RECORD_FINALIZER: &str = "skep.dev/cell";
