//! Machines started where they do not run, and the way into those that do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Command;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::host::process;
use crate::inside::Inside;
use crate::join::wait_until;
use crate::layout::Layout;
use crate::names::Names;
use crate::node::RUNTIME_SOCKET;

/// A machine's process 1 runs in milliseconds; mounting its volumes takes a second or two.
const MACHINE_LIMIT: Duration = Duration::from_mins(1);

/// What is needed to start machines of an instance.
#[derive(Clone, Copy)]
pub(crate) struct Starter<'a> {
    /// The command that becomes a machine's supervisor.
    pub supervisor: &'a [OsString],
    pub names: &'a Names,
    pub layout: &'a Layout,
    pub hierarchies: &'a Hierarchies,
    /// The distribution's programs.
    pub bin: &'a Path,
}

impl<'a> Starter<'a> {
    /// Starts a machine that does not run; says whether it had to.
    pub(crate) async fn ensure(&self, machine: &str) -> Result<bool, Error> {
        let is_running = || process::machine_init(self.hierarchies, self.names, machine).is_some();
        if is_running() {
            return Ok(false);
        }
        let mut words = self.supervisor.iter();
        let program = words.next().cloned().unwrap_or_default();
        Command::new(program)
            .args(words)
            .arg("--config")
            .arg(self.layout.machine(machine).config())
            .run()
            .await?;
        let hint = format!("see {}", self.log(machine).display());
        wait_until(
            &format!("the start of machine {machine}"),
            MACHINE_LIMIT,
            &hint,
            || Ok(is_running()),
        )
        .await?;
        Ok(true)
    }

    /// Waits until a machine's container runtime answers.
    pub(crate) async fn wait_runtime(&self, machine: &str) -> Result<(), Error> {
        let log = self.layout.machine(machine).log().join("containerd.log");
        let what = format!("the start of the container runtime on {machine}");
        wait_until(&what, MACHINE_LIMIT, &format!("see {}", log.display()), || {
            let inside = self.inside(machine)?;
            Ok(std::os::unix::net::UnixStream::connect(inside.path(RUNTIME_SOCKET)).is_ok())
        })
        .await
    }

    /// The way into a machine that runs.
    pub(crate) fn inside(&self, machine: &str) -> Result<Inside<'a>, Error> {
        let init = process::machine_init(self.hierarchies, self.names, machine);
        let ended = || Error::MachineEnded {
            machine: machine.to_owned(),
            log: self.log(machine),
        };
        Ok(Inside {
            init: init.ok_or_else(ended)?,
            bin: self.bin,
        })
    }

    fn log(&self, machine: &str) -> PathBuf {
        self.layout.machine(machine).log().join("machine.log")
    }
}
