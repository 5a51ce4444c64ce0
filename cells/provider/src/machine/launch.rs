//! The first stage: makes a machine's namespaces and starts its process 1 in them.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::setsid;

use super::{MachineConfig, STAGE, log};
use crate::error::Error;

/// Enters the network namespace and the cgroups, makes the other namespaces, starts process 1.
///
/// Returns as soon as that one runs; it is then no one's child and outlives every terminal.
pub(super) fn run(machine: &MachineConfig) -> Result<(), Error> {
    // A process that leads a group already, as one started by a shell, only lacks the new session.
    let _ = setsid();
    for cgroup in machine.system_cgroups() {
        let file = cgroup.join("cgroup.procs");
        std::fs::write(&file, "0").map_err(Error::io("enter cgroup through", file))?;
    }
    let netns = File::open(&machine.netns).map_err(Error::io("open", &machine.netns))?;
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(Error::system("enter the network namespace"))?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .map_err(Error::system("make a machine's namespaces"))?;
    let log = log::open(&machine.log, "machine")?;
    let errors = log.try_clone().map_err(Error::io("share", &machine.log))?;
    let program = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe"))?;
    let mut args = std::env::args_os();
    let name = args.next();
    let mut command = Command::new(&program);
    if let Some(name) = name {
        command.arg0(name);
    }
    command
        .args(args)
        .env(STAGE, "init")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(Error::io("start", program))?;
    Ok(())
}
