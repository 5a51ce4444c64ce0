//! The Kubernetes that cells and tenants run: pinned, built or verified here,
//! and packed into images without a registry.
//!
//! Must not start, stop or configure anything that it makes: other crates do.

mod building;
mod cache;
mod closure;
mod component;
mod distribution;
mod ensure;
mod error;
mod image;
mod modules;
mod node;
mod process;
mod progress;
mod sums;
mod toolchain;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use distribution::Versions;
pub use ensure::{ensure, ensure_tests};
pub use error::Error;
pub use image::ImageArchive;
pub use progress::{Progress, Silent};
pub use toolchain::{SYSTEM_PACKAGES, TEST_PACKAGES};

/// What is wanted of the distribution.
#[derive(Clone, Debug)]
pub struct Request {
    /// The directory that keeps what was made; clones of the repository share it.
    pub cache: PathBuf,
    /// The Kubernetes version, for example "1.36.3".
    pub kubernetes: String,
    /// A directory of prebuilt binaries with a SHA256SUMS, taken instead of building.
    pub prebuilt: Option<PathBuf>,
    /// The operators' binary for the image `skep`; without it there is no such image.
    pub operator_binary: Option<PathBuf>,
}

/// Everything that a cell is made of, as files on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// The version of etcd.
    pub etcd: String,
    /// The version of `CoreDNS`.
    pub coredns: String,
    /// The version of Envoy.
    pub envoy: String,
    /// A directory with every program that a node machine runs.
    pub bin: PathBuf,
    /// A directory with the CNI plugins.
    pub cni: PathBuf,
    /// The container images.
    pub images: Vec<ImageArchive>,
}

/// What tests of cells and tenants run beside them, as files on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestArtifacts {
    /// The programs by name, for example "e2e.test" and "helm".
    pub programs: BTreeMap<String, PathBuf>,
    /// The images of the pods that tests start.
    pub images: Vec<ImageArchive>,
}

/// The Kubernetes versions of the distribution.
pub fn versions() -> Result<Versions, Error> {
    Ok(distribution::Distribution::embedded()?.versions())
}

/// The cache's directory: `SKEP_CACHE`, or `skep` in the user's cache directory.
pub fn default_cache() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("SKEP_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|directory| directory.join("skep")))
        .or_else(|| set("HOME").map(|directory| directory.join(".cache/skep")))
        .unwrap_or_else(|| std::env::temp_dir().join("skep-cache"))
}
