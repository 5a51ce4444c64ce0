//! The provisioning API: what tenants' programs and the `skep` command talk to, over HTTPS.
//!
//! It turns requests into `TenantCluster`s at the hub and answers from them. It holds no state of its own, so any
//! number of replicas serve side by side; it never reaches into a cell, and never sees a private key of a tenant.

pub mod auth;
pub mod extract;
pub mod fields;
pub mod idempotency;
pub mod limit;
pub mod model;
pub mod openapi;
pub mod problem;
pub mod routes;
pub mod rules;
pub mod serve;
pub mod state;
pub mod telemetry;
pub mod tls;
mod ttl;

pub use serve::{Error, Settings, run};
pub use state::AppState;
