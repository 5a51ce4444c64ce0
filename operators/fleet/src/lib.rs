//! The hub's side of the two-stage pull: every tenant cluster gets a cell and a record there, and every
//! cell's agent its own identity.
//!
//! The hub never opens a connection into a cell: what a cell says arrives as a record's status.

pub mod identity;
pub mod registration;
pub mod scheduler;
pub mod validate;

pub use validate::{Catalog, FieldError, Resolved, Standing, validate};
