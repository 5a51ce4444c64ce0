//! What this machine must have before anything is changed on it.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::error::Refusal;

/// Debian packages with the commands that the provider and the node machines run.
pub const SYSTEM_PACKAGES: &[&str] = &[
    "iproute2",
    "util-linux",
    "mount",
    "e2fsprogs",
    "nftables",
    "coreutils",
];

/// Commands, each with the package that has it.
const COMMANDS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nft", "nftables"),
    ("tee", "coreutils"),
];

/// Where commands are looked for, beside PATH: a user's PATH often lacks the system's directories.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kernel options without which nothing works, with what a person calls them.
const KERNEL: [(&str, &str); 6] = [
    ("CONFIG_OVERLAY_FS", "the overlay file system (CONFIG_OVERLAY_FS)"),
    ("CONFIG_VETH", "virtual Ethernet pairs (CONFIG_VETH)"),
    ("CONFIG_BRIDGE", "Ethernet bridges (CONFIG_BRIDGE)"),
    ("CONFIG_NF_TABLES", "nftables (CONFIG_NF_TABLES)"),
    ("CONFIG_BLK_DEV_LOOP", "loop devices (CONFIG_BLK_DEV_LOOP)"),
    ("CONFIG_PID_NS", "process namespaces (CONFIG_PID_NS)"),
];

/// What a new platform takes: images on three nodes, and room for tenants.
const DISK_NEW_GIB: u64 = 12;
/// What one that has its data needs besides.
const DISK_KEPT_GIB: u64 = 3;

/// Refuses the wrong system or user.
pub(crate) fn check_user() -> Result<(), Refusal> {
    if std::env::consts::OS != "linux" {
        return Err(Refusal::NotLinux(std::env::consts::OS.to_owned()));
    }
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        Ok(())
    } else {
        Err(Refusal::NotRoot(uid.as_raw()))
    }
}

/// Refuses a machine without the commands or the kernel features.
pub(crate) fn check_machine() -> Result<(), Refusal> {
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs: Vec<_> = path.split(':').chain(SYSTEM_PATH.split(':')).collect();
    for (command, package) in COMMANDS {
        if !dirs.iter().any(|dir| Path::new(dir).join(command).exists()) {
            return Err(Refusal::MissingCommand {
                command: command.into(),
                package: package.into(),
            });
        }
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let config = kernel_config();
    match missing_feature(config.as_deref(), &filesystems) {
        Some(feature) => Err(Refusal::Kernel(feature.to_owned())),
        None => Ok(()),
    }
}

/// Refuses a nearly full disk.
pub(crate) fn check_disk(home: &Path, has_data: bool) -> Result<(), Refusal> {
    let there = home
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    // A file system that does not tell its size is not refused for it.
    let Ok(found) = statvfs(there) else { return Ok(()) };
    let free_gib = (found.blocks_available() * found.fragment_size()) >> 30;
    let needed_gib = if has_data { DISK_KEPT_GIB } else { DISK_NEW_GIB };
    if free_gib >= needed_gib {
        return Ok(());
    }
    Err(Refusal::DiskFull {
        path: there.display().to_string(),
        free_gib,
        needed_gib,
    })
}

/// The first needed feature that the kernel surely lacks; what cannot be told is not refused.
fn missing_feature(config: Option<&str>, filesystems: &str) -> Option<&'static str> {
    let has_overlay = filesystems.split_whitespace().any(|name| name == "overlay");
    let config = config?;
    KERNEL
        .into_iter()
        .filter(|(option, _)| !(*option == "CONFIG_OVERLAY_FS" && has_overlay))
        .find(|(option, _)| {
            let set = |value: &str| {
                config
                    .lines()
                    .any(|line| line.strip_prefix(option) == Some(value))
            };
            !set("=y") && !set("=m")
        })
        .map(|(_, name)| name)
}

/// The kernel's configuration, where it is to be had as text.
fn kernel_config() -> Option<String> {
    let release = nix::sys::utsname::uname()
        .ok()?
        .release()
        .to_string_lossy()
        .into_owned();
    if let Ok(text) = std::fs::read_to_string(format!("/boot/config-{release}")) {
        return Some(text);
    }
    let output = std::process::Command::new("gzip")
        .args(["-dc", "/proc/config.gz"])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_veth_is_refused_and_an_unknown_one_is_not() {
        let full = "CONFIG_OVERLAY_FS=y\nCONFIG_VETH=m\nCONFIG_BRIDGE=y\nCONFIG_NF_TABLES=y\n\
                    CONFIG_BLK_DEV_LOOP=y\nCONFIG_PID_NS=y\n";
        assert_eq!(missing_feature(Some(full), ""), None);
        let less = full.replace("CONFIG_VETH=m", "# CONFIG_VETH is not set");
        assert!(missing_feature(Some(&less), "").unwrap().contains("CONFIG_VETH"));
        assert_eq!(missing_feature(None, ""), None);
    }

    #[test]
    fn a_full_disk_is_refused_by_numbers() {
        assert!(check_disk(Path::new("/proc/none"), false).is_err());
    }
}
