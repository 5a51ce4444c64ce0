//! The cgroups of an instance: made on every hierarchy, emptied and removed leaf first.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Refusal};

const ROOT: &str = "/sys/fs/cgroup";
/// The hierarchies of version 1 that the kubelet and the runtime work with; the last is version 2 without
/// controllers, which the runtime uses beside them.
const V1: [&str; 10] = [
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "unified",
];
/// Those without which no pod can run.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
/// Controllers that a version 2 machine passes on to its pods.
const V2_CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
/// How long a cgroup may stay busy after its last process was killed.
const EMPTYING: Duration = Duration::from_secs(3);

/// The machine's cgroup file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchies {
    /// One for each controller.
    V1(Vec<PathBuf>),
    /// The unified one.
    V2(PathBuf),
}

impl Hierarchies {
    /// Looks which hierarchies this machine has.
    pub(crate) fn observe() -> Result<Self, Refusal> {
        let root = Path::new(ROOT);
        if let Ok(controllers) = std::fs::read_to_string(root.join("cgroup.controllers")) {
            let has = |name: &&&str| !controllers.split_whitespace().any(|c| c == **name);
            let missing: Vec<_> = NEEDED.iter().filter(has).copied().collect();
            return if missing.is_empty() {
                Ok(Self::V2(root.to_owned()))
            } else {
                Err(Refusal::NoCgroups(missing.join(", ")))
            };
        }
        let is_there = |name: &str| root.join(name).join("cgroup.procs").exists();
        let missing: Vec<_> = NEEDED.into_iter().filter(|name| !is_there(name)).collect();
        if !missing.is_empty() {
            return Err(Refusal::NoCgroups(missing.join(", ")));
        }
        // `cpu` is often a link to `cpu,cpuacct`: each hierarchy once.
        let paths: BTreeSet<_> = V1
            .into_iter()
            .filter(|name| is_there(name))
            .filter_map(|name| root.join(name).canonicalize().ok())
            .collect();
        Ok(Self::V1(paths.into_iter().collect()))
    }

    /// A cgroup's directory in each hierarchy.
    pub(crate) fn dirs(&self, cgroup: &str) -> Vec<PathBuf> {
        let below = cgroup.trim_start_matches('/');
        match self {
            Self::V1(roots) => roots.iter().map(|root| root.join(below)).collect(),
            Self::V2(root) => vec![root.join(below)],
        }
    }

    /// Makes a cgroup with all above it, able to hold processes and further cgroups.
    pub(crate) fn make(&self, cgroup: &str) -> Result<(), Error> {
        let roots = match self {
            Self::V1(roots) => roots.as_slice(),
            Self::V2(root) => std::slice::from_ref(root),
        };
        for root in roots {
            let mut dir = root.clone();
            for part in cgroup.split('/').filter(|part| !part.is_empty()) {
                if matches!(self, Self::V2(_)) {
                    pass_controllers_on(&dir);
                }
                let parent = dir.clone();
                dir.push(part);
                std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
                fill_cpuset(&parent, &dir)?;
                if parent == *root {
                    weigh(&dir)?;
                }
            }
        }
        Ok(())
    }

    /// Every process in a cgroup and all below it.
    pub(crate) fn processes(&self, cgroup: &str) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for dir in self.dirs(cgroup) {
            for below in tree(&dir) {
                let text = std::fs::read_to_string(below.join("cgroup.procs")).unwrap_or_default();
                found.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<i32>().ok())
                        .filter(|pid| *pid > 0),
                );
            }
        }
        found
    }

    /// The names of the cgroups directly below one.
    pub(crate) fn children(&self, cgroup: &str) -> BTreeSet<String> {
        let dirs = self.dirs(cgroup);
        let entries = dirs
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flat_map(Iterator::flatten);
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Removes a cgroup and all below it; its processes must be gone or going.
    pub(crate) async fn remove(&self, cgroup: &str) -> Result<(), Error> {
        let deadline = Instant::now() + EMPTYING;
        for dir in self.dirs(cgroup) {
            for below in tree(&dir).into_iter().rev() {
                loop {
                    match std::fs::remove_dir(&below) {
                        Ok(()) => break,
                        Err(error) if error.kind() == ErrorKind::NotFound => break,
                        Err(error)
                            if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
                        {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => return Err(Error::io("remove cgroup", below)(error)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes the common parent of all instances if it has no child left.
    pub(crate) fn remove_parent_if_empty(&self) {
        for dir in self.dirs("/skep") {
            // Another instance's cgroup keeps it.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// A directory and all below it, parents first; empty where it is missing.
fn tree(dir: &Path) -> Vec<PathBuf> {
    if !dir.exists() {
        return Vec::new();
    }
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|e| e.path()),
        );
        next += 1;
    }
    found
}

/// On version 1 a new cpuset is empty, and no process may enter it before it is filled.
fn fill_cpuset(parent: &Path, dir: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        let from = parent.join(file);
        let (Ok(is), Ok(above)) = (std::fs::read_to_string(&own), std::fs::read_to_string(&from)) else {
            continue;
        };
        if is.trim().is_empty() && !above.trim().is_empty() {
            std::fs::write(&own, above.trim()).map_err(Error::io("write", own))?;
        }
    }
    Ok(())
}

/// On version 1 each process outside any cgroup weighs as much as a whole cgroup does: a build on this
/// machine would starve the cell. All instances together weigh as much as four processes on each core.
fn weigh(dir: &Path) -> Result<(), Error> {
    let file = dir.join("cpu.shares");
    if !file.exists() {
        return Ok(());
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::fs::write(&file, (cores * 4 * 1024).to_string()).map_err(Error::io("write", file))
}

/// On version 2 children have the controllers that their parent passes on.
fn pass_controllers_on(dir: &Path) {
    let file = dir.join("cgroup.subtree_control");
    for controller in V2_CONTROLLERS {
        // One that the kernel lacks is not missed here: `observe` checked the needed ones.
        let _ = std::fs::write(&file, format!("+{controller}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_has_one_directory_in_each_hierarchy() {
        let v1 = Hierarchies::V1(vec!["/c/cpu".into(), "/c/memory".into()]);
        assert_eq!(
            v1.dirs("/skep/x"),
            [PathBuf::from("/c/cpu/skep/x"), "/c/memory/skep/x".into()]
        );
        let v2 = Hierarchies::V2("/c".into());
        assert_eq!(v2.dirs("/skep/x"), [PathBuf::from("/c/skep/x")]);
    }

    #[tokio::test]
    async fn made_and_removed_leaf_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("cpuset");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("cpuset.cpus"), "0-1\n").unwrap();
        let one = Hierarchies::V1(vec![root.clone()]);
        one.make("/skep/x/node").unwrap();
        one.make("/skep/x/node").unwrap();
        assert!(root.join("skep/x/node").exists());
        assert_eq!(one.children("/skep/x"), BTreeSet::from(["node".to_owned()]));
        one.remove("/skep/x").await.unwrap();
        assert!(!root.join("skep/x").exists());
        one.remove_parent_if_empty();
        assert!(!root.join("skep").exists());
    }
}
