//! The commands that talk to the provisioning API, as any tenant's program could.
//!
//! Nothing here reaches into a cluster with rights that a tenant does not have.

pub mod api;
pub mod cluster;
pub mod context;
pub mod failure;
pub mod kubeconfig;
pub mod output;
pub mod project;
pub mod token;
pub mod wait;

pub use context::{Context, GlobalArgs};
pub use failure::Failure;
