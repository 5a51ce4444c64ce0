//! What kubeadm is told: to begin a cluster, or to join a node to one.

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::kubelet::{Capacity, PLUGIN_DIR};
use super::{RUNTIME_SOCKET, kubelet, proxy, yaml};
use crate::error::Error;
use crate::spec::{Node, Role};

const API: &str = "kubeadm.k8s.io/v1beta4";
/// Where images live: nowhere; they are imported and never pulled.
const REPOSITORY: &str = "localhost";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitConfiguration<'a> {
    api_version: &'static str,
    kind: &'static str,
    bootstrap_tokens: [BootstrapToken<'a>; 1],
    #[serde(rename = "localAPIEndpoint")]
    local_api_endpoint: Endpoint,
    node_registration: NodeRegistration<'a>,
    patches: Patches<'a>,
}

#[derive(Serialize)]
struct BootstrapToken<'a> {
    token: &'a str,
    ttl: &'static str,
    usages: [&'static str; 1],
    groups: [&'static str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    advertise_address: Ipv4Addr,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeRegistration<'a> {
    name: &'a str,
    cri_socket: String,
    ignore_preflight_errors: [&'static str; 1],
    image_pull_policy: &'static str,
    kubelet_extra_args: [Arg; 1],
    /// Empty and not absent: absent means kubeadm's taint of control planes.
    taints: [(); 0],
}

#[derive(Serialize)]
struct Patches<'a> {
    directory: &'a Path,
}

#[derive(Clone, Serialize)]
struct Arg {
    name: &'static str,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterConfiguration<'a> {
    api_version: &'static str,
    kind: &'static str,
    api_server: ApiServer,
    cluster_name: &'a str,
    control_plane_endpoint: String,
    controller_manager: Component,
    scheduler: Component,
    dns: Dns,
    etcd: Etcd,
    image_repository: &'static str,
    kubernetes_version: String,
    networking: Networking,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiServer {
    #[serde(rename = "certSANs")]
    cert_sans: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    extra_args: Vec<Arg>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dns {
    image_tag: String,
}

#[derive(Serialize)]
struct Etcd {
    local: LocalEtcd,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LocalEtcd {
    image_tag: String,
    data_dir: &'static str,
}

/// Without `podSubnet`: the provider gives nodes their ranges, not the controller manager.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    dns_domain: &'static str,
    service_subnet: Ipv4Net,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinConfiguration<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane: Option<JoinControlPlane>,
    discovery: Discovery<'a>,
    node_registration: NodeRegistration<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patches: Option<Patches<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JoinControlPlane {
    #[serde(rename = "localAPIEndpoint")]
    local_api_endpoint: Endpoint,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovery<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap_token: Option<DiscoveryToken<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<DiscoveryFile<'a>>,
    tls_bootstrap_token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiscoveryToken<'a> {
    api_server_endpoint: &'a str,
    ca_cert_hashes: [&'a str; 1],
    token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiscoveryFile<'a> {
    kube_config_path: &'a Path,
}

/// What a cluster begins with.
pub(crate) struct Cluster<'a> {
    pub instance: &'a str,
    /// The front proxy.
    pub front: Ipv4Addr,
    /// Versions without a leading `v`.
    pub kubernetes: &'a str,
    pub etcd: &'a str,
    pub coredns: &'a str,
    pub services: Ipv4Net,
    pub pods: Ipv4Net,
    pub dns: Ipv4Addr,
    pub capacity: Capacity,
    pub nodes: usize,
    pub control_planes: usize,
}

/// Renders what `kubeadm init` reads.
pub(crate) fn build_init(
    cluster: &Cluster,
    node: &Node,
    patches: &Path,
    token: &str,
) -> Result<String, Error> {
    let init = InitConfiguration {
        api_version: API,
        kind: "InitConfiguration",
        bootstrap_tokens: [BootstrapToken {
            token,
            ttl: "15m0s",
            usages: ["authentication"],
            groups: ["system:bootstrappers:kubeadm:default-node-token"],
        }],
        local_api_endpoint: Endpoint {
            advertise_address: node.address,
        },
        node_registration: build_registration(&node.name, node.address),
        patches: Patches { directory: patches },
    };
    let documents = [
        yaml("kubeadm's InitConfiguration", &init)?,
        yaml("kubeadm's ClusterConfiguration", &build_cluster(cluster))?,
        yaml(
            "the kubelet's configuration",
            &kubelet::build_configuration(cluster.dns.into(), cluster.capacity, cluster.nodes),
        )?,
        yaml(
            "kube-proxy's configuration",
            &proxy::build_configuration(cluster.pods),
        )?,
    ];
    Ok(documents.join("---\n"))
}

fn build_cluster<'a>(cluster: &Cluster<'a>) -> ClusterConfiguration<'a> {
    let arg = |name, value: &str| Arg {
        name,
        value: value.to_owned(),
    };
    // One alone need not wait for the lease of the one before it, nor end when the API is slow.
    let leadership = || match cluster.control_planes {
        1 => vec![arg("leader-elect", "false")],
        _ => Vec::new(),
    };
    ClusterConfiguration {
        api_version: API,
        kind: "ClusterConfiguration",
        api_server: ApiServer {
            cert_sans: vec![cluster.front.to_string(), "127.0.0.1".into(), "localhost".into()],
        },
        cluster_name: cluster.instance,
        control_plane_endpoint: format!("{}:6443", cluster.front),
        controller_manager: Component {
            extra_args: [vec![arg("flex-volume-plugin-dir", PLUGIN_DIR)], leadership()].concat(),
        },
        scheduler: Component {
            extra_args: leadership(),
        },
        dns: Dns {
            image_tag: format!("v{}", cluster.coredns),
        },
        // kubeadm reads a version with a build number from the tag.
        etcd: Etcd {
            local: LocalEtcd {
                image_tag: format!("{}-0", cluster.etcd),
                data_dir: "/var/lib/etcd",
            },
        },
        image_repository: REPOSITORY,
        kubernetes_version: format!("v{}", cluster.kubernetes),
        networking: Networking {
            dns_domain: "cluster.local",
            service_subnet: cluster.services,
        },
    }
}

fn build_registration(name: &str, address: Ipv4Addr) -> NodeRegistration<'_> {
    NodeRegistration {
        name,
        cri_socket: format!("unix://{RUNTIME_SOCKET}"),
        // They look at the host, which is not what the node is.
        ignore_preflight_errors: ["all"],
        image_pull_policy: "Never",
        kubelet_extra_args: [Arg {
            name: "node-ip",
            value: address.to_string(),
        }],
        taints: [],
    }
}

/// Renders what `kubeadm join` reads; a control plane finds the cluster's keys already in place.
pub(crate) fn build_join(
    node: &Node,
    discovery: &Path,
    patches: &Path,
    token: &str,
) -> Result<String, Error> {
    let is_control_plane = node.role == Role::ControlPlane;
    let join = JoinConfiguration {
        api_version: API,
        kind: "JoinConfiguration",
        control_plane: is_control_plane.then_some(JoinControlPlane {
            local_api_endpoint: Endpoint {
                advertise_address: node.address,
            },
        }),
        discovery: Discovery {
            bootstrap_token: None,
            file: Some(DiscoveryFile {
                kube_config_path: discovery,
            }),
            tls_bootstrap_token: token,
        },
        node_registration: build_registration(&node.name, node.address),
        patches: is_control_plane.then_some(Patches { directory: patches }),
    };
    yaml("kubeadm's JoinConfiguration", &join)
}

/// How a tenant's worker joins.
pub(crate) struct WorkerJoin<'a> {
    /// The name of its node.
    pub name: &'a str,
    pub address: Ipv4Addr,
    /// Host and port of the tenant's API, as nodes reach it.
    pub endpoint: String,
    pub token: &'a str,
    /// `sha256:` and the hash of the authority's public key.
    pub authority_hash: &'a str,
    /// Where the kubelet's patch is.
    pub patches: &'a Path,
}

/// Renders what `kubeadm join` reads on a tenant's worker: a token and a hash, as any machine anywhere would use.
pub(crate) fn build_worker_join(wish: &WorkerJoin<'_>) -> Result<String, Error> {
    let join = JoinConfiguration {
        api_version: API,
        kind: "JoinConfiguration",
        control_plane: None,
        discovery: Discovery {
            bootstrap_token: Some(DiscoveryToken {
                api_server_endpoint: &wish.endpoint,
                ca_cert_hashes: [wish.authority_hash],
                token: wish.token,
            }),
            file: None,
            tls_bootstrap_token: wish.token,
        },
        node_registration: build_registration(wish.name, wish.address),
        patches: Some(Patches {
            directory: wish.patches,
        }),
    };
    yaml("kubeadm's JoinConfiguration", &join)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(role: Role) -> Node {
        let address = Ipv4Addr::new(198, 18, 0, 11);
        Node {
            name: "skep-a-1".into(),
            zone: "a".into(),
            address,
            index: 0,
            role,
        }
    }

    #[test]
    fn init_golden() {
        let cluster = Cluster {
            instance: "skep",
            front: Ipv4Addr::new(198, 18, 0, 2),
            kubernetes: "1.36.3",
            etcd: "3.7.3",
            coredns: "1.15.0",
            services: "198.18.4.0/22".parse().unwrap(),
            pods: "198.18.16.0/20".parse().unwrap(),
            dns: Ipv4Addr::new(198, 18, 4, 10),
            capacity: Capacity {
                millicores: 2000,
                memory: 24 << 30,
            },
            nodes: 3,
            control_planes: 1,
        };
        let text = build_init(
            &cluster,
            &node(Role::ControlPlane),
            Path::new("/p"),
            "abcdef.0123456789abcdef",
        );
        insta::assert_snapshot!(text.unwrap());
    }

    #[test]
    fn join_golden() {
        let join = |role| {
            build_join(
                &node(role),
                Path::new("/d"),
                Path::new("/p"),
                "abcdef.0123456789abcdef",
            )
        };
        insta::assert_snapshot!("join_worker", join(Role::Worker).unwrap());
        insta::assert_snapshot!("join_control_plane", join(Role::ControlPlane).unwrap());
    }
}
