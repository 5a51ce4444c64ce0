//! A machine's view of the file system: the host's, with the node's own directories over it.

use std::fs::create_dir_all;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::config::{Bind, MachineConfig, Volume};
use crate::error::Error;

/// File systems that are mounted at the same time; each is its own `mount` process.
const MOUNTS_AT_ONCE: usize = 8;

/// Makes all mounts of a machine, in its own mount namespace.
pub(super) fn make(machine: &MachineConfig) -> Result<(), Error> {
    // Nothing that is mounted here may reach the host. What the host mounts later comes in: network namespaces are
    // files that it mounts.
    propagate("/", MsFlags::MS_SLAVE)?;
    fresh(
        "proc",
        "/proc",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
    )?;
    fresh(
        "mqueue",
        "/dev/mqueue",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
    )
    .ok();
    for bind in &machine.binds {
        self::bind(bind)?;
    }
    // Last of the host's directories to go: binds may come from below it.
    fresh("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    for dir in ["/run/lock", "/run/netns"] {
        create_dir_all(dir).map_err(Error::io("make", dir))?;
    }
    for some in machine
        .volumes
        .chunks(machine.volumes.len().div_ceil(MOUNTS_AT_ONCE).max(1))
    {
        mount_volumes(some)?;
    }
    // Volumes that the kubelet mounts must appear in containers.
    propagate("/", MsFlags::MS_SHARED)
}

/// Changes how mounts below a directory spread.
fn propagate(at: &str, how: MsFlags) -> Result<(), Error> {
    mount(
        None::<&str>,
        at,
        None::<&str>,
        MsFlags::MS_REC | how,
        None::<&str>,
    )
    .map_err(Error::system(format!(
        "change the propagation of mounts below {at}"
    )))
}

/// Mounts a new file system without a device.
fn fresh(kind: &str, at: &str, flags: MsFlags) -> Result<(), Error> {
    let data = (kind == "tmpfs").then_some("mode=755");
    mount(Some(kind), at, Some(kind), flags, data).map_err(Error::system(format!("mount {kind} at {at}")))
}

/// Makes one bind mount; a directory's target is made where it is missing.
fn bind(bind: &Bind) -> Result<(), Error> {
    if bind.from.is_dir() {
        create_dir_all(&bind.to).map_err(Error::io("make", &bind.to))?;
    } else if !bind.to.exists() {
        // The host lacks it, so nothing inside will miss it; nothing is made on the host for it.
        return Ok(());
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&bind.from), &bind.to, None::<&str>, flags, None::<&str>).map_err(Error::system(format!(
        "bind {} over {}",
        bind.from.display(),
        bind.to.display()
    )))
}

/// Mounts backing files through loop devices that go when the mount goes.
fn mount_volumes(volumes: &[Volume]) -> Result<(), Error> {
    let mut running = Vec::new();
    for volume in volumes {
        create_dir_all(&volume.at).map_err(Error::io("make", &volume.at))?;
        let child = Command::new("mount")
            .args([
                "-n",
                "-t",
                "ext4",
                "-o",
                "loop,noatime,nodev,nosuid,discard,noinit_itable",
            ])
            .arg(&volume.file)
            .arg(&volume.at)
            .spawn()
            .map_err(Error::io("run mount for", &volume.file))?;
        running.push((child, &volume.file));
    }
    for (mut child, file) in running {
        let status = child.wait().map_err(Error::io("wait for the mount of", file))?;
        if !status.success() {
            return Err(Error::Command {
                command: format!("mount -o loop {}", file.display()),
                outcome: format!("failed ({status})"),
                stderr: "see the lines above".into(),
            });
        }
    }
    Ok(())
}

/// Whether a path exists; an unreadable one counts as missing.
pub(super) fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(false)
}
