//! What an instance has on the host that is not wanted, and the steps that take it away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::command::Command;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::host::{interfaces, process};
use crate::names::{Names, netns_path};

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What of an instance is on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Machines whose process 1 runs.
    pub alive: BTreeSet<String>,
    /// Machines' cgroups, with the processes in each.
    pub cgroups: BTreeMap<String, BTreeSet<i32>>,
    /// Processes in the instance's network namespaces, by namespace.
    pub inside: BTreeMap<String, BTreeSet<i32>>,
    /// Network namespaces by name.
    pub netns: BTreeSet<String>,
    /// The host's interface, where it exists.
    pub interface: Option<String>,
    /// Loop devices on the instance's files.
    pub loops: Vec<LoopDevice>,
    /// Mounts on the host below the instance's directory.
    pub mounts: Vec<PathBuf>,
}

/// A loop device and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoopDevice {
    pub device: PathBuf,
    pub machine: String,
}

/// One thing to take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// End processes, without asking.
    Kill(BTreeSet<i32>),
    /// Unmount, even if busy.
    Unmount(PathBuf),
    /// Detach a loop device.
    Detach(PathBuf),
    /// Remove a machine's cgroup with all below it.
    RemoveCgroup(String),
    /// Remove an interface of the host.
    RemoveInterface(String),
    /// Remove a network namespace.
    RemoveNetns(String),
}

/// What must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep<'a> {
    /// These machines, the living ones as they are, and the network between them.
    Machines {
        /// All that shall run.
        machines: &'a [String],
        /// Namespaces in which nothing runs, and which lead from one network to another.
        routers: &'a [String],
    },
    /// Nothing.
    Nothing,
}

/// The steps that leave only what must stay, in their order.
pub(crate) fn plan(observed: &Observed, keep: Keep, names: &Names) -> Vec<Step> {
    let wanted = |machine: &String| match keep {
        Keep::Machines { machines, .. } => machines.contains(machine),
        Keep::Nothing => false,
    };
    let runs = |machine: &String| wanted(machine) && observed.alive.contains(machine);
    let is_switch = |netns: &String| match keep {
        Keep::Machines { routers, .. } => *netns == names.switch() || routers.contains(netns),
        Keep::Nothing => false,
    };
    let mut doomed = BTreeSet::new();
    for (machine, pids) in &observed.cgroups {
        if !runs(machine) {
            doomed.extend(pids);
        }
    }
    for (netns, pids) in &observed.inside {
        if !runs(netns) && !is_switch(netns) {
            doomed.extend(pids);
        }
    }
    let mut steps = Vec::new();
    if !doomed.is_empty() {
        steps.push(Step::Kill(doomed));
    }
    // Deepest first.
    steps.extend(observed.mounts.iter().rev().cloned().map(Step::Unmount));
    let idle = observed.loops.iter().filter(|found| !runs(&found.machine));
    steps.extend(idle.map(|found| Step::Detach(found.device.clone())));
    let dead = observed.cgroups.keys().filter(|machine| !runs(machine));
    steps.extend(dead.cloned().map(Step::RemoveCgroup));
    if keep == Keep::Nothing {
        steps.extend(observed.interface.iter().cloned().map(Step::RemoveInterface));
    }
    let unwanted = observed
        .netns
        .iter()
        // A machine that starts anew starts with an empty network: what its processes had left there, such as
        // kube-proxy's rules, is yesterday's.
        .filter(|netns| !runs(netns) && !is_switch(netns));
    steps.extend(unwanted.cloned().map(Step::RemoveNetns));
    steps
}

/// Reads what an instance has on the host.
pub(crate) fn observe(hierarchies: &Hierarchies, names: &Names, others: &[String], home: &Path) -> Observed {
    let netns: BTreeSet<_> = interfaces::all_netns()
        .into_iter()
        .filter(|netns| names.owns_netns(netns, others))
        .collect();
    let cgroups: BTreeMap<_, _> = hierarchies
        .children(&names.cgroup())
        .into_iter()
        .map(|machine| {
            let pids = hierarchies.processes(&names.machine_cgroup(&machine));
            (machine, pids)
        })
        .collect();
    let alive = cgroups
        .keys()
        .filter(|machine| process::machine_init(hierarchies, names, machine).is_some())
        .cloned()
        .collect();
    let inside = netns
        .iter()
        .map(|name| (name.clone(), process::in_netns(name)))
        .collect();
    let bridge = names.bridge();
    Observed {
        alive,
        cgroups,
        inside,
        netns,
        interface: interfaces::has_interface(&bridge).then_some(bridge),
        loops: loop_devices(home),
        mounts: host_mounts(home),
    }
}

/// Takes the steps; what is gone already is no failure.
pub(crate) async fn take(steps: &[Step], hierarchies: &Hierarchies, names: &Names) -> Result<(), Error> {
    for step in steps {
        match step {
            Step::Kill(pids) => {
                process::signal(pids, Signal::SIGKILL);
                process::wait_gone(pids, KILL_LIMIT).await;
            }
            Step::Unmount(path) => {
                umount2(path, MntFlags::MNT_DETACH)
                    .map_err(Error::system(format!("unmount {}", path.display())))?;
            }
            Step::Detach(device) => {
                // It detaches itself with its last mount, often in this moment.
                let _ = Command::new("losetup").arg("--detach").arg(device).run().await;
            }
            Step::RemoveCgroup(machine) => hierarchies.remove(&names.machine_cgroup(machine)).await?,
            Step::RemoveInterface(interface) => {
                if interfaces::has_interface(interface) {
                    Command::new("ip")
                        .args(["link", "delete", interface])
                        .run()
                        .await?;
                }
            }
            Step::RemoveNetns(netns) => remove_netns(netns).await?,
        }
    }
    Ok(())
}

