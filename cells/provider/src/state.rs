//! Small state files: JSON, replaced whole so that a killed process leaves the old or the new one.

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Reads a state file; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| Error::State {
            path: path.into(),
            source,
        })
}

/// Writes a state file.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Render {
        what: "a state file",
        reason: error.to_string(),
    })?;
    write_text(path, &text).map(drop)
}

/// Whether writing changed a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The file has other content now.
    Changed,
    /// It had this content already.
    Same,
}

/// Writes a text file whole, unless it has this content already.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<Written, Error> {
    if std::fs::read(path).is_ok_and(|is| is == text.as_bytes()) {
        return Ok(Written::Same);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(Error::io("make", dir))?;
    let next = path.with_extension("next");
    let write = || {
        let mut file = std::fs::File::create(&next)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&next, path)
    };
    write().map_err(Error::io("write", path))?;
    Ok(Written::Changed)
}

/// Writes a text file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    if std::fs::read(path).is_ok_and(|is| is == text.as_bytes()) {
        return Ok(());
    }
    let next = path.with_extension("next");
    let write = || {
        let _ = std::fs::remove_file(&next);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&next, path)
    };
    write().map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_the_same_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.txt");
        assert_eq!(write_text(&path, "one").unwrap(), Written::Changed);
        assert_eq!(write_text(&path, "one").unwrap(), Written::Same);
        assert_eq!(write_text(&path, "two").unwrap(), Written::Changed);
        assert_eq!(read::<u8>(&dir.path().join("none")).unwrap(), None);
        assert!(read::<u8>(&path).is_err());
    }
}
