//! Where programs run that are started by hand: a directory, a network of its own, and a file system like that
//! of the tenants' volumes.
//!
//! What is made here goes when it is dropped; what a killed run left goes when the next one begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::blueprint::{Blueprint, Directory};
use crate::bench::site::instance;

/// Directory, network and file system.
#[derive(Debug)]
pub struct Ground {
    directory: PathBuf,
    network: String,
}

impl Ground {
    /// Makes everything after a tenant that runs.
    pub fn make(blueprint: &Blueprint) -> Result<Self> {
        let ground = Self {
            directory: crate::bench::directory()?.join("hand"),
            network: format!("{}-hand", instance()),
        };
        ground.remove()?;
        for directory in [
            ground.programs(),
            ground.logs(),
            ground.volume(),
            ground.directory.join("roots"),
        ] {
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let all = blueprint
            .programs
            .iter()
            .flat_map(|program| program.directories.values());
        for directory in all {
            if let Directory::Shared(name) = directory {
                fs::create_dir_all(ground.shared(name))?;
            }
        }
        ground.make_network(blueprint)?;
        ground.mount_volume(blueprint)?;
        Ok(ground)
    }

    /// The root directory of one program.
    pub fn root(&self, program: &str) -> PathBuf {
        self.directory.join("roots").join(program)
    }

    /// A directory that containers of one pod share.
    pub fn shared(&self, name: &str) -> PathBuf {
        self.directory.join("shared").join(name)
    }

    /// The file system of the datastore.
    pub fn volume(&self) -> PathBuf {
        self.directory.join("volume")
    }

    /// Copies of the programs' files.
    pub fn programs(&self) -> PathBuf {
        self.directory.join("programs")
    }

    /// What the programs print.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The network as a file to enter.
    pub fn network(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.network)
    }

    /// Gives everything back.
    pub fn clear(self) -> Result<()> {
        self.remove()
    }

    /// A network with a loopback interface alone, which also has the pods' addresses.
    fn make_network(&self, blueprint: &Blueprint) -> Result<()> {
        run(Command::new("ip").args(["netns", "add", &self.network]))?;
        run(Command::new("ip").args(["-n", &self.network, "link", "set", "lo", "up"]))?;
        for address in &blueprint.addresses {
            let address = format!("{address}/32");
            run(Command::new("ip").args(["-n", &self.network, "address", "add", &address, "dev", "lo"]))?;
        }
        Ok(())
    }

    /// Mounts a copy of a volume that no tenant has, in the way in which the tenant's is mounted.
    fn mount_volume(&self, blueprint: &Blueprint) -> Result<()> {
        let real = Mount::of(blueprint).context("the tenant's own volume is not as expected")?;
        let spare = real.spare()?;
        let image = self.directory.join("volume.img");
        run(Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&spare, &image]))?;
        let options = format!("loop,{}", real.options);
        run(Command::new("mount")
            .args(["-n", "-t", &real.kind, "-o", &options])
            .args([&image, &self.volume()]))
    }

    fn remove(&self) -> Result<()> {
        let volume = self.volume();
        if is_mounted(&volume)? {
            run(Command::new("umount").args(["-n", "--lazy"]).arg(&volume))?;
        }
        if self.network().exists() {
            run(Command::new("ip").args(["netns", "delete", &self.network]))?;
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("what was made by hand is not all gone: {error:#}");
        }
    }
}

/// How a file system is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    kind: String,
    options: String,
    device: PathBuf,
}

impl Mount {
    /// The one that the tenant's datastore writes to.
    fn of(blueprint: &Blueprint) -> Result<Self> {
        let mut holders = blueprint.programs.iter().filter_map(|program| {
            let is_volume = |(_, directory): &(&PathBuf, &Directory)| **directory == Directory::Volume;
            let (at, _) = program.directories.iter().find(is_volume)?;
            Some((program.pid, at))
        });
        let (pid, at) = holders.next_back().context("no program has a volume")?;
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
        Self::parse(&mounts, at).with_context(|| format!("nothing is mounted at {}", at.display()))
    }

    fn parse(mounts: &str, at: &Path) -> Option<Self> {
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let line = lines.rfind(|fields| fields.get(1).is_some_and(|path| Path::new(path) == at))?;
        Some(Self {
            device: PathBuf::from(line.first()?),
            kind: (*line.get(2)?).to_owned(),
            options: (*line.get(3)?).to_owned(),
        })
    }

    /// The backing file of another volume of the same node. Only one tenant runs, so nobody uses it.
    fn spare(&self) -> Result<PathBuf> {
        let name = self.device.file_name().context("a device without a name")?;
        let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
        let backing = fs::read_to_string(&backing)
            .with_context(|| format!("{} is no loop device", self.device.display()))?;
        let backing = Path::new(backing.trim());
        let directory = backing.parent().context("a volume's file is in no directory")?;
        let mut others: Vec<PathBuf> = fs::read_dir(directory)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path != backing && path.extension().is_some_and(|kind| kind == "img"))
            .collect();
        others.sort();
        others.pop().context("the node has only one volume")
    }
}

fn is_mounted(path: &Path) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(Mount::parse(&mounts, path).is_some())
}

/// Runs one of the system's programs to its end.
fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/loop7 /var/lib/etcd ext4 rw,noatime,discard 0 0\n";
        let mount = Mount::parse(mounts, Path::new("/var/lib/etcd")).unwrap();
        assert_eq!(
            (mount.kind.as_str(), mount.options.as_str()),
            ("ext4", "rw,noatime,discard")
        );
        assert_eq!(mount.device, PathBuf::from("/dev/loop7"));
        assert_eq!(Mount::parse(mounts, Path::new("/var/lib")), None);
    }
}
