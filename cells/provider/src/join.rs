//! Nodes become members of the cluster: the first begins it, the others join.

use std::path::Path;
use std::time::{Duration, Instant};

use skep_distro::Artifacts;

use crate::cell::Cell;
use crate::cluster::{Cluster, new_token};
use crate::command::Command;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::host::process;
use crate::inside::Inside;
use crate::layout::Layout;
use crate::node::kubeadm;
use crate::node::kubelet::Capacity;
use crate::spec::{Node, Role};
use crate::state;

/// `kubeadm init` takes 20 s, and several times that on a machine busy with builds.
const INIT_LIMIT: Duration = Duration::from_mins(5);
const JOIN_LIMIT: Duration = Duration::from_mins(5);

/// Keys and certificates that all control planes share, below `/etc/kubernetes/pki`.
const SHARED_KEYS: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "sa.key",
    "sa.pub",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
];

/// What is needed to make a node a member.
#[derive(Clone, Copy)]
pub(crate) struct Membership<'a> {
    pub cell: &'a Cell,
    pub layout: &'a Layout,
    pub hierarchies: &'a Hierarchies,
    pub artifacts: &'a Artifacts,
}

impl Membership<'_> {
    /// Whether a node is a member already.
    pub(crate) fn is_member(&self, node: &Node) -> bool {
        self.layout.machine(&node.name).joined().exists()
    }

    /// Begins the cluster on its first node and writes the administrator's kubeconfig.
    pub(crate) async fn init(&self, node: &Node, inside: Inside<'_>) -> Result<(), Error> {
        let paths = self.layout.machine(&node.name);
        let slot = self.cell.slot;
        let cluster = kubeadm::Cluster {
            instance: &self.cell.instance,
            front: slot.front(),
            kubernetes: &self.artifacts.kubernetes,
            etcd: &self.artifacts.etcd,
            coredns: &self.artifacts.coredns,
            services: slot.services(),
            pods: slot.pods(),
            dns: slot.dns(),
            capacity: Capacity::of_host(),
            nodes: self.cell.nodes.len(),
            control_planes: self
                .cell
                .nodes
                .iter()
                .filter(|node| node.role == Role::ControlPlane)
                .count(),
        };
        let text = kubeadm::build_init(&cluster, node, &paths.kubeadm_patches(), &new_token())?;
        state::write_secret(&paths.kubeadm_config(), &text)?;
        self.kubeadm(inside)
            .args([
                "init",
                "--skip-phases=addon/coredns,show-join-command",
                "--config",
            ])
            .arg(paths.kubeadm_config())
            .limit(INIT_LIMIT)
            .run()
            .await?;
        self.export_kubeconfig(node)?;
        state::write_text(&paths.joined(), "").map(drop)
    }

    /// Copies the administrator's credentials to where users find them.
    pub(crate) fn export_kubeconfig(&self, first: &Node) -> Result<(), Error> {
        let from = self.layout.machine(&first.name).kubernetes().join("admin.conf");
        let text = std::fs::read_to_string(&from).map_err(Error::io("read", from))?;
        state::write_secret(&self.layout.kubeconfig(), &text)
    }

    /// Makes a node a member, from whatever an earlier try left.
    pub(crate) async fn join(&self, node: &Node, inside: Inside<'_>, cluster: &Cluster) -> Result<(), Error> {
        let paths = self.layout.machine(&node.name);
        if paths.kubernetes().join("kubelet.conf").exists() || paths.kubelet().join("config.yaml").exists() {
            self.forget(node, cluster).await?;
        }
        if node.role == Role::ControlPlane {
            self.share_keys(node)?;
        }
        let token = cluster.create_token().await?;
        self.write_discovery(node)?;
        let text = kubeadm::build_join(node, &paths.discovery(), &paths.kubeadm_patches(), &token)?;
        state::write_secret(&paths.kubeadm_config(), &text)?;
        let joined = self
            .kubeadm(inside)
            .args(["join", "--config"])
            .arg(paths.kubeadm_config())
            .limit(JOIN_LIMIT)
            .run()
            .await;
        cluster.delete_token(&token).await?;
        joined?;
        state::write_text(&paths.joined(), "").map(drop)
    }

    /// Installs the cluster's DNS, once there are nodes to spread it over.
    pub(crate) async fn install_dns(&self, node: &Node, inside: Inside<'_>) -> Result<(), Error> {
        self.kubeadm(inside)
            .args(["init", "phase", "addon", "coredns", "--config"])
            .arg(self.layout.machine(&node.name).kubeadm_config())
            .run()
            .await
            .map(drop)
    }

    fn kubeadm(&self, inside: Inside<'_>) -> Command {
        inside.command(&self.artifacts.bin.join("kubeadm"))
    }

    /// Undoes a join that did not end: its files, its kubelet, its node object.
    async fn forget(&self, node: &Node, cluster: &Cluster) -> Result<(), Error> {
        let paths = self.layout.machine(&node.name);
        for file in ["kubelet.conf", "bootstrap-kubelet.conf"] {
            remove(&paths.kubernetes().join(file))?;
        }
        for file in ["config.yaml", "kubeadm-flags.env", "pki"] {
            remove(&paths.kubelet().join(file))?;
        }
        self.end_kubelet(node).await;
        cluster.delete_node(&node.name).await
    }

    /// Ends a node's kubelet; the supervisor starts it again when it has a configuration.
    async fn end_kubelet(&self, node: &Node) {
        process::end_service(self.hierarchies, &self.cell.names(), &node.name, "kubelet").await;
    }

    /// Puts the cluster's own keys where a joining control plane looks for them.
    fn share_keys(&self, node: &Node) -> Result<(), Error> {
        let Some(first) = self.cell.nodes.first() else {
            return Ok(());
        };
        let from = self.layout.machine(&first.name).kubernetes().join("pki");
        let to = self.layout.machine(&node.name).kubernetes().join("pki");
        std::fs::create_dir_all(to.join("etcd")).map_err(Error::io("make", &to))?;
        for file in SHARED_KEYS {
            std::fs::copy(from.join(file), to.join(file)).map_err(Error::io("copy to", to.join(file)))?;
        }
        Ok(())
    }

    /// Writes where the cluster is and by which authority it is known; no credentials.
    fn write_discovery(&self, node: &Node) -> Result<(), Error> {
        let Some(first) = self.cell.nodes.first() else {
            return Ok(());
        };
        let authority = self.layout.machine(&first.name).kubernetes().join("pki/ca.crt");
        let certificate = std::fs::read_to_string(&authority).map_err(Error::io("read", authority))?;
        let file = self.layout.machine(&node.name);
        state::write_text(&file.kubernetes().join("discovery-ca.crt"), &certificate)?;
        let text = serde_json::to_string_pretty(&serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "cell", "cluster": {
                "server": format!("https://{}:6443", self.cell.slot.front()),
                "certificate-authority": "/etc/kubernetes/discovery-ca.crt",
            } }],
            // A user without credentials: the token is given apart.
            "users": [{ "name": "anyone", "user": {} }],
            "contexts": [{ "name": "cell", "context": { "cluster": "cell", "user": "anyone" } }],
            "current-context": "cell",
        }))
        .map_err(|error| Error::Render {
            what: "the discovery file",
            reason: error.to_string(),
        })?;
        state::write_text(&file.discovery(), &text).map(drop)
    }
}

/// Removes a file or directory that may be missing.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Waits until something is there, looking often.
pub(crate) async fn wait_until(
    what: &str,
    limit: Duration,
    hint: &str,
    mut is_so: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: what.to_owned(),
                after: limit,
                hint: hint.to_owned(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
