//! A worker's machine: its files, its supervisor's configuration, and how it joins its tenant.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::state::{TenantState, Worker};
use super::{JoinToken, Site};
use crate::address;
use crate::error::Error;
use crate::inside::Inside;
use crate::join::wait_until;
use crate::layout::MachinePaths;
use crate::node::kubelet::Capacity;
use crate::node::machine::layout::{Extras, MachineLayout};
use crate::node::{kubeadm, kubelet};
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
        let (name, paths) = (self.name(), self.paths());
        let machine = MachineLayout {
            machine: &name,
            host_name: &self.worker.name,
            names: &self.site.names,
            paths: &paths,
            hierarchies: self.site.hierarchies,
            artifacts: self.site.artifacts,
            interfaces: None,
        };
        machine.prepare_node()?;
        let front = self.site.slot.front();
        machine.write_hosts(self.tenant.hosts().map(|host| (front, host)))?;
        if let Some(pods) = self.worker.pods {
            machine.write_network(pods)?;
        }
        let kubelet = kubelet::build_worker_command(
            &self.site.artifacts.bin,
            &self.worker.name,
            address::worker(self.worker.index),
            &self.worker.zone,
            &machine.cgroup(),
        );
        machine.write_config(&machine.build_node(kubelet, Extras::default()))
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
                // The kubelet has its credentials a moment before it registers its node.
                .args(["--ignore-not-found", "-o", "jsonpath={.spec.podCIDR}"])
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
