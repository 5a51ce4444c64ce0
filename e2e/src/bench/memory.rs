//! The anonymous memory (`RssAnon`) of processes, found by the container that their cgroup names.
//!
//! Anonymous, because the pages of a program's file are shared by all who run it.

use std::fs;

use anyhow::{Context, Result};

/// Every process of this machine at one moment.
#[derive(Debug, Clone)]
pub struct Census(Vec<Process>);

#[derive(Debug, Clone)]
struct Process {
    pid: i32,
    cgroup: String,
    command: String,
    anonymous: u64,
}

impl Census {
    /// Reads this machine.
    pub fn take() -> Result<Self> {
        let entries = fs::read_dir("/proc").context("cannot read /proc")?;
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // A process that ends meanwhile is left out.
        Ok(Self(pids.filter_map(Process::read).collect()))
    }

    /// Bytes of all processes of a container.
    pub fn container(&self, id: &str) -> u64 {
        self.sum(|process| process.cgroup.contains(id))
    }

    /// The process that a container was started with.
    pub fn first_process(&self, id: &str) -> Option<i32> {
        let inside = self.0.iter().filter(|process| process.cgroup.contains(id));
        inside.map(|process| process.pid).min()
    }

    /// Bytes of what a pod needs beside its containers: what holds its namespaces, and its shim.
    pub fn sandbox(&self, pod_uid: &str, containers: &[&str]) -> u64 {
        let is_container = |process: &Process| containers.iter().any(|id| process.cgroup.contains(id));
        let holders: Vec<&Process> = self
            .0
            .iter()
            .filter(|process| process.cgroup.contains(pod_uid) && !is_container(process))
            .collect();
        let sandboxes: Vec<&str> = holders.iter().filter_map(|process| process.innermost()).collect();
        let shims =
            self.sum(|process| process.is_shim() && sandboxes.iter().any(|id| process.command.contains(id)));
        holders.iter().map(|process| process.anonymous).sum::<u64>() + shims
    }

    fn sum(&self, is_meant: impl Fn(&Process) -> bool) -> u64 {
        let meant = self.0.iter().filter(|process| is_meant(process));
        meant.map(|process| process.anonymous).sum()
    }
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Self {
            pid,
            cgroup: fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?,
            command: String::from_utf8_lossy(&command).replace('\0', " "),
            anonymous: anonymous(pid)?,
        })
    }

    /// The name of the innermost cgroup that is a container's.
    fn innermost(&self) -> Option<&str> {
        let names = self.cgroup.lines().filter_map(|line| line.rsplit('/').next());
        let is_id = |name: &&str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        names.into_iter().find(is_id)
    }

    fn is_shim(&self) -> bool {
        self.command
            .split(' ')
            .next()
            .is_some_and(|program| program.contains("containerd-shim"))
    }
}

/// The anonymous memory of one process in bytes; nothing for one that is gone or the kernel's own.
pub fn anonymous(pid: i32) -> Option<u64> {
    parse_bytes(
        "RssAnon:",
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
    )
}

/// All memory of one process in bytes, pages of files that it shares with others included.
pub fn resident(pid: i32) -> Option<u64> {
    parse_bytes("VmRSS:", &fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_bytes(key: &str, status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    // Exact up to eight pebibytes.
    #[allow(clippy::cast_precision_loss)]
    let exact = bytes as f64;
    exact / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, cgroup: &str, command: &str) -> Process {
        Process {
            pid,
            cgroup: cgroup.to_owned(),
            command: command.to_owned(),
            anonymous: 10,
        }
    }

    #[test]
    fn a_pod_is_its_containers_and_its_sandbox() {
        let (pause, main) = ("a".repeat(64), "b".repeat(64));
        let census = Census(vec![
            process(
                7,
                &format!("4:memory:/skep/x/kubepods/pod123/{pause}\n"),
                "/pause",
            ),
            process(9, &format!("4:memory:/skep/x/kubepods/pod123/{main}\n"), "etcd"),
            process(8, &format!("4:memory:/skep/x/kubepods/pod123/{main}\n"), "etcd"),
            process(
                5,
                "4:memory:/skep/x/containerd\n",
                &format!("/bin/containerd-shim-runc-v2 -id {pause}"),
            ),
            process(6, "4:memory:/other\n", "etcd"),
        ]);
        assert_eq!(
            (census.container(&main), census.first_process(&main)),
            (20, Some(8))
        );
        assert_eq!(census.sandbox("pod123", &[&main]), 20);
    }

    #[test]
    fn the_kernel_tells_kibibytes() {
        assert_eq!(
            parse_bytes("RssAnon:", "Name:\tx\nRssAnon:\t    2048 kB\nRssFile:\t 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(parse_bytes("RssAnon:", "Name:\tkthreadd\n"), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(anonymous(own).unwrap() > 0);
        assert!(resident(own) > anonymous(own));
    }
}
