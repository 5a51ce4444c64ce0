//! Kubernetes versions and the skew that upstream supports between them.
//!
//! It compares; which versions a platform offers is the distribution's business.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A Kubernetes version: major, minor and patch, no pre-release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The patch version.
    pub patch: u32,
}

/// A text that is no Kubernetes version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version looks like 1.36.3; {0:?} does not")]
pub struct VersionError(String);

impl KubernetesVersion {
    /// Whether a kubelet of this version may talk to an apiserver of `server` (at most three minors older, never newer).
    ///
    /// Source: the Kubernetes version skew policy.
    pub fn may_serve_under(self, server: Self) -> bool {
        self.major == server.major && self.minor <= server.minor && server.minor - self.minor <= 3
    }

    /// Whether a control plane of this version may go to `target` in one step.
    ///
    /// Source: the Kubernetes version skew policy: one minor at a time, never down.
    pub fn may_upgrade_to(self, target: Self) -> bool {
        self.major == target.major && target >= self && target.minor - self.minor <= 1
    }
}

impl FromStr for KubernetesVersion {
    type Err = VersionError;
    fn from_str(value: &str) -> Result<Self, VersionError> {
        let refuse = || VersionError(value.chars().take(40).collect());
        let digits = value.strip_prefix('v').unwrap_or(value);
        let mut parts = digits.split('.');
        let mut next = || {
            let part = parts
                .next()
                .filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
            if part.len() > 1 && part.starts_with('0') {
                return None;
            }
            part.parse().ok()
        };
        let (major, minor, patch) = (next(), next(), next());
        match (major, minor, patch, parts.next()) {
            (Some(major), Some(minor), Some(patch), None) => Ok(Self { major, minor, patch }),
            _ => Err(refuse()),
        }
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = VersionError;
    fn try_from(value: String) -> Result<Self, VersionError> {
        value.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(version: KubernetesVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> KubernetesVersion {
        text.parse().unwrap()
    }

    #[test]
    fn a_leading_v_is_understood_and_not_printed() {
        assert_eq!(version("v1.36.3").to_string(), "1.36.3");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in [
            "",
            "1",
            "1.36",
            "1.36.3.1",
            "1.36.x",
            "1.-1.0",
            "1.036.3",
            "1.36.3-rc.1",
            "latest",
            "1..3",
        ] {
            assert!(bad.parse::<KubernetesVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.9.0") < version("1.36.3"));
    }

    #[test]
    fn skew_follows_upstream() {
        assert!(version("1.33.0").may_serve_under(version("1.36.3")));
        assert!(!version("1.32.9").may_serve_under(version("1.36.3")));
        assert!(!version("1.37.0").may_serve_under(version("1.36.3")));
        assert!(version("1.35.4").may_upgrade_to(version("1.36.3")));
        assert!(!version("1.34.4").may_upgrade_to(version("1.36.3")));
        assert!(!version("1.36.3").may_upgrade_to(version("1.36.2")));
    }
}
