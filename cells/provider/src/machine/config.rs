//! What a machine is: the supervisor's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Everything that a supervisor needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MachineConfig {
    /// Host name.
    pub name: String,
    /// The file that names its network namespace.
    pub netns: PathBuf,
    /// The directories of its cgroup, one for each hierarchy; the supervisor's own is `system` below.
    pub cgroups: Vec<PathBuf>,
    /// Where the supervisor and its services log.
    pub log: PathBuf,
    /// Host directories and files that appear elsewhere inside.
    pub binds: Vec<Bind>,
    /// Written to `/proc/sys` once inside.
    pub sysctls: Vec<Sysctl>,
    /// Loop-mounted file systems.
    pub volumes: Vec<Volume>,
    /// What it runs, in the order of starting.
    pub services: Vec<Service>,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub from: PathBuf,
    pub to: PathBuf,
}

/// A kernel setting, as its path below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sysctl {
    pub path: String,
    pub value: String,
}

/// A backing file and where its file system is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub file: PathBuf,
    pub at: PathBuf,
}

/// A program that is kept running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Service {
    /// Names its log.
    pub name: String,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Files that must exist before it is started.
    pub wait_for: Vec<PathBuf>,
    /// Whether a stop ends the machine's containers once this service is gone.
    #[serde(default)]
    pub runs_containers: bool,
}

impl MachineConfig {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        serde_json::from_slice(&text).map_err(|source| Error::State {
            path: path.into(),
            source,
        })
    }

    /// Where the cgroup of the supervisor and its services is, in each hierarchy.
    pub(crate) fn system_cgroups(&self) -> impl Iterator<Item = PathBuf> {
        self.cgroups.iter().map(|dir| dir.join(SYSTEM))
    }
}

/// The cgroup, below a machine's, of what is not a container.
pub(crate) const SYSTEM: &str = "system";
