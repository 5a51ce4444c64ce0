//! What runs on a node machine, and the files that tell it how.

pub(crate) mod cni;
pub(crate) mod containerd;
pub(crate) mod front;
pub(crate) mod images;
pub(crate) mod kubeadm;
pub(crate) mod kubelet;
pub(crate) mod machine;
pub(crate) mod patches;
pub(crate) mod proxy;

use serde::Serialize;

use crate::error::Error;

/// The runtime's socket, the same path inside every machine.
pub(crate) const RUNTIME_SOCKET: &str = "/run/containerd/containerd.sock";

/// Renders one document of YAML.
fn yaml<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|error| Error::Render {
        what,
        reason: error.to_string(),
    })
}

/// Renders JSON for people to read.
fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(|error| Error::Render {
        what,
        reason: error.to_string(),
    })
}
