//! Snapshots of etcd in an object store: encrypted, checked on every way, and gone when their time is over.
//!
//! Knows nothing of Kubernetes and nothing of how a snapshot is made or restored. Pure but for the store: `now` is
//! an argument, and chance comes from age alone. A store is shared by clusters. Each has the folder of its [`Owner`],
//! a snapshot is a folder in it, and its manifest is written last: a body without one is not a snapshot.

mod check;
mod error;
mod keys;
mod location;
mod manifest;
mod name;
mod read;
mod retention;
mod store;
mod write;

pub use error::{Damage, SnapshotError};
pub use keys::{InvalidKeys, Keys};
pub use location::{Bucket, Credentials, InvalidLocation, Location};
pub use manifest::{About, Fingerprint, Manifest};
pub use name::{InvalidName, Owner, SnapshotId};
pub use store::{Listed, REQUEST_TIMEOUT, Store};

#[cfg(test)]
mod tests;
