//! Which processes belong to an instance, as `/proc` tells it; no file of ours is believed.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::cgroup::Hierarchies;
use crate::names::{Names, netns_path};

/// How often is looked whether processes have ended.
const POLL: Duration = Duration::from_millis(50);

/// Process 1 of a machine, by its number on the host: the process in the machine's own cgroup that is
/// the first of its process namespace, and in the network namespace that has the machine's name now.
pub(crate) fn machine_init(hierarchies: &Hierarchies, names: &Names, machine: &str) -> Option<i32> {
    let cgroup = format!("{}/system", names.machine_cgroup(machine));
    hierarchies.processes(&cgroup).into_iter().find(|pid| {
        is_first_of_namespace(*pid) && is_alive(*pid) && !is_ending(*pid) && is_in_netns(*pid, machine)
    })
}

/// Whether a process is in the network namespace of this name.
fn is_in_netns(pid: i32, netns: &str) -> bool {
    let own = inode(Path::new(&format!("/proc/{pid}/ns/net")));
    own.is_some() && own == inode(&netns_path(netns))
}

/// When a process was started, to the second and not later than it was.
pub(crate) fn started_at(pid: i32) -> Option<Timestamp> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted from the command's end; the state is the third, the start the 22nd.
    let ticks = stat
        .rsplit_once(") ")?
        .1
        .split(' ')
        .nth(19)?
        .parse::<i64>()
        .ok()?;
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .parse::<i64>()
        .ok()?;
    Timestamp::from_second(boot + ticks.checked_div(ticks_per_second)?).ok()
}

/// What tells one file from every other.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether a process is number 1 in a process namespace directly below ours.
fn is_first_of_namespace(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().skip(1).eq(["1"]))
}

/// Whether a process runs, zombies not counted.
pub(crate) fn is_alive(pid: i32) -> bool {
    state_of(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Whether a process is on its way out: process 1 of a killed machine is so until the last of its own has gone.
fn is_ending(pid: i32) -> bool {
    const PF_EXITING: u32 = 0x4;
    state_of(pid).is_some_and(|(_, flags)| flags & PF_EXITING != 0)
}

/// The state and the flags of a process, from `/proc/PID/stat`.
fn state_of(pid: i32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state follows the command, which is in parentheses and may hold anything; the flags are five later.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(5)?.parse().ok()?))
}

/// The processes, ours not counted, that are in a network namespace.
pub(crate) fn in_netns(netns: &str) -> BTreeSet<i32> {
    let host = inode(Path::new("/proc/self/ns/net"));
    let wanted = inode(&netns_path(netns)).filter(|found| Some(*found) != host);
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    if wanted.is_none() {
        return BTreeSet::new();
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
        })
        .filter(|pid| *pid != own)
        .filter(|pid| inode(Path::new(&format!("/proc/{pid}/ns/net"))) == wanted)
        .collect()
}

/// How long a service may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Ends a machine's service of this program; its supervisor starts it again.
pub(crate) async fn end_service(hierarchies: &Hierarchies, names: &Names, machine: &str, program: &str) {
    let cgroup = format!("{}/system", names.machine_cgroup(machine));
    let is_program = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program)
    };
    let running = hierarchies.processes(&cgroup).into_iter();
    let pids = running.filter(is_program).collect();
    signal(&pids, Signal::SIGTERM);
    wait_gone(&pids, END_LIMIT).await;
}

/// Sends a signal to each; those that are gone are no failure.
pub(crate) fn signal(pids: &BTreeSet<i32>, signal: Signal) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

/// Waits until none of the processes runs; says whether that came in time.
pub(crate) async fn wait_gone(pids: &BTreeSet<i32>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while pids.iter().any(|pid| is_alive(*pid)) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_alive_and_no_first_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_alive(own) && !is_ending(own));
        assert!(!is_first_of_namespace(own));
        assert!(!is_alive(i32::MAX));
        let age = Timestamp::now().as_second() - started_at(own).unwrap().as_second();
        assert!((0..3600).contains(&age), "{age}");
    }
}
