//! What the provider sees and changes outside of machines: cgroups, network, settings of the kernel,
//! and the registry of instances.

pub(crate) mod cgroup;
pub(crate) mod interfaces;
pub(crate) mod network;
pub(crate) mod preflight;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod settings;
