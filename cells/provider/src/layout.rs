//! Where an instance keeps its files.

use std::path::{Path, PathBuf};

/// The registry of instances on this machine.
pub(crate) const RUN_DIR: &str = "/run/skep";

/// Paths in one state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    home: PathBuf,
}

impl Layout {
    pub(crate) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
        }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// What the instance is: slot, nodes, ranges.
    pub(crate) fn cell(&self) -> PathBuf {
        self.home.join("cell.json")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.home.join("hub.kubeconfig")
    }

    /// All machines' own directories.
    pub(crate) fn machines(&self) -> PathBuf {
        self.home.join("machines")
    }

    pub(crate) fn machine(&self, machine: &str) -> MachinePaths {
        MachinePaths {
            dir: self.machines().join(machine),
            log: self.home.join("log").join(machine),
        }
    }

    /// What workers tenants have here.
    pub(crate) fn tenants(&self) -> PathBuf {
        self.home.join("tenants")
    }

    /// What workers one tenant has here.
    pub(crate) fn tenant(&self, cpid: &str) -> PathBuf {
        self.tenants().join(format!("{cpid}.json"))
    }

    /// The backing files of local volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.home.join("volumes")
    }

    pub(crate) fn volume_file(&self, machine: &str, number: u16) -> PathBuf {
        self.volumes().join(machine).join(format!("{number}.img"))
    }
}

/// Paths of one machine, as the host sees them.
#[derive(Clone, Debug)]
pub(crate) struct MachinePaths {
    dir: PathBuf,
    log: PathBuf,
}

impl MachinePaths {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The supervisor's configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("machine.json")
    }

    /// Becomes `/etc/kubernetes`.
    pub(crate) fn kubernetes(&self) -> PathBuf {
        self.dir.join("kubernetes")
    }

    /// Becomes `/var/lib/kubelet`.
    pub(crate) fn kubelet(&self) -> PathBuf {
        self.dir.join("kubelet")
    }

    /// Becomes `/var/lib/etcd`.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    /// Becomes `/var/log/pods`.
    pub(crate) fn pod_logs(&self) -> PathBuf {
        self.dir.join("pod-logs")
    }

    /// Becomes `/var/log/containers`.
    pub(crate) fn container_logs(&self) -> PathBuf {
        self.dir.join("container-logs")
    }

    /// Becomes `/var/lib/skep/volumes`, with the volumes mounted in it.
    pub(crate) fn mounted_volumes(&self) -> PathBuf {
        self.dir.join("volumes")
    }

    /// The container runtime's content and snapshots.
    pub(crate) fn containerd_root(&self) -> PathBuf {
        self.dir.join("containerd")
    }

    pub(crate) fn containerd_config(&self) -> PathBuf {
        self.dir.join("containerd.toml")
    }

    /// Plugins of the pod network that are this program under another name.
    pub(crate) fn cni_bin(&self) -> PathBuf {
        self.dir.join("cni-bin")
    }

    pub(crate) fn cni_config(&self) -> PathBuf {
        self.dir.join("cni")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }

    /// What kubeadm is given.
    pub(crate) fn kubeadm_config(&self) -> PathBuf {
        self.dir.join("kubeadm.yaml")
    }

    /// Changes to the control plane's static pods, as kubeadm reads them.
    pub(crate) fn kubeadm_patches(&self) -> PathBuf {
        self.dir.join("patches")
    }

    /// Where to find a joining node's cluster.
    pub(crate) fn discovery(&self) -> PathBuf {
        self.dir.join("discovery.conf")
    }

    /// Written when kubeadm has made this node a member.
    pub(crate) fn joined(&self) -> PathBuf {
        self.dir.join("joined")
    }
}
