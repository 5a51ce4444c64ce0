//! What a machine holds that a platform could leave behind: processes, mounts, namespaces, interfaces,
//! cgroups, loop devices, firewall rules and sysctls.
//!
//! It only reads; a test compares what was there before with what is there after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The sysctls that kubelet, kube-proxy or the platform change.
const SYSCTLS: [&str; 8] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "net/ipv4/ip_forward",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
];

/// Everything of one machine at one moment, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<String, BTreeSet<String>>);

impl Snapshot {
    /// Reads this machine.
    pub fn take() -> Result<Self> {
        let kinds = [
            ("process", processes()?),
            ("mount", mounts()?),
            ("network namespace", names("/run/netns")),
            ("interface", names("/sys/class/net")),
            ("cgroup", cgroups()),
            ("loop device", loop_devices()),
            ("firewall rule", firewall_rules()),
            ("sysctl", sysctls()),
        ];
        Ok(Self(
            kinds
                .into_iter()
                .map(|(kind, found)| (kind.to_owned(), found))
                .collect(),
        ))
    }

    /// What is here and was not there `before`, as `kind: thing`.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let empty = BTreeSet::new();
        let mut left = Vec::new();
        for (kind, found) in &self.0 {
            let known = before.0.get(kind).unwrap_or(&empty);
            left.extend(found.difference(known).map(|thing| format!("{kind}: {thing}")));
        }
        left
    }
}

/// Programs of ours and of the distribution, whichever process started them.
fn processes() -> Result<BTreeSet<String>> {
    let ours = [
        "skep",
        "containerd",
        "containerd-shim-runc-v2",
        "hyperkube",
        "kubelet",
        "kube-apiserver",
        "kube-proxy",
        "kube-controller-manager",
        "kube-scheduler",
        "etcd",
        "envoy",
        "coredns",
        "pause",
        "unshare",
        "nsenter",
    ];
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let path = entry?.path();
        let Ok(command) = fs::read(path.join("cmdline")) else {
            continue;
        };
        let Some(program) = command.split(|byte| *byte == 0).next() else {
            continue;
        };
        let program = String::from_utf8_lossy(program).into_owned();
        let name = Path::new(&program)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| ours.contains(&name.as_str())) {
            found.insert(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    Ok(found)
}

fn mounts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(str::to_owned)
        .collect())
}

fn names(directory: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            // A link such as cpu -> cpu,cpuacct is no cgroup of its own.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.path().display().to_string());
                open.push(entry.path());
            }
        }
    }
    found
}

fn loop_devices() -> BTreeSet<String> {
    let is_bound = |name: &String| {
        Path::new("/sys/block")
            .join(name)
            .join("loop/backing_file")
            .exists()
    };
    names("/sys/block")
        .into_iter()
        .filter(|name| name.starts_with("loop"))
        .filter(is_bound)
        .collect()
}

fn firewall_rules() -> BTreeSet<String> {
    let Ok(output) = Command::new("nft").args(["list", "ruleset"]).output() else {
        return BTreeSet::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn sysctls() -> BTreeSet<String> {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    SYSCTLS
        .iter()
        .filter_map(|name| Some(format!("{name} = {}", read(name)?.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_told_and_what_went_is_not() {
        let snapshot = |things: &[&str]| {
            let things = things.iter().map(|thing| (*thing).to_owned()).collect();
            Snapshot(BTreeMap::from([("mount".to_owned(), things)]))
        };
        let (before, after) = (snapshot(&["/", "/gone"]), snapshot(&["/", "/new"]));
        assert_eq!(after.beyond(&before), ["mount: /new"]);
        assert!(before.beyond(&before).is_empty());
    }

    #[test]
    fn this_machine_can_be_read() {
        let snapshot = Snapshot::take().unwrap();
        assert!(snapshot.0["mount"].contains("/"));
        assert!(snapshot.0["interface"].contains("lo"));
    }
}
