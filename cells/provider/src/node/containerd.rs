//! The container runtime's configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::RUNTIME_SOCKET;
use crate::error::Error;

/// Parts that a node does not use and that would look or write outside its directories.
const DISABLED: [&str; 8] = [
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
];

#[derive(Serialize)]
struct Config<'a> {
    version: u8,
    root: &'a Path,
    state: &'static str,
    disabled_plugins: [&'static str; DISABLED.len()],
    grpc: Grpc,
    plugins: Plugins<'a>,
}

#[derive(Serialize)]
struct Grpc {
    address: &'static str,
}

#[derive(Serialize)]
struct Plugins<'a> {
    #[serde(rename = "io.containerd.cri.v1.images")]
    images: Images<'a>,
    #[serde(rename = "io.containerd.cri.v1.runtime")]
    runtime: Runtime<'a>,
    #[serde(rename = "io.containerd.internal.v1.opt")]
    opt: Opt,
}

#[derive(Serialize)]
struct Images<'a> {
    snapshotter: &'static str,
    pinned_images: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct Runtime<'a> {
    /// Without it every sandbox fails where `CAP_SYS_RESOURCE` is missing.
    restrict_oom_score_adj: bool,
    enable_cdi: bool,
    cni: Cni<'a>,
    containerd: Containerd,
}

#[derive(Serialize)]
struct Cni<'a> {
    bin_dirs: Vec<&'a Path>,
    conf_dir: &'a Path,
}

#[derive(Serialize)]
struct Containerd {
    default_runtime_name: &'static str,
    runtimes: BTreeMap<&'static str, Handler>,
}

#[derive(Serialize)]
struct Handler {
    runtime_type: &'static str,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    #[serde(rename = "BinaryName")]
    binary_name: PathBuf,
    #[serde(rename = "SystemdCgroup")]
    systemd_cgroup: bool,
}

#[derive(Serialize)]
struct Opt {
    path: &'static str,
}

/// Where the runtime finds its programs and keeps its data.
pub(crate) struct RuntimePaths<'a> {
    pub root: &'a Path,
    pub bin: &'a Path,
    /// Where plugins of the pod network are.
    pub cni_bin: Vec<&'a Path>,
    pub cni_config: &'a Path,
}

/// Renders the configuration of a node's runtime; `pause` is the image of sandboxes.
pub(crate) fn build_config(paths: &RuntimePaths, pause: &str) -> Result<String, Error> {
    let runc = Handler {
        runtime_type: "io.containerd.runc.v2",
        options: Options {
            binary_name: paths.bin.join("runc"),
            systemd_cgroup: false,
        },
    };
    let config = Config {
        version: 3,
        root: paths.root,
        state: "/run/containerd",
        disabled_plugins: DISABLED,
        grpc: Grpc {
            address: RUNTIME_SOCKET,
        },
        plugins: Plugins {
            images: Images {
                snapshotter: "overlayfs",
                pinned_images: BTreeMap::from([("sandbox", pause)]),
            },
            runtime: Runtime {
                restrict_oom_score_adj: true,
                enable_cdi: false,
                cni: Cni {
                    bin_dirs: paths.cni_bin.clone(),
                    conf_dir: paths.cni_config,
                },
                containerd: Containerd {
                    default_runtime_name: "runc",
                    runtimes: BTreeMap::from([("runc", runc)]),
                },
            },
            opt: Opt {
                path: "/run/containerd/opt",
            },
        },
    };
    // By way of a table: written straight from structs, a renamed field's dots are not quoted.
    toml::Table::try_from(&config)
        .and_then(|table| toml::to_string(&table))
        .map_err(|error| Error::Render {
            what: "containerd's configuration",
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let paths = RuntimePaths {
            root: Path::new("/home/machines/x-a-1/containerd"),
            bin: Path::new("/cache/bin"),
            cni_bin: vec![Path::new("/cache/cni"), Path::new("/home/machines/x-a-1/cni-bin")],
            cni_config: Path::new("/home/machines/x-a-1/cni"),
        };
        insta::assert_snapshot!(build_config(&paths, "localhost/pause:3.10.2").unwrap());
    }
}
