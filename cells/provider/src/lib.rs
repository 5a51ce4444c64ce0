//! The local provider: turns one Linux machine into a cell of real nodes.
//!
//! Each node is a process tree in its own namespaces, made a member of a Kubernetes cluster with
//! kubeadm; a front proxy gives the cell one address. Of tenants it knows the networks and machines of
//! their local workers, and nothing of their objects. It must leave the host as it found it.

mod address;
mod cell;
mod cluster;
mod command;
mod down;
mod error;
mod host;
mod inside;
mod inspect;
mod interface;
mod join;
mod layout;
mod leftovers;
pub mod local;
mod machine;
mod names;
mod node;
mod spec;
mod start;
mod state;
mod up;
pub mod volumes;
pub mod workers;

pub use down::{DownReport, down};
pub use error::{Error, Refusal};
pub use host::preflight::SYSTEM_PACKAGES;
pub use inspect::{Api, Inspection, Machine, inspect};
pub use interface::{is_plugin, run_plugin};
pub use leftovers::Step;
pub use machine::run_machine;
pub use spec::{LocalCell, LocalSpec, Node, Ranges, Role};
pub use up::up;
