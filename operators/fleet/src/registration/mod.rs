//! `registration`: makes each `RegistrationToken` a bootstrap token that the API server itself knows, and ends it.
//!
//! It writes Secrets and deletes them but never reads one; who registers with a token is judged by `identity`.

mod build;
mod controller;

pub use controller::{Error, Settings, run};

/// The controller's name: of its field manager, role and metrics.
pub const NAME: &str = "registration";
/// How long the bootstrap token of a used-up `RegistrationToken` is left, in seconds: its holder still has to fetch the
/// certificate with it, and an agent waits so long for one.
pub const PICKUP_SECONDS: i64 = 300;
