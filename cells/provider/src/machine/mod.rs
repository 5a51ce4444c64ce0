//! A machine: a process tree in its own network, mount, process, host-name and IPC namespaces.
//!
//! This module is what runs *as* a machine's supervisor. It is configured by one file, talks to
//! nobody, and must not depend on the program that started it staying alive.

mod config;
mod init;
mod launch;
mod log;
mod mounts;
mod stop;
mod supervise;

use std::path::Path;

pub(crate) use config::{Bind, MachineConfig, Service, Sysctl, Volume};

use crate::error::Error;

/// Set for the process that is to be a machine's first one.
const STAGE: &str = "SKEP_MACHINE_STAGE";

/// Becomes the supervisor of the machine that `config` describes.
///
/// Called twice for each machine: the first process makes the namespaces, starts the second one in
/// them and returns; the second is the machine's process 1 and returns when the machine was stopped.
/// Must be called on the main thread, before any other thread is started: it blocks signals.
pub fn run_machine(config: &Path) -> Result<(), Error> {
    let machine = MachineConfig::read(config)?;
    if std::env::var_os(STAGE).is_some() {
        init::run(&machine)
    } else {
        launch::run(&machine)
    }
}
