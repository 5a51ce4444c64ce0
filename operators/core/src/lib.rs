//! The vocabulary every other crate shares: names, versions, host names, ranges and condition reasons.
//!
//! Nothing here knows Kubernetes clients, time or I/O: a value that parses is right, and stays right.

pub mod identity;
pub mod labels;
pub mod names;
pub mod network;
pub mod quantity;
pub mod reasons;
pub mod registration;
pub mod version;

pub use identity::{Cpid, Endpoint};
pub use names::{CellName, ClusterName, Domain, ProjectName, Region, Zone};
pub use network::TenantNetwork;
pub use registration::{KeyName, Registration};
pub use version::KubernetesVersion;

/// The API group of every kind of the platform.
pub const GROUP: &str = "skep.dev";
/// The namespace of the platform's own pods.
pub const SYSTEM_NAMESPACE: &str = "skep-system";
/// The group that a tenant's users are put in; never `system:masters`.
pub const TENANT_ADMINS: &str = "skep:tenant-admins";
/// The group of every cell's agent at the hub.
pub const CELL_AGENTS: &str = "skep:cells";
/// The group of those who hold a registration token, as the API server's bootstrap authenticator puts them in.
pub const REGISTERING: &str = "system:bootstrappers:skep";
