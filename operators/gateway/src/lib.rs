//! The gateway of a cell: feeds the Envoys on its nodes with one route for each control plane.
//!
//! Tenants' TLS passes through by host name; no key of a tenant is ever here or in an Envoy.

pub mod board;
pub mod certificates;
pub mod front;
pub mod inventory;
pub mod metrics;
mod observe;
pub mod resources;
pub mod route;
mod run;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod status;
pub mod subscription;
pub mod tls;

pub use run::{CONTROLLER, Error, Settings, run};
