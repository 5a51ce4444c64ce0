//! Settings and directories of the host that a running cell changes, remembered so that the last
//! instance's `down` can put them back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout::RUN_DIR;
use crate::state;

/// Kernel settings that we, a kubelet or kube-proxy write, as paths below `/proc/sys`.
const SYSCTLS: [&str; 13] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
];

/// One API server, kubelet and operator more than the default 128 hold fail with "too many open files".
const INOTIFY: [(&str, u64); 2] = [
    ("fs/inotify/max_user_instances", 8192),
    ("fs/inotify/max_user_watches", 1 << 19),
];

/// Places inside machines that need a directory of the same name on the host.
const MOUNT_POINTS: [&str; 8] = [
    "/etc/kubernetes",
    "/var/lib/kubelet",
    "/var/lib/etcd",
    "/var/lib/skep",
    "/var/lib/skep/netns",
    "/var/lib/skep/volumes",
    "/var/log/pods",
    "/var/log/containers",
];

/// Where `ip netns` keeps its names; it mounts the directory over itself.
const NETNS_DIR: &str = "/run/netns";

/// What was there before the first instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    sysctls: BTreeMap<String, String>,
    /// Directories that were missing.
    made: BTreeSet<PathBuf>,
    /// Whether the directory of network namespaces was a mount.
    netns_mounted: Option<bool>,
}

fn record() -> PathBuf {
    Path::new(RUN_DIR).join("host.json")
}

/// Remembers the host's settings, raises what is too low, and makes the mount points.
pub(crate) fn prepare() -> Result<(), Error> {
    let mut before = state::read::<Before>(&record())?.unwrap_or_default();
    let known = before.clone();
    for path in SYSCTLS {
        if !before.sysctls.contains_key(path)
            && let Some(value) = read_sysctl(path)
        {
            before.sysctls.insert(path.to_owned(), value);
        }
    }
    before
        .made
        .extend(MOUNT_POINTS.iter().map(PathBuf::from).filter(|dir| !dir.exists()));
    before.netns_mounted.get_or_insert_with(is_netns_mounted);
    if before != known {
        // Before anything is changed: a killed `up` must leave it behind.
        state::write(&record(), &before)?;
    }
    for dir in MOUNT_POINTS {
        std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    }
    for (path, wanted) in INOTIFY {
        let low = read_sysctl(path)
            .and_then(|value| value.parse::<u64>().ok())
            .is_some_and(|is| is < wanted);
        if low {
            write_sysctl(path, &wanted.to_string())?;
        }
    }
    Ok(())
}

/// Puts everything back; for the last instance only.
pub(crate) fn restore() -> Result<(), Error> {
    let Some(before) = state::read::<Before>(&record())? else {
        return Ok(());
    };
    for (path, value) in &before.sysctls {
        if read_sysctl(path).as_ref() != Some(value) {
            write_sysctl(path, value)?;
        }
    }
    let is_unused = std::fs::read_dir(NETNS_DIR).is_ok_and(|mut names| names.next().is_none());
    if before.netns_mounted == Some(false) && is_unused && is_netns_mounted() {
        umount2(NETNS_DIR, MntFlags::MNT_DETACH).map_err(Error::system(format!("unmount {NETNS_DIR}")))?;
        // Somebody may have put a name there in this moment.
        let _ = std::fs::remove_dir(NETNS_DIR);
    }
    for dir in before.made.iter().rev() {
        // Not empty means that somebody else uses it by now.
        let _ = std::fs::remove_dir(dir);
    }
    std::fs::remove_file(record()).map_err(Error::io("remove", record()))
}

fn is_netns_mounted() -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(NETNS_DIR))
}

fn read_sysctl(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys").join(path))
        .ok()
        .map(|value| value.trim().to_owned())
}

fn write_sysctl(path: &str, value: &str) -> Result<(), Error> {
    let file = Path::new("/proc/sys").join(path);
    std::fs::write(&file, value).map_err(Error::io("write", file))
}
