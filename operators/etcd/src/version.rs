//! Versions of etcd: which are safe to run, and which read each other's data.

use skep_api::etcd_cluster::EtcdRelease;
use skep_core::KubernetesVersion;

use crate::validate::{InvalidSpec, check_image};

/// The oldest safe version of each line. Source: etcd's security advisories, see `docs/design/etcd.md`.
const FLOORS: [(u32, u32, u32); 3] = [(3, 5, 33), (3, 6, 14), (3, 7, 1)];

/// A version of etcd and the image that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: EtcdVersion,
    /// The image reference.
    pub image: String,
}

impl Release {
    /// Reads one that was recorded; nothing where it can no longer be run.
    pub fn recorded(recorded: &EtcdRelease) -> Option<Self> {
        Some(Self {
            version: EtcdVersion::parse(&recorded.version).ok()?,
            image: check_image(&recorded.image).ok()?,
        })
    }

    /// As it is recorded.
    pub fn to_record(&self) -> EtcdRelease {
        EtcdRelease {
            version: self.version.to_string(),
            image: self.image.clone(),
        }
    }
}

/// A version of etcd that is safe to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EtcdVersion(KubernetesVersion);

/// The versions that read and write each other's data: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line(u32, u32);

impl Line {
    /// The line after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0, self.1 + 1)
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The generations of etcd's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagStyle {
    /// 3.5: `--experimental-*`.
    Experimental,
    /// 3.6 and later: feature gates; 3.7 ends on any `--experimental-*`.
    FeatureGates,
}

impl EtcdVersion {
    /// Its line.
    pub fn line(self) -> Line {
        Line(self.0.major, self.0.minor)
    }

    /// Which flags this version understands.
    pub fn flag_style(self) -> FlagStyle {
        if self.0.minor <= 5 {
            FlagStyle::Experimental
        } else {
            FlagStyle::FeatureGates
        }
    }

    /// Parses one, and refuses those with known holes.
    ///
    /// # Errors
    /// Why it is not run.
    pub fn parse(text: &str) -> Result<Self, InvalidSpec> {
        let refuse = |why: String| InvalidSpec::new("version", why);
        let version: KubernetesVersion = text
            .parse()
            .map_err(|_| refuse(format!("{text:?} is no version such as 3.7.3")))?;
        let floor = FLOORS
            .iter()
            .find(|floor| (floor.0, floor.1) == (version.major, version.minor));
        match floor {
            None => Err(refuse(format!(
                "{version} is of no known line; 3.5, 3.6 and 3.7 are"
            ))),
            Some((major, minor, patch)) if version.patch < *patch => Err(refuse(format!(
                "{version} is not safe; {major}.{minor}.{patch} is the oldest of its line"
            ))),
            Some(_) => Ok(Self(version)),
        }
    }
}

impl std::fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
