//! Files that commands are given.

use std::path::Path;

use crate::client::Failure;

/// Reads a file.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn read(path: &Path) -> Result<String, Failure> {
    let file = path.display();
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotFound(format!("there is no file {file}")),
        _ => Failure::Other(format!("cannot read {file}: {error}")),
    })
}
