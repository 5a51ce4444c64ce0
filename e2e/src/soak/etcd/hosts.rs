//! The names by which members find each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// The members' host names of all namespaces, in the one file that everybody reads.
#[derive(Clone)]
pub struct Hosts {
    file: PathBuf,
    lines: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Hosts {
    /// In a file, which is mounted and therefore written in place.
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            lines: Arc::default(),
        }
    }

    /// Says which names a namespace has now, as lines.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, namespace: &str, own: String) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.get(namespace) == Some(&own) {
            return Ok(());
        }
        lines.insert(namespace.to_owned(), own);
        let all: String = lines.values().map(String::as_str).collect();
        Ok(std::fs::write(&self.file, format!("127.0.0.1 localhost\n{all}"))?)
    }
}
