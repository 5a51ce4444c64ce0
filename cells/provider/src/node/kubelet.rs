//! The kubelet's configuration, the same for all nodes of a cell, and its command line on one node.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::Serialize;

use super::{RUNTIME_SOCKET, yaml};
use crate::error::Error;
use crate::spec::Node;

/// Inside every machine: its own resolver file, so that the host's never reaches a pod.
pub(crate) const RESOLV_CONF: &str = "/var/lib/kubelet/resolv.conf";
/// On the machine's own `/run`; the default is a directory of the host.
pub(crate) const PLUGIN_DIR: &str = "/run/kubelet-plugins";

/// The part of the kubelet's configuration that we decide.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KubeletConfiguration {
    api_version: &'static str,
    kind: &'static str,
    cgroup_driver: &'static str,
    cluster_domain: &'static str,
    #[serde(rename = "clusterDNS")]
    cluster_dns: [IpAddr; 1],
    container_log_max_size: &'static str,
    container_runtime_endpoint: String,
    eviction_hard: BTreeMap<&'static str, &'static str>,
    #[serde(rename = "failCgroupV1")]
    fail_cgroup_v1: bool,
    fail_swap_on: bool,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: u8,
    max_pods: u16,
    resolv_conf: &'static str,
    serialize_image_pulls: bool,
    shutdown_grace_period: &'static str,
    shutdown_grace_period_critical_pods: &'static str,
    system_reserved: BTreeMap<&'static str, String>,
    volume_plugin_dir: &'static str,
}

/// What the whole machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Thousandths of a processor.
    pub millicores: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Capacity {
    /// Reads this machine's.
    pub(crate) fn of_host() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            millicores: cores as u64 * 1000,
            memory: kib.unwrap_or(0) << 10,
        }
    }

    /// What a node must hold back so that all nodes together report the machine once.
    fn reserved_of(self, nodes: u64) -> BTreeMap<&'static str, String> {
        let nodes = nodes.max(1);
        let rest = |whole: u64| whole - whole / nodes;
        BTreeMap::from([
            ("cpu", format!("{}m", rest(self.millicores))),
            ("memory", format!("{}Ki", rest(self.memory) >> 10)),
        ])
    }
}

/// Builds the configuration of all kubelets of a cell.
pub(crate) fn build_configuration(dns: IpAddr, capacity: Capacity, nodes: usize) -> KubeletConfiguration {
    KubeletConfiguration {
        api_version: "kubelet.config.k8s.io/v1beta1",
        kind: "KubeletConfiguration",
        cgroup_driver: "cgroupfs",
        cluster_domain: "cluster.local",
        cluster_dns: [dns],
        container_log_max_size: "10Mi",
        container_runtime_endpoint: format!("unix://{RUNTIME_SOCKET}"),
        // All nodes share one disk and one memory: evict only when the machine itself is at its end.
        eviction_hard: BTreeMap::from([
            ("imagefs.available", "512Mi"),
            ("memory.available", "200Mi"),
            ("nodefs.available", "512Mi"),
            ("nodefs.inodesFree", "1%"),
        ]),
        fail_cgroup_v1: false,
        fail_swap_on: false,
        // Images are imported, and an image that is collected cannot be pulled again.
        image_gc_high_threshold_percent: 100,
        image_gc_low_threshold_percent: 99,
        max_pods: 250,
        resolv_conf: RESOLV_CONF,
        serialize_image_pulls: false,
        shutdown_grace_period: "0s",
        shutdown_grace_period_critical_pods: "0s",
        system_reserved: capacity.reserved_of(nodes as u64),
        volume_plugin_dir: PLUGIN_DIR,
    }
}

/// What a worker's machine changes of the configuration that its tenant gives to all kubelets, as kubeadm's patch.
pub(crate) fn build_patch(dns: IpAddr, capacity: Capacity, machines: usize) -> Result<String, Error> {
    yaml(
        "the kubelet's patch",
        &build_configuration(dns, capacity, machines),
    )
}

/// The kubelet's command on a tenant's worker.
pub(crate) fn build_worker_command(
    bin: &Path,
    name: &str,
    address: Ipv4Addr,
    zone: &str,
    cgroup: &str,
) -> Vec<String> {
    vec![
        bin.join("kubelet").display().to_string(),
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf".into(),
        "--kubeconfig=/etc/kubernetes/kubelet.conf".into(),
        "--config=/var/lib/kubelet/config.yaml".into(),
        format!("--hostname-override={name}"),
        format!("--node-ip={address}"),
        format!("--node-labels=topology.kubernetes.io/zone={zone}"),
        format!("--cgroup-root={cgroup}"),
    ]
}

/// The kubelet's command on one node.
pub(crate) fn build_command(bin: &Path, node: &Node, region: &str, cgroup: &str) -> Vec<String> {
    let labels = format!(
        "topology.kubernetes.io/region={region},topology.kubernetes.io/zone={},skep.dev/cell=local,skep.dev/zone={}",
        node.zone, node.zone
    );
    vec![
        bin.join("kubelet").display().to_string(),
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf".into(),
        "--kubeconfig=/etc/kubernetes/kubelet.conf".into(),
        "--config=/var/lib/kubelet/config.yaml".into(),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", node.address),
        format!("--node-labels={labels}"),
        format!("--cgroup-root={cgroup}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_together_report_the_machine_once() {
        let host = Capacity {
            millicores: 2000,
            memory: 24 << 30,
        };
        let reserved = host.reserved_of(3);
        assert_eq!(reserved["cpu"], "1334m");
        assert_eq!(reserved["memory"], format!("{}Ki", 16 << 20));
        assert_eq!(host.reserved_of(1)["cpu"], "0m");
    }
}
