//! What is mounted on the node; reads only.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

/// What mkfs puts into every new file system.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Its name in the volumes' directory.
    pub name: String,
    /// Its whole path, the same on the node and in the controller.
    pub path: PathBuf,
    /// What fits into it.
    pub bytes: u64,
}

/// The directories in `root` that a file system is mounted at, by name.
pub(super) fn mounted(root: &Path) -> io::Result<Vec<Directory>> {
    let device = std::fs::metadata(root)?.dev();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        let metadata = std::fs::symlink_metadata(&path)?;
        // A directory on its parent's device is one whose mount is missing: it would share the node's disk.
        if !metadata.is_dir() || metadata.dev() == device {
            continue;
        }
        let Some(name) = path.file_name().and_then(OsStr::to_str).map(str::to_owned) else {
            continue;
        };
        let size = statvfs(&path)?;
        let bytes = size.blocks() * size.fragment_size();
        found.push(Directory { name, path, bytes });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Whether a volume holds no files.
pub(super) fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        if entry?.file_name() != LOST_AND_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_without_a_mount_are_not_offered() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("0")).unwrap();
        assert_eq!(mounted(root.path()).unwrap(), []);
        assert!(mounted(&root.path().join("none")).is_err());
    }

    #[test]
    fn a_new_file_system_is_empty() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(LOST_AND_FOUND)).unwrap();
        assert!(is_empty(root.path()).unwrap());
        std::fs::write(root.path().join("member"), "").unwrap();
        assert!(!is_empty(root.path()).unwrap());
    }
}
