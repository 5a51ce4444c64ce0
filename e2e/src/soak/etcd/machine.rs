//! What a member runs on: a network namespace that can be cut off, and a volume of real size that can be full.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::inside::run;

/// What runs, by pod; faults reach into it.
#[derive(Clone, Default)]
pub struct Machines(Arc<Mutex<BTreeMap<String, Machine>>>);

/// Nodes that are gone for now: nothing runs there, and no pod there ends.
#[derive(Clone, Default)]
pub struct DeadNodes(Arc<Mutex<BTreeSet<String>>>);

impl DeadNodes {
    /// Lets a node die, or come back.
    pub fn set(&self, node: &str, is_dead: bool) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_dead {
            nodes.insert(node.to_owned());
        } else {
            nodes.remove(node);
        }
    }

    /// Whether a node is gone.
    pub fn has(&self, node: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(node)
    }
}

/// What each sync of a slow disk takes longer, in microseconds.
const SLOW: u32 = 250_000;

/// One pod's machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The process of its etcd, while there is one.
    pub process: Option<Pid>,
    /// Its network.
    pub network: Network,
    /// Its volume.
    pub volume: Volume,
    /// Empty its volume before the next start.
    pub is_to_be_wiped: bool,
}

impl Machine {
    /// Sends a signal to its etcd, where one runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = self.process {
            // It may have ended in between.
            let _ = kill(process, signal);
        }
    }

    /// Has its etcd, where one runs, wait for each sync of its disk as for a slow one.
    ///
    /// # Errors
    /// When strace cannot be started.
    pub async fn slow_down(&self, lasting: Duration) -> Result<()> {
        let Some(process) = self.process else {
            return Ok(());
        };
        let syncs = format!("inject=fsync,fdatasync:delay_exit={SLOW}");
        let mut tracer = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fsync,fdatasync",
                "-e",
                &syncs,
                "-p",
            ])
            .arg(process.to_string())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run strace")?;
        tokio::time::sleep(lasting).await;
        let is_there = kill(process, None).is_ok() && self.process == Some(process);
        if let Some(status) = tracer.try_wait()? {
            // It ends with the etcd that it holds.
            ensure!(!is_there, "strace cannot hold etcd: {status}");
            return Ok(());
        }
        // It lets go of what it holds.
        let _ = kill(Pid::from_raw(i32::try_from(tracer.id())?), Signal::SIGTERM);
        tokio::task::spawn_blocking(move || tracer.wait()).await??;
        Ok(())
    }
}

impl Machines {
    /// What one pod runs on.
    pub fn get(&self, pod: &str) -> Option<Machine> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pod)
            .cloned()
    }

    /// The pods with a machine.
    pub fn names(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }

    /// Changes one.
    pub fn change(&self, pod: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(pod) {
            change(machine);
        }
    }

    /// Adds one.
    pub fn put(&self, pod: &str, machine: Machine) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pod.to_owned(), machine);
    }

    /// Takes one away.
    pub fn remove(&self, pod: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pod);
    }
}

/// A network namespace with an address of its own.
#[derive(Debug, Clone)]
pub struct Network {
    number: u16,
    /// Its address.
    pub address: String,
}

impl Network {
    /// Makes the next one and connects it to the others.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach() -> Result<Self> {
        static NUMBERS: AtomicU16 = AtomicU16::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            number,
            address: format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200),
        };
        let (name, port) = (network.name(), network.port());
        let address = format!("{}/16", network.address);
        run("ip", &["netns", "add", &name])?;
        run(
            "ip",
            &[
                "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ],
        )?;
        run("ip", &["link", "set", &port, "master", "members", "up"])?;
        run("ip", &["-n", &name, "address", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", &name, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        Ok(network)
    }

    /// Cuts it off from all others, or connects it again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self, is_cut: bool) -> Result<()> {
        let state = if is_cut { "down" } else { "up" };
        run("ip", &["link", "set", &self.port(), state])
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(&self) -> Result<()> {
        run("ip", &["link", "del", &self.port()])?;
        run("ip", &["netns", "del", &self.name()])
    }

    /// The file that `nsenter --net` takes.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name())
    }

    fn name(&self) -> String {
        format!("member-{}", self.number)
    }

    fn port(&self) -> String {
        format!("member{}", self.number)
    }
}

/// A file system in a file.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where it is mounted.
    pub path: PathBuf,
}

impl Volume {
    /// Makes one of a size such as `512Mi`, or takes the one that is there.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn open(directory: &Path, name: &str, size: &str) -> Result<Self> {
        let path = directory.join(name);
        if path.exists() {
            return Ok(Self { path });
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let file = directory.join(format!("{name}.img")).display().to_string();
        run("truncate", &["-s", &format!("{size}B"), &file])?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &file])?;
        run("mount", &["-o", "loop", &file, &path.display().to_string()])?;
        Ok(Self { path })
    }

    /// Unmounts and removes all volumes of a directory.
    ///
    /// # Errors
    /// When one is still in use.
    pub fn remove_all(directory: &Path) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "img") {
                run("umount", &[&path.with_extension("").display().to_string()])?;
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Empties it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn wipe(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Takes all room that is left, or gives it back.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn fill(&self, is_full: bool) -> Result<()> {
        let ballast = self.path.join("ballast");
        if !is_full {
            return match std::fs::remove_file(ballast) {
                // A member that lost its data meanwhile lost this too.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                done => Ok(done?),
            };
        }
        let free = nix::sys::statvfs::statvfs(&self.path)?;
        let most = free.blocks_available() * free.fragment_size() / 10 * 9;
        run(
            "fallocate",
            &["-l", &most.to_string(), &ballast.display().to_string()],
        )?;
        // Etcd writes meanwhile, so that the rest is taken block by block.
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(ballast)?;
        loop {
            match file.write_all(&[0; 8192]) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
