//! Takes all content off a volume, for the next owner.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::unistd::syncfs;

use super::observe::{LOST_AND_FOUND, is_empty};

/// Removes everything in a directory save `lost+found` itself, gives the directory back to root, and
/// returns when the disk has it.
pub(super) fn scrub(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOST_AND_FOUND {
            empty(&entry.path())?;
        } else {
            remove(&entry)?;
        }
    }
    if !is_empty(path)? {
        return Err(io::Error::other(
            "files appeared while it was scrubbed; something still writes to it",
        ));
    }
    let lost = path.join(LOST_AND_FOUND);
    if lost.exists() {
        give_back(&lost, 0o700)?;
    }
    give_back(path, 0o755)?;
    let directory = File::open(path)?;
    directory.sync_all()?;
    syncfs(&directory).map_err(io::Error::from)
}

/// A volume with a group of its own had it set on everything.
fn give_back(path: &Path, mode: u32) -> io::Result<()> {
    chown(path, Some(0), Some(0))?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn empty(path: &Path) -> io::Result<()> {
    fs::read_dir(path)?.try_for_each(|entry| remove(&entry?))
}

/// Removes an entry; a link is removed and never followed.
fn remove(entry: &fs::DirEntry) -> io::Result<()> {
    if entry.file_type()?.is_dir() {
        fs::remove_dir_all(entry.path())
    } else {
        fs::remove_file(entry.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_goes_and_links_are_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("kept"), "x").unwrap();
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path();
        fs::create_dir_all(path.join("member/wal")).unwrap();
        fs::write(path.join("member/wal/0.wal"), "x").unwrap();
        fs::write(path.join(".hidden"), "x").unwrap();
        std::os::unix::fs::symlink(other.path(), path.join("link")).unwrap();
        fs::create_dir(path.join(LOST_AND_FOUND)).unwrap();
        fs::write(path.join(LOST_AND_FOUND).join("#12"), "x").unwrap();
        scrub(path).unwrap();
        assert!(is_empty(path).unwrap());
        assert!(is_empty(&path.join(LOST_AND_FOUND)).unwrap());
        assert!(other.path().join("kept").exists());
        scrub(path).unwrap();
    }

    #[test]
    fn a_missing_volume_is_an_error() {
        assert!(scrub(Path::new("/proc/none")).is_err());
    }
}
