//! kube-proxy's configuration.

use ipnet::Ipv4Net;
use serde::Serialize;

/// The part of kube-proxy's configuration that we decide.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KubeProxyConfiguration {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: Ipv4Net,
    conntrack: Conntrack,
    mode: &'static str,
    nftables: NfTables,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NfTables {
    min_sync_period: &'static str,
}

/// All zero: these are settings of the whole host, and stay as they are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Conntrack {
    max_per_core: u32,
    min: u32,
    tcp_close_wait_timeout: &'static str,
    tcp_established_timeout: &'static str,
    udp_stream_timeout: &'static str,
    udp_timeout: &'static str,
}

/// Builds the configuration of all nodes' kube-proxy.
pub(crate) fn build_configuration(pods: Ipv4Net) -> KubeProxyConfiguration {
    KubeProxyConfiguration {
        api_version: "kubeproxy.config.k8s.io/v1alpha1",
        kind: "KubeProxyConfiguration",
        cluster_cidr: pods,
        conntrack: Conntrack {
            max_per_core: 0,
            min: 0,
            tcp_close_wait_timeout: "0s",
            tcp_established_timeout: "0s",
            udp_stream_timeout: "0s",
            udp_timeout: "0s",
        },
        mode: "nftables",
        // Every start of a control plane waits for two Services to lead somewhere, and by default a change waits for
        // up to a second. Rules are changed one by one, so that more often costs little.
        nftables: NfTables {
            min_sync_period: "200ms",
        },
    }
}
