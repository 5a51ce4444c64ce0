//! What the operator's process and ours tell each other: how many calls there were, and after which one it dies.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// The variable that names the file.
pub(super) const TALLY: &str = "SKEP_TALLY";

/// Some numbers in a file that the operator's process and ours share.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// How many calls were answered, by Kubernetes and by etcd.
    Calls,
    /// How many calls asked for a change.
    Changes,
    /// How many of these were answered.
    Changed,
    /// The call after whose answer the operator dies; 0 for none.
    LastCall,
    /// The call for a change after whose answer the operator dies; 0 for none.
    LastChange,
    /// How many percent of all changes the operator never hears of.
    Lost,
}

pub(super) const ENTRIES: [Entry; 6] = [
    Entry::Calls,
    Entry::Changes,
    Entry::Changed,
    Entry::LastCall,
    Entry::LastChange,
    Entry::Lost,
];

/// What the operator dies after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fatal {
    /// Any call of it that was answered.
    Call,
    /// A call that asked for a change, and was answered.
    Change,
}

impl Fatal {
    pub(super) fn counted(self) -> Entry {
        match self {
            Self::Call => Entry::Calls,
            Self::Change => Entry::Changed,
        }
    }

    pub(super) fn last(self) -> Entry {
        match self {
            Self::Call => Entry::LastCall,
            Self::Change => Entry::LastChange,
        }
    }
}

impl Entry {
    pub(super) fn read(self, file: &File) -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 8 * self as u64)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn write(self, file: &File, number: u64) -> std::io::Result<()> {
        file.write_all_at(&number.to_le_bytes(), 8 * self as u64)
    }
}

/// Counts the calls of this process, and ends it after the one that it is told.
#[derive(Clone)]
pub(super) struct Counter(Arc<Mutex<File>>);

impl Counter {
    pub(super) fn open() -> Result<Self> {
        let path = std::env::var_os(TALLY).with_context(|| format!("{TALLY} names no file"))?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    fn count(&self, entry: Entry) {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = entry.read(&file).and_then(|count| entry.write(&file, count + 1));
        // Whoever reads the tally must not believe it.
        if let Err(error) = counted {
            eprintln!("cannot count a call: {error}");
            std::process::exit(1);
        }
    }

    pub(super) fn asked(&self, is_change: bool) {
        if is_change {
            self.count(Entry::Changes);
        }
    }

    pub(super) fn answered(&self, is_change: bool) {
        self.count(Entry::Calls);
        self.die_after(Fatal::Call);
        if is_change {
            self.count(Entry::Changed);
            self.die_after(Fatal::Change);
        }
    }

    fn die_after(&self, fatal: Fatal) {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = fatal.last().read(&file).unwrap_or(0);
        if last > 0 && fatal.counted().read(&file).is_ok_and(|count| count >= last) {
            std::process::abort();
        }
    }

    /// Whether what a watch tells is to be lost; bookmarks and errors never are.
    pub(super) fn loses(&self, line: &str) -> bool {
        const TOLD: [&str; 3] = ["ADDED", "MODIFIED", "DELETED"];
        let is_of = |kind: &str| line.starts_with(&format!("{{\"type\":\"{kind}\""));
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = Entry::Lost.read(&file).unwrap_or(0);
        TOLD.into_iter().any(is_of) && rand::random_range(0..100) < percent
    }
}
