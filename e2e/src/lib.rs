//! What the tests against a real platform share: the running platform, its command line and its clients.
//!
//! It drives the platform only through what users have: the `skep` command, the HTTP API and Kubernetes.

pub mod bench;
pub mod containers;
pub mod datastore;
pub mod leftovers;
pub mod object_store;
pub mod platform;
pub mod promises;
pub mod runbook;
pub mod soak;
pub mod tenant;
pub mod worker;

pub use platform::{Output, Platform};
pub use tenant::{Namespace, Tenant};
