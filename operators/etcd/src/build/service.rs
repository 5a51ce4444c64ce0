//! The two Services: one for clients, one that gives each member its host name.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{CLIENT_PORT, PEER_PORT, client_service, member_labels, owned, peer_service};
use crate::validate::Cluster;

/// Builds the Service for clients: members that are ready, the nearest first. An only member is there for clients
/// from its first moment on, since there is no other to go to and kubelet tells a second late that it serves.
pub fn build_client_service(cluster: &Cluster) -> Service {
    Service {
        metadata: owned(cluster, client_service(&cluster.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            selector: Some(member_labels(cluster)),
            publish_not_ready_addresses: (cluster.members == 1).then_some(true),
            traffic_distribution: Some("PreferSameZone".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Builds the Service for members: they must find each other before they are ready.
pub fn build_peer_service(cluster: &Cluster) -> Service {
    Service {
        metadata: owned(cluster, peer_service(&cluster.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            ports: Some(vec![port("peer", PEER_PORT)]),
            selector: Some(member_labels(cluster)),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