async fn remove_netns(netns: &str) -> Result<(), Error> {
    let path = netns_path(netns);
    if interfaces::is_netns(netns) {
        return Command::new("ip")
            .args(["netns", "delete", netns])
            .run()
            .await
            .map(drop);
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Mounts on the host below a directory, parents first.
fn host_mounts(home: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    let mut found: Vec<_> = points
        .filter(|point| point.starts_with(home.join("machines")))
        .collect();
    found.sort();
    found
}

/// Loop devices whose file is one of the instance's volumes.
fn loop_devices(home: &Path) -> Vec<LoopDevice> {
    let volumes = home.join("volumes");
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let file_of =
        |entry: &std::fs::DirEntry| std::fs::read_to_string(entry.path().join("loop/backing_file")).ok();
    devices
        .filter_map(|entry| {
            let file = file_of(&entry)?;
            let below = Path::new(file.trim()).strip_prefix(&volumes).ok()?.to_owned();
            let machine = below
                .components()
                .next()?
                .as_os_str()
                .to_string_lossy()
                .into_owned();
            Some(LoopDevice {
                device: Path::new("/dev").join(entry.file_name()),
                machine,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed() -> Observed {
        let all = ["x-a-1", "x-b-1", "x-front"].map(String::from);
        Observed {
            alive: BTreeSet::from(["x-a-1".to_owned(), "x-front".to_owned()]),
            cgroups: BTreeMap::from([
                (all[0].clone(), BTreeSet::from([10, 11])),
                (all[1].clone(), BTreeSet::from([20])),
                (all[2].clone(), BTreeSet::from([30])),
            ]),
            inside: BTreeMap::from([
                (all[0].clone(), BTreeSet::from([10, 11, 12])),
                (all[1].clone(), BTreeSet::from([20, 21])),
                ("x-switch".into(), BTreeSet::from([40])),
            ]),
            netns: all.iter().cloned().chain(["x-switch".into()]).collect(),
            interface: Some("x0".into()),
            loops: vec![
                LoopDevice {
                    device: "/dev/loop1".into(),
                    machine: "x-a-1".into(),
                },
                LoopDevice {
                    device: "/dev/loop2".into(),
                    machine: "x-b-1".into(),
                },
            ],
            mounts: vec!["/h/machines/x".into(), "/h/machines/x/y".into()],
        }
    }

    #[test]
    fn nothing_there_means_nothing_to_do() {
        let names = Names::new("x");
        assert_eq!(plan(&Observed::default(), Keep::Nothing, &names), []);
        assert_eq!(
            plan(
                &Observed::default(),
                Keep::Machines {
                    machines: &[],
                    routers: &[]
                },
                &names
            ),
            []
        );
    }

    #[test]
    fn up_takes_only_the_dead_machine() {
        let machines = ["x-front", "x-a-1", "x-b-1"].map(String::from);
        let steps = plan(
            &Observed {
                mounts: Vec::new(),
                ..observed()
            },
            Keep::Machines {
                machines: &machines,
                routers: &[],
            },
            &Names::new("x"),
        );
        assert_eq!(
            steps,
            [
                Step::Kill(BTreeSet::from([20, 21])),
                Step::Detach("/dev/loop2".into()),
                Step::RemoveCgroup("x-b-1".into()),
                Step::RemoveNetns("x-b-1".into()),
            ]
        );
    }

    #[test]
    fn up_takes_a_machine_that_is_no_longer_wanted() {
        let machines = ["x-front", "x-a-1"].map(String::from);
        let steps = plan(
            &observed(),
            Keep::Machines {
                machines: &machines,
                routers: &[],
            },
            &Names::new("x"),
        );
        assert!(steps.contains(&Step::RemoveNetns("x-b-1".into())));
        assert!(!steps.contains(&Step::RemoveNetns("x-switch".into())));
    }

    #[test]
    fn down_takes_everything_in_order() {
        let steps = plan(&observed(), Keep::Nothing, &Names::new("x"));
        assert_eq!(
            steps,
            [
                Step::Kill(BTreeSet::from([10, 11, 12, 20, 21, 30, 40])),
                Step::Unmount("/h/machines/x/y".into()),
                Step::Unmount("/h/machines/x".into()),
                Step::Detach("/dev/loop1".into()),
                Step::Detach("/dev/loop2".into()),
                Step::RemoveCgroup("x-a-1".into()),
                Step::RemoveCgroup("x-b-1".into()),
                Step::RemoveCgroup("x-front".into()),
                Step::RemoveInterface("x0".into()),
                Step::RemoveNetns("x-a-1".into()),
                Step::RemoveNetns("x-b-1".into()),
                Step::RemoveNetns("x-front".into()),
                Step::RemoveNetns("x-switch".into()),
            ]
        );
    }
}
