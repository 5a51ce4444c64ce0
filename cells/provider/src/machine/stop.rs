//! The orderly end of a machine: services first asked, then made, to end; containers likewise.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::config::{MachineConfig, SYSTEM};
use super::{log, supervise};

/// How long a service may take to end.
const SERVICE_GRACE: Duration = Duration::from_secs(3);
/// How long all containers together may take to end.
const CONTAINER_GRACE: Duration = Duration::from_secs(4);
/// How often is looked whether they have.
const POLL: Duration = Duration::from_millis(20);

/// Ends one service.
pub(super) fn end_service(name: &str, pid: Pid) {
    for (signal, grace) in [(Signal::SIGTERM, SERVICE_GRACE), (Signal::SIGKILL, POLL * 10)] {
        if kill(pid, signal).is_err() {
            return;
        }
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            let ended = supervise::reap().iter().any(|(ended, _)| *ended == pid);
            if ended || kill(pid, None).is_err() {
                return;
            }
            std::thread::sleep(POLL);
        }
        log::say(&format!("{name} did not end on {signal}"));
    }
}

/// Ends every process in the machine's container cgroups.
pub(super) fn end_containers(machine: &MachineConfig) {
    for (signal, grace) in [(Signal::SIGTERM, CONTAINER_GRACE), (Signal::SIGKILL, POLL * 10)] {
        let deadline = Instant::now() + grace;
        let mut asked = BTreeSet::new();
        loop {
            let running = container_processes(machine);
            if running.is_empty() {
                return;
            }
            for pid in running.difference(&asked) {
                // It may have ended in this moment.
                let _ = kill(Pid::from_raw(*pid), signal);
            }
            asked.extend(running);
            supervise::reap();
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The processes in all cgroups of the machine save its services' own.
fn container_processes(machine: &MachineConfig) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for cgroup in &machine.cgroups {
        let Ok(entries) = std::fs::read_dir(cgroup) else {
            continue;
        };
        for entry in entries.flatten().filter(|entry| entry.file_name() != SYSTEM) {
            collect(&entry.path(), &mut found);
        }
    }
    found
}

/// Adds the processes of a cgroup and all below it.
fn collect(dir: &Path, found: &mut BTreeSet<i32>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let processes = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // Processes of other namespaces are shown as 0.
    found.extend(
        processes
            .lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 1),
    );
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}
