//! What can go wrong while the distribution is made ready, and what to do then.
//!
//! Must not decide anything: every message is complete by itself.

use std::path::PathBuf;

/// Why the distribution's files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The embedded pins do not parse; a bug of this build of Skep.
    #[error(
        "the embedded distribution.yaml is not valid: {reason}; this build of skep is broken, take another one"
    )]
    Pins {
        /// What the YAML reader said.
        reason: String,
    },
    /// A Kubernetes version outside the distribution was asked for.
    #[error("kubernetes {version} is not in this distribution; choose one of {supported}")]
    UnknownKubernetes {
        /// The version that was asked for.
        version: String,
        /// The versions that are there.
        supported: String,
    },
    /// A recipe names something that is not there; a bug of this build of Skep.
    #[error("distribution.yaml is not consistent: {what}; this build of skep is broken, take another one")]
    Recipe {
        /// What is missing.
        what: String,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A program that a build needs is not installed.
    #[error("{program} is needed to {purpose}, and is not on this machine: {advice}")]
    ToolMissing {
        /// The program.
        program: String,
        /// What it is for.
        purpose: &'static str,
        /// How to get it.
        advice: String,
    },
    /// The Go release is too old.
    #[error(
        "go {found} is too old, {wanted} or newer is needed: install it and put it first in PATH, or give a \
         directory of prebuilt binaries"
    )]
    GoTooOld {
        /// The release that is installed.
        found: String,
        /// The oldest release that will do.
        wanted: String,
    },
    /// There is too little room for the build.
    #[error(
        "{} has {free_mebibytes} MiB free and building {what} needs {needed_mebibytes} MiB: free some space, or \
         choose another directory ({variable})",
        path.display()
    )]
    DiskFull {
        /// The directory whose file system is meant.
        path: PathBuf,
        /// What would be built.
        what: String,
        /// What is free.
        free_mebibytes: u64,
        /// What is needed.
        needed_mebibytes: u64,
        /// The environment variable that moves the directory.
        variable: &'static str,
    },
    /// A program that was started failed.
    #[error("{what} failed ({status}); the whole output is in {}, its last lines are:\n{tail}", log.display())]
    Command {
        /// What was being done.
        what: String,
        /// How the program ended.
        status: String,
        /// Where its output is.
        log: PathBuf,
        /// The end of its output.
        tail: String,
    },
    /// A file is not what its list of checksums says.
    #[error(
        "{} has sha256 {found}, and {expected} was expected: the file is damaged or not the one that was \
         published; fetch it again",
        file.display()
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The hash in the list.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// A directory's list of checksums lacks a file, or is not in the usual form.
    #[error("{}: {problem}", file.display())]
    ChecksumList {
        /// The list.
        file: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A program's shared libraries could not be found.
    #[error("cannot tell the shared libraries of {}: {problem}", program.display())]
    Libraries {
        /// The program.
        program: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A task of the runtime ended early.
    #[error("a task that {what} was stopped before it was done; run the command again")]
    Interrupted {
        /// What the task did.
        what: &'static str,
    },
}

impl Error {
    /// Makes a closure that names what was tried on a path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
