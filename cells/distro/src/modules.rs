//! The pinned Go modules' files, embedded, and written out for a build.
//!
//! Must not read the source tree: the binary has to work on other machines.

use std::path::Path;

use crate::Error;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files of one module directory by name, in a fixed order.
pub(crate) fn files(module: &str) -> Result<Vec<(&'static str, &'static [u8])>, Error> {
    let own = EMBEDDED.iter().filter(|(directory, ..)| *directory == module);
    let files: Vec<_> = own.map(|(_, name, content)| (*name, *content)).collect();
    if files.is_empty() {
        return Err(Error::Recipe {
            what: format!("there is no module directory {module}"),
        });
    }
    Ok(files)
}

/// Writes one module's files into an empty directory.
pub(crate) fn write(module: &str, directory: &Path) -> Result<(), Error> {
    for (name, content) in files(module)? {
        let path = directory.join(name);
        std::fs::write(&path, content).map_err(Error::io("write", &path))?;
    }
    Ok(())
}
