//! Profiles and size classes, and how a tenant's control plane is resolved from them.
//!
//! Pure: it renders, parses and compares; which profile, class, version and cell a tenant gets is decided
//! elsewhere.

mod defaults;
mod parts;
mod render;
mod resolve;
mod revision;

pub use defaults::{Defaults, DefaultsError, Offer, defaults, offered};
pub use parts::{Pair, Part, PartError, Surroundings, parts};
pub use resolve::{ResolveError, Tenant, resolve};
pub use revision::revision;
