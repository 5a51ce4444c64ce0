//! What every provider of cells does, and nothing of how: the planner's orders become meta clusters behind one trait.
//!
//! A provider keeps no state of its own that may be lost: whatever it makes carries the order's token, and is found by it.

mod controller;
mod error;
mod order;
mod provider;
mod ticket;

pub use controller::{Error, Hub, NAME, Settings, run};
pub use error::ProviderError;
pub use order::{Order, Ranges, Registration, Token};
pub use provider::{CellProvider, Deletion, Described, Leak, Quote, Stage};
