//! Programs that are run inside a machine.

use std::path::Path;

use crate::command::Command;
use crate::host::preflight::SYSTEM_PATH;

/// The way into a running machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside<'a> {
    /// Process 1 of the machine, by its number on the host.
    pub init: i32,
    /// The distribution's programs.
    pub bin: &'a Path,
}

impl Inside<'_> {
    /// A program that will run inside, with the distribution's programs first on its PATH.
    pub(crate) fn command(&self, program: &Path) -> Command {
        Command::new("nsenter")
            .args([
                "--target",
                &self.init.to_string(),
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--pid",
                "--",
            ])
            .arg(program)
            .env("PATH", search_path(self.bin))
    }

    /// A path inside the machine, as the host sees it.
    pub(crate) fn path(&self, inside: &str) -> std::path::PathBuf {
        Path::new("/proc")
            .join(self.init.to_string())
            .join("root")
            .join(inside.trim_start_matches('/'))
    }
}

/// PATH inside a machine.
pub(crate) fn search_path(bin: &Path) -> String {
    format!("{}:{SYSTEM_PATH}", bin.display())
}
