//! Which instances there are on this machine, and which address slot each has.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::address::{SLOTS, Slot};
use crate::error::{Error, Refusal};
use crate::layout::RUN_DIR;
use crate::state;

/// How often it is seen whether an instance is free.
const LOCK_PERIOD: Duration = Duration::from_millis(200);

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub instance: String,
    pub home: PathBuf,
    pub slot: Slot,
}

/// Held while an instance is changed; let go by dropping, or by the process's end.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    _lock: Flock<File>,
}

/// The directory of instances.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    dir: PathBuf,
}

impl Registry {
    pub(crate) fn open() -> Self {
        Self {
            dir: Path::new(RUN_DIR).join("instances"),
        }
    }

    #[cfg(test)]
    fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn file(&self, instance: &str) -> PathBuf {
        self.dir.join(format!("{instance}.json"))
    }

    /// Every registered instance, by name.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for file in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|ext| ext == "json") {
                entries.extend(state::read::<Entry>(&file.path())?);
            }
        }
        entries.sort_by(|one, other| one.instance.cmp(&other.instance));
        Ok(entries)
    }

    /// Keeps every other command that changes an instance out.
    pub(crate) fn lock(&self, instance: &str) -> Result<InstanceLock, Error> {
        let file = self.lock_file(&format!("{instance}.lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(InstanceLock { _lock: lock }),
            Err(_) => Err(Refusal::Busy(instance.to_owned()).into()),
        }
    }

    /// Waits until no other command changes an instance.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if one still does after `limit`.
    pub(crate) async fn wait(&self, instance: &str, limit: Duration) -> Result<InstanceLock, Error> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            match self.lock(instance) {
                Err(Error::Refused(Refusal::Busy(_))) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_PERIOD).await;
                }
                result => return result,
            }
        }
    }

    /// The names of all other registered instances.
    pub(crate) fn others(&self, instance: &str) -> Result<Vec<String>, Error> {
        let names = self.entries()?.into_iter().map(|entry| entry.instance);
        Ok(names.filter(|name| name != instance).collect())
    }

    /// The slot that `claim` would take now.
    pub(crate) fn peek(&self, instance: &str, home: &Path, had: Option<Slot>) -> Result<Slot, Error> {
        Ok(choose(&self.entries()?, instance, home, had)?)
    }

    /// Takes a slot for an instance: the one that it had, or the lowest free one.
    pub(crate) fn claim(&self, instance: &str, home: &Path, had: Option<Slot>) -> Result<Slot, Error> {
        let _all = self.lock_all()?;
        let entries = self.entries()?;
        let slot = choose(&entries, instance, home, had)?;
        state::write(
            &self.file(instance),
            &Entry {
                instance: instance.to_owned(),
                home: home.to_owned(),
                slot,
            },
        )?;
        Ok(slot)
    }

    /// Takes an instance out; `is_last` runs, still locked, if none is left.
    pub(crate) fn release(
        &self,
        instance: &str,
        is_last: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _all = self.lock_all()?;
        let file = self.file(instance);
        if file.exists() {
            std::fs::remove_file(&file).map_err(Error::io("remove", file))?;
        }
        if self.entries()?.is_empty() {
            is_last()
        } else {
            Ok(())
        }
    }

    fn lock_all(&self) -> Result<Flock<File>, Error> {
        let file = self.lock_file("all.lock")?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, source)| Error::System {
            action: "lock the registry of instances".into(),
            source,
        })
    }

    fn lock_file(&self, name: &str) -> Result<File, Error> {
        std::fs::create_dir_all(&self.dir).map_err(Error::io("make", &self.dir))?;
        let path = self.dir.join(name);
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        open.map_err(Error::io("open", path))
    }
}

/// Which slot an instance gets.
pub(crate) fn choose(
    entries: &[Entry],
    instance: &str,
    home: &Path,
    had: Option<Slot>,
) -> Result<Slot, Refusal> {
    if let Some(own) = entries.iter().find(|entry| entry.instance == instance) {
        return if own.home == home {
            Ok(own.slot)
        } else {
            Err(Refusal::OtherHome {
                instance: instance.to_owned(),
                home: own.home.display().to_string(),
            })
        };
    }
    let holder = |slot: Slot| entries.iter().find(|entry| entry.slot == slot);
    if let Some(slot) = had {
        return match holder(slot) {
            None => Ok(slot),
            Some(other) => Err(Refusal::SlotTaken {
                instance: instance.to_owned(),
                by: other.instance.clone(),
            }),
        };
    }
    Slot::all().find(|slot| holder(*slot).is_none()).ok_or_else(|| {
        let by: Vec<_> = entries.iter().map(|entry| entry.instance.as_str()).collect();
        Refusal::NoSlot {
            count: SLOTS,
            by: by.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u8) -> Slot {
        Slot::try_from(number).unwrap()
    }

    #[test]
    fn slots_are_stable_exclusive_and_finite() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path());
        let home = |name: &str| PathBuf::from(format!("/home/{name}"));
        for number in 0..SLOTS {
            let name = format!("i{number}");
            assert_eq!(registry.claim(&name, &home(&name), None).unwrap(), slot(number));
        }
        assert_eq!(registry.claim("i3", &home("i3"), None).unwrap(), slot(3));
        assert!(registry.claim("i3", &home("other"), None).is_err());
        assert!(registry.claim("more", &home("more"), None).is_err());
        registry.release("i3", || panic!("others are left")).unwrap();
        assert_eq!(registry.claim("more", &home("more"), None).unwrap(), slot(3));
        let taken = registry.claim("i3", &home("i3"), Some(slot(3))).unwrap_err();
        assert!(taken.to_string().contains("taken by more"), "{taken}");
    }

    #[test]
    fn an_instance_is_changed_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path());
        let first = registry.lock("x").unwrap();
        assert!(registry.lock("x").is_err());
        assert!(registry.lock("y").is_ok());
        drop(first);
        assert!(registry.lock("x").is_ok());
    }

    #[tokio::test]
    async fn a_command_that_can_wait_does() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path());
        let first = registry.lock("x").unwrap();
        let refused = registry.wait("x", LOCK_PERIOD).await.unwrap_err();
        assert!(refused.to_string().contains("instance x"), "{refused}");
        let (second, ()) = tokio::join!(registry.wait("x", Duration::from_mins(1)), async move {
            tokio::time::sleep(LOCK_PERIOD).await;
            drop(first);
        });
        assert!(second.is_ok());
    }

    #[test]
    fn the_last_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::at(dir.path());
        registry.claim("x", Path::new("/h"), None).unwrap();
        let mut called = false;
        registry
            .release("x", || {
                called = true;
                Ok(())
            })
            .unwrap();
        assert!(called);
    }
}
