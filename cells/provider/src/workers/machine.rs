//! A worker's machine: its files, its supervisor's configuration, and how it joins its tenant.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::state::{TenantState, Worker};
use super::{JoinToken, Site};
use crate::address;
use crate::error::Error;
use crate::inside::{Inside, search_path};
use crate::join::wait_until;
use crate::layout::MachinePaths;
use crate::machine::{Bind, MachineConfig, Service};
use crate::names::netns_path;
use crate::node::kubelet::Capacity;
use crate::node::machine::node_sysctls;
use crate::node::{cni, containerd, images, kubeadm, kubelet};
use crate::state;

/// `kubeadm join` takes some ten seconds, and several times that on a busy machine.
const JOIN_LIMIT: Duration = Duration::from_mins(4);
/// The tenant's controller manager gives a new node its range within a second.
const RANGE_LIMIT: Duration = Duration::from_mins(1);

/// One worker of one tenant.
pub(super) struct Machine<'a> {
    pub site: &'a Site<'a>,
    pub tenant: &'a TenantState,
    pub worker: &'a Worker,
}

impl Machine<'_> {
    pub(super) fn name(&self) -> String {
        self.site.names.worker(&self.tenant.cpid, self.worker.index)
    }

    fn paths(&self) -> MachinePaths {
        self.site.layout.machine(&self.name())
    }

    /// Writes the machine's files; changes nothing that is right.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        let (paths, name, artifacts) = (self.paths(), self.name(), self.site.artifacts);
        let dirs = [
            paths.kubernetes(),
            paths.kubelet(),
            paths.pod_logs(),
            paths.container_logs(),
            paths.containerd_root(),
            paths.cni_config(),
            paths.log().to_owned(),
        ];
        for dir in dirs {
            std::fs::create_dir_all(&dir).map_err(Error::io("make", dir))?;
        }
        let runtime = containerd::RuntimePaths {
            root: &paths.containerd_root(),
            bin: &artifacts.bin,
            cni_bin: &artifacts.cni,
            cni_config: &paths.cni_config(),
        };
        let pause = images::find_reference(artifacts, "localhost/pause:")?;
        state::write_text(
            &paths.containerd_config(),
            &containerd::build_config(&runtime, pause)?,
        )?;
        for file in [paths.resolv_conf(), paths.kubelet().join("resolv.conf")] {
            state::write_text(&file, "# names of the cluster only\n")?;
        }
        let hosts = format!(
            "127.0.0.1 localhost\n127.0.1.1 {}\n{} {}\n",
            self.worker.name,
            self.site.slot.front(),
            self.tenant.host
        );
        state::write_text(&paths.hosts(), &hosts)?;
        if let Some(pods) = self.worker.pods {
            self.write_network(pods)?;
        }
        self.site
            .hierarchies
            .make(&format!("{}/system", self.site.names.machine_cgroup(&name)))?;
        state::write(&paths.config(), &self.build_config(&paths))
    }

    /// Gives the runtime its pod network; until then the node is not ready.
    pub(super) fn write_network(&self, pods: Ipv4Net) -> Result<(), Error> {
        let file = self.paths().cni_config().join("10-skep.conflist");
        state::write_text(&file, &cni::build_network(pods)?).map(drop)
    }

    fn build_config(&self, paths: &MachinePaths) -> MachineConfig {
        let (name, artifacts) = (self.name(), self.site.artifacts);
        let bind = |from: PathBuf, to: &str| Bind { from, to: to.into() };
        let cgroup = self.site.names.machine_cgroup(&name);
        let containerd = vec![
            artifacts.bin.join("containerd").display().to_string(),
            "--config".into(),
            paths.containerd_config().display().to_string(),
        ];
        let address = address::worker(self.worker.index);
        let kubelet = kubelet::build_worker_command(
            &artifacts.bin,
            &self.worker.name,
            address,
            &self.worker.zone,
            &cgroup,
        );
        let env = BTreeMap::from([
            ("PATH".to_owned(), search_path(&artifacts.bin)),
            ("HOME".to_owned(), "/root".to_owned()),
        ]);
        let service = |name: &str, command, wait_for, runs_containers| Service {
            name: name.to_owned(),
            command,
            env: env.clone(),
            wait_for,
            runs_containers,
        };
        MachineConfig {
            netns: netns_path(&name),
            name: self.worker.name.clone(),
            cgroups: self.site.hierarchies.dirs(&cgroup),
            log: paths.log().to_owned(),
            binds: vec![
                bind(paths.kubernetes(), "/etc/kubernetes"),
                bind(paths.kubelet(), "/var/lib/kubelet"),
                bind(paths.pod_logs(), "/var/log/pods"),
                bind(paths.container_logs(), "/var/log/containers"),
                bind(paths.hosts(), "/etc/hosts"),
                bind(paths.resolv_conf(), "/etc/resolv.conf"),
            ],
            sysctls: node_sysctls(),
            volumes: Vec::new(),
            services: vec![
                service("containerd", containerd, Vec::new(), true),
                service(
                    "kubelet",
                    kubelet,
                    vec!["/var/lib/kubelet/config.yaml".into()],
                    false,
                ),
            ],
        }
    }

    /// Whether kubeadm has made it a node of the tenant.
    pub(super) fn is_member(&self) -> bool {
        self.paths().joined().exists()
    }

    /// Joins the tenant through its gateway with plain kubeadm.
    pub(super) async fn join(&self, inside: Inside<'_>, token: &JoinToken) -> Result<(), Error> {
        let paths = self.paths();
        let wish = kubeadm::WorkerJoin {
            name: &self.worker.name,
            address: address::worker(self.worker.index),
            endpoint: format!("{}:443", self.tenant.host),
            token: &token.token,
            authority_hash: &token.authority_hash,
            patches: &paths.kubeadm_patches(),
        };
        let patch = kubelet::build_patch(self.dns(), Capacity::of_host(), self.site.machines)?;
        state::write_text(
            &paths
                .kubeadm_patches()
                .join("kubeletconfiguration+strategic.yaml"),
            &patch,
        )?;
        state::write_secret(&paths.kubeadm_config(), &kubeadm::build_worker_join(&wish)?)?;
        inside
            .command(&self.site.artifacts.bin.join("kubeadm"))
            .args(["join", "--config"])
            .arg(paths.kubeadm_config())
            .limit(JOIN_LIMIT)
            .run()
            .await?;
        state::write_text(&paths.joined(), "").map(drop)
    }

    fn dns(&self) -> IpAddr {
        self.tenant.dns
    }

    /// The range that the tenant has given to this node's pods, asked for as the node itself.
    pub(super) async fn pods(&self, inside: Inside<'_>) -> Result<Ipv4Net, Error> {
        let kubectl = self.site.artifacts.bin.join("kubectl");
        let mut found = None;
        let deadline = std::time::Instant::now() + RANGE_LIMIT;
        while found.is_none() && std::time::Instant::now() < deadline {
            let answer = inside
                .command(&kubectl)
                .args([
                    "--kubeconfig",
                    "/etc/kubernetes/kubelet.conf",
                    "get",
                    "node",
                    &self.worker.name,
                ])
                .args(["-o", "jsonpath={.spec.podCIDR}"])
                .run()
                .await?;
            found = answer.trim().parse().ok();
            if found.is_none() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        found.ok_or_else(|| Error::TimedOut {
            what: format!("a pod range for node {}", self.worker.name),
            after: RANGE_LIMIT,
            hint: "see the logs of the tenant's kube-controller-manager".into(),
        })
    }

    /// Waits until the kubelet has its first credentials.
    pub(super) async fn wait_credentials(&self) -> Result<(), Error> {
        let file = self.paths().kubernetes().join("kubelet.conf");
        let hint = format!("see {}", self.paths().log().join("kubelet.log").display());
        let what = format!("the bootstrap of the kubelet of {}", self.worker.name);
        wait_until(&what, RANGE_LIMIT, &hint, || Ok(file.exists())).await
    }
}
