//! The cache that clones share: entries by content key, written aside and renamed.
//!
//! Must not change a finished entry, and must not leave a half-written one where
//! a reader would find it.

use std::collections::BTreeMap;
use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::Error;
use crate::sums::{self, Sums};

/// How many hexadecimal digits of a key are in a name.
const KEY_LENGTH: usize = 12;
/// The start of the names of unfinished directories.
const UNFINISHED: &str = ".unfinished-";
/// How often a lock that another process holds is tried again.
const LOCK_PERIOD: Duration = Duration::from_millis(250);

/// A directory with one entry for each thing that was made.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// The right to change the cache; given back when dropped, or when the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held for its lock")] Arc<File>);

/// A file in the cache or in a prebuilt directory, with its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    pub path: PathBuf,
    pub sha256: String,
}

/// Binaries by name.
pub(crate) type Binaries = BTreeMap<String, Binary>;

impl Cache {
    /// Opens the cache and makes its directories.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let logs = root.join("logs");
        std::fs::create_dir_all(&logs).map_err(Error::io("create the directory", &logs))?;
        let root = root.canonicalize().map_err(Error::io("resolve", root))?;
        Ok(Self { root })
    }

    /// The cache's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an entry is once it is finished.
    pub fn entry(&self, name: &str, key: &str) -> PathBuf {
        self.root.join(format!("{name}-{key}"))
    }

    /// The log file of one build.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// Waits until no other process changes the cache; `waiting` is called once if that takes time.
    pub async fn lock(&self, waiting: impl FnOnce()) -> Result<Lock, Error> {
        let path = self.root.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open the lock", &path))?;
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(Arc::new(file))),
                Err(TryLockError::WouldBlock) => {
                    if let Some(tell) = waiting.take() {
                        tell();
                    }
                    tokio::time::sleep(LOCK_PERIOD).await;
                }
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
            }
        }
    }

    /// Makes a directory in which an entry can grow unseen.
    pub fn aside(&self, _lock: &Lock) -> Result<TempDir, Error> {
        tempfile::Builder::new()
            .prefix(UNFINISHED)
            // The programs in an entry are also run by other users.
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&self.root)
            .map_err(Error::io("create a directory in", &self.root))
    }

    /// Removes what processes that were killed left behind.
    pub fn sweep(&self, _lock: &Lock) -> Result<(), Error> {
        let listing = std::fs::read_dir(&self.root).map_err(Error::io("list", &self.root))?;
        for entry in listing {
            let entry = entry.map_err(Error::io("list", &self.root))?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let path = entry.path();
                std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The files of a finished entry; none if it is not there or lacks a file.
    pub fn find(&self, name: &str, key: &str) -> Option<Binaries> {
        let directory = self.entry(name, key);
        let sums = sums::read(&directory).ok()?;
        let whole = |name: &String| {
            directory
                .join(name)
                .metadata()
                .is_ok_and(|m| m.is_file() && m.len() > 0)
        };
        sums.keys().all(whole).then(|| binaries(&directory, sums))
    }

    /// Puts its files' checksums into a directory and makes it the entry.
    pub fn finish(
        &self,
        _lock: &Lock,
        from: &Path,
        (name, key): (&str, &str),
        sums: Sums,
    ) -> Result<Binaries, Error> {
        sums::write(from, &sums)?;
        // A rename may reach the disk before the content does; after a power cut the entry would be hollow.
        for file in sums.keys().map(String::as_str).chain([sums::FILE]) {
            let path = from.join(file);
            File::open(&path)
                .and_then(|f| f.sync_all())
                .map_err(Error::io("flush", &path))?;
        }
        let to = self.entry(name, key);
        if to.exists() {
            std::fs::remove_dir_all(&to).map_err(Error::io("remove", &to))?;
        }
        std::fs::rename(from, &to).map_err(Error::io("rename a finished build to", &to))?;
        Ok(binaries(&to, sums))
    }
}

/// Names each file of a list with its place.
pub(crate) fn binaries(directory: &Path, sums: Sums) -> Binaries {
    let named = |(name, sha256): (String, String)| {
        let path = directory.join(&name);
        (name, Binary { path, sha256 })
    };
    sums.into_iter().map(named).collect()
}

/// Collects what a thing is made of into a short key.
#[derive(Clone, Default)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Adds one named input; names and contents cannot run into each other.
    pub fn add(mut self, name: &str, content: &[u8]) -> Self {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a value by its JSON.
    pub fn add_json(self, name: &str, value: &impl serde::Serialize) -> Result<Self, Error> {
        let json = serde_json::to_vec(value).map_err(|e| Error::Recipe {
            what: format!("{name}: {e}"),
        })?;
        Ok(self.add(name, &json))
    }

    /// The key as it appears in names.
    pub fn finish(self) -> String {
        let mut digits = hex::encode(self.0.finalize());
        digits.truncate(KEY_LENGTH);
        digits
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn filled() -> (TempDir, Cache, Lock) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path()).unwrap();
        let lock = cache.lock(|| ()).await.unwrap();
        (root, cache, lock)
    }

    fn put(cache: &Cache, lock: &Lock, content: &str) -> Binaries {
        let aside = cache.aside(lock).unwrap();
        std::fs::write(aside.path().join("program"), content).unwrap();
        let sums = sums::of_files(aside.path(), &["program"]).unwrap();
        cache.finish(lock, aside.path(), ("thing", "key"), sums).unwrap()
    }

    #[tokio::test]
    async fn a_finished_entry_is_found_with_its_hashes() {
        let (_root, cache, lock) = filled().await;
        assert!(cache.find("thing", "key").is_none());
        let made = put(&cache, &lock, "content");
        assert_eq!(cache.find("thing", "key"), Some(made));
        assert!(cache.find("thing", "other").is_none());
    }

    #[tokio::test]
    async fn an_entry_that_lacks_a_file_is_made_again() {
        let (_root, cache, lock) = filled().await;
        let made = put(&cache, &lock, "content");
        std::fs::remove_file(&made["program"].path).unwrap();
        assert!(cache.find("thing", "key").is_none());
        put(&cache, &lock, "content");
        assert_eq!(cache.find("thing", "key"), Some(made));
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_no_entry_and_is_swept() {
        let (root, cache, lock) = filled().await;
        let left = cache.aside(&lock).unwrap().keep();
        std::fs::write(left.join("program"), "half").unwrap();
        assert!(cache.find("thing", "key").is_none());
        cache.sweep(&lock).unwrap();
        assert!(!left.exists());
        assert!(root.path().join("logs").exists());
    }

    #[tokio::test]
    async fn a_second_process_waits_for_the_lock() {
        let (_root, cache, lock) = filled().await;
        let (told, heard) = tokio::sync::oneshot::channel();
        let second = cache.lock(move || told.send(()).unwrap());
        let first = async {
            heard.await.unwrap();
            drop(lock);
        };
        let (second, ()) = tokio::join!(second, first);
        second.unwrap();
    }

    #[test]
    fn names_and_contents_do_not_run_together() {
        assert_ne!(
            Key::default().add("ab", b"c").finish(),
            Key::default().add("a", b"bc").finish()
        );
        assert_ne!(
            Key::default().add("a", b"").add("b", b"").finish(),
            Key::default().add("b", b"").add("a", b"").finish()
        );
    }
}
