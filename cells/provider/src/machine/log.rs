//! Log files of a machine, kept from growing without bound.

use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::error::Error;

/// A log that is larger when its writer starts is set aside first, replacing the one set aside before.
const ROTATE_BYTES: u64 = 50 << 20;

/// Opens `<dir>/<name>.log` for appending.
pub(super) fn open(dir: &Path, name: &str) -> Result<File, Error> {
    let path = dir.join(format!("{name}.log"));
    let large = std::fs::metadata(&path).is_ok_and(|found| found.len() > ROTATE_BYTES);
    if large {
        std::fs::rename(&path, dir.join(format!("{name}.log.1"))).map_err(Error::io("set aside", &path))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io("open", path))
}

/// One line of the supervisor's own log, which is its standard error.
pub(super) fn say(text: &str) {
    eprintln!("{} {text}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"));
}
