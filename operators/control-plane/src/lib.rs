//! The operator of tenants' control planes in one cell, and the signer of users' certificates.
//!
//! From one `ControlPlane` it makes a namespace, keys, a datastore, apiservers and controllers. It knows
//! neither hub nor gateway, and it never reads a tenant's objects.

mod apply;
mod bootstrap;
pub mod build;
mod cold_start;
mod controller;
mod deletion;
mod inside;
mod knock;
pub mod material;
mod observe;
pub mod secrets;
mod signer;
mod stage;
mod status;
pub mod validate;

use kube::Client;
use skep_runtime::CancellationToken;

/// The name of the controller of control planes; field manager and finalizer derive from it.
pub const CONTROLLER: &str = "control-plane";
/// The name of the controller that signs users' certificates.
pub const SIGNER: &str = "certificate-requests";
/// The group that has every right inside its tenant.
pub const TENANT_ADMINS: &str = "skep:tenant-admins";

/// How both controllers run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Bounds of the reconcile loop.
    pub runtime: skep_runtime::Settings,
}

/// Runs the controller of control planes until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) {
    controller::run(client, settings.runtime, shutdown).await;
}

/// Runs the signer of users' certificates until `shutdown`.
pub async fn run_signer(client: Client, settings: Settings, shutdown: CancellationToken) {
    signer::run(client, settings.runtime, shutdown).await;
}

#[cfg(test)]
mod fixtures;
