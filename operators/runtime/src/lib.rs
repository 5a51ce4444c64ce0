//! What every Skep controller needs to run: writes by server-side apply, conditions, events, leader
//! election, the reconcile loop, telemetry, health endpoints and API clients.
//!
//! This crate knows no kind of Skep and takes no decision about tenants: it must never import an operator.

pub mod apply;
pub mod backoff;
pub mod client;
pub mod conditions;
pub mod controller;
pub mod error;
pub mod events;
pub mod leader;
pub mod manifests;
pub mod metrics;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod wait;

pub use apply::{Applier, ApplyError, Deletion, StatusWrite};
pub use backoff::Backoff;
pub use client::{ClientError, install_crypto};
pub use conditions::{ConditionStatus, Conditions};
pub use controller::{ControllerBuilder, Outcome, Reconcile, Settings, cache};
pub use error::{Categorised, api_category};
pub use events::Events;
pub use leader::{LeaderError, LeaderSettings, Term, run_as_leader};
pub use serve::Readiness;
pub use tokio_util::sync::CancellationToken;
pub use wait::{TimedOut, wait_for};
