//! The pinned distribution: what `distribution.yaml` says, as types.
//!
//! Must not touch the machine: this module only reads embedded text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

const PINS: &str = include_str!("../distribution.yaml");

/// Everything the distribution pins.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Distribution {
    pub go: String,
    pub default_kubernetes: String,
    pub components: Vec<Component>,
    pub node: Node,
    pub images: Vec<ImageRecipe>,
}

/// One thing that is built or downloaded, at one version.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Component {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing)]
    minutes: u64,
    #[serde(skip_serializing)]
    pub disk_mebibytes: u64,
    pub source: Source,
}

/// Where a component's binaries come from; the maps give each binary its package or path.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Source {
    Go(GoSource),
    Wheel(WheelSource),
}

/// A Go module of ours that requires the real one at an exact version.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GoSource {
    pub module: String,
    /// The module whose required version is the component's; none for our own programs.
    pub pin: Option<String>,
    #[serde(default)]
    pub ldflags: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub cgo: Cgo,
    pub binaries: BTreeMap<String, String>,
}

/// Whether C code is compiled in, which then is linked statically.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Cgo {
    #[default]
    Off,
    Static,
}

/// A Python wheel that carries binaries.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WheelSource {
    pub package: String,
    /// One hash for each platform's wheel.
    pub sha256: Vec<String>,
    pub binaries: BTreeMap<String, String>,
}

/// What a node machine runs; `links` are further names of a binary.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Node {
    pub bin: Vec<String>,
    pub links: BTreeMap<String, Vec<String>>,
    pub cni: Vec<String>,
}

/// What is in a container image, and what it is called.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ImageRecipe {
    pub name: String,
    pub references: Vec<String>,
    /// Binaries of the distribution, each with its path in the image.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Symbolic links beside a binary.
    #[serde(default)]
    pub links: BTreeMap<String, Vec<String>>,
    /// Programs of this machine that are copied in with their libraries.
    #[serde(default)]
    pub host_programs: Vec<PathBuf>,
    /// Where the operators' binary goes; the image is left out when there is none.
    #[serde(default)]
    pub operator: Option<PathBuf>,
    #[serde(default)]
    pub entrypoint: Vec<String>,
}

/// The Kubernetes versions that the distribution can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// The version of new cells and tenants.
    pub default: String,
    /// Every version that can be built, newest first.
    pub supported: Vec<String>,
}

impl Distribution {
    /// Reads the embedded pins.
    pub fn embedded() -> Result<Self, Error> {
        serde_saphyr::from_str(PINS).map_err(|e| Error::Pins { reason: e.to_string() })
    }

    /// The components that run with one version of Kubernetes.
    pub fn components_for(&self, kubernetes: &str) -> Result<Vec<Component>, Error> {
        let versions = self.versions();
        if !versions.supported.iter().any(|v| v == kubernetes) {
            return Err(Error::UnknownKubernetes {
                version: kubernetes.to_owned(),
                supported: versions.supported.join(", "),
            });
        }
        let wanted = |c: &&Component| c.name != "kubernetes" || c.version == kubernetes;
        Ok(self.components.iter().filter(wanted).cloned().collect())
    }

    /// The Kubernetes versions in the pins, in their order.
    pub fn versions(&self) -> Versions {
        let kubernetes = self.components.iter().filter(|c| c.name == "kubernetes");
        Versions {
            default: self.default_kubernetes.clone(),
            supported: kubernetes.map(|c| c.version.clone()).collect(),
        }
    }
}

impl Component {
    /// How long the build takes on two cores with nothing cached.
    pub fn usual(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }

    /// The binaries it makes.
    pub fn binaries(&self) -> impl Iterator<Item = &str> {
        let binaries = match &self.source {
            Source::Go(go) => &go.binaries,
            Source::Wheel(wheel) => &wheel.binaries,
        };
        binaries.keys().map(String::as_str)
    }

    /// Fills the version's placeholders in a recipe's string.
    pub fn fill(&self, text: &str) -> String {
        let mut numbers = self.version.split('.');
        let major = numbers.next().unwrap_or_default();
        let minor = numbers.next().unwrap_or_default();
        text.replace("{version}", &self.version).replace("{major}", major).replace("{minor}", minor)
    }
}
