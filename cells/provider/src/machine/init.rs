//! Process 1 of a machine: sets the machine up, then supervises its services until it is told to stop.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::sethostname;

use super::supervise::Supervisor;
use super::{MachineConfig, log, mounts};
use crate::error::Error;

/// Open files that services may have, where the machine allows as many.
const OPEN_FILES: u64 = 1 << 20;

/// Runs the machine until it is stopped.
pub(super) fn run(machine: &MachineConfig) -> Result<(), Error> {
    log::say(&format!("machine {} starts", machine.name));
    let supervisor = Supervisor::new(machine)?;
    let outcome = set_up(machine).and_then(|()| supervisor.run());
    match &outcome {
        Ok(()) => log::say(&format!("machine {} stopped", machine.name)),
        Err(error) => log::say(&format!("machine {} ends: {}", machine.name, chain(error))),
    }
    outcome
}

/// Everything before the first service.
fn set_up(machine: &MachineConfig) -> Result<(), Error> {
    sethostname(&machine.name).map_err(Error::system("set the host name"))?;
    mounts::make(machine)?;
    for sysctl in &machine.sysctls {
        let path = format!("/proc/sys/{}", sysctl.path);
        std::fs::write(&path, &sysctl.value).map_err(Error::io("write", path))?;
    }
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::system("read the limit of open files"))?;
    let files = hard.min(OPEN_FILES);
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).map_err(Error::system("raise the limit of open files"))
}

/// An error with all its causes, for a log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
