//! Builds the xDS resources of a route: one cluster and one set of endpoints for each host name. Where the front of
//! another cell has a name, the endpoints are part of the cluster.
//!
//! Pure and deterministic: the same route gives the same bytes, and so the same version. Endpoints are
//! resources of their own, so that a change of addresses neither replaces a cluster nor ends a connection.

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
    circuit_breakers::Thresholds,
    cluster::{
        ClusterDiscoveryType, CommonLbConfig, CustomClusterType, DiscoveryType, EdsClusterConfig, LbPolicy,
    },
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, ProxyProtocolConfig, SocketAddress,
    TcpKeepalive, TlvEntry, TransportSocket, address, config_source::ConfigSourceSpecifier,
    proxy_protocol_config::Version, socket_address::PortSpecifier, transport_socket::ConfigType,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::extensions::clusters::{
    common::dns::v3::DnsLookupFamily,
    dns::v3::{DnsCluster, dns_cluster::RefreshRate},
};
use envoy_types::pb::envoy::extensions::transport_sockets::{
    proxy_protocol::v3::ProxyProtocolUpstreamTransport, raw_buffer::v3::RawBuffer,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::front::Host;
use crate::route::{Backends, HostNames, Route, Way};

/// Seconds to connect to an apiserver before the next one is tried; a zone that is lost answers nothing.
const CONNECT_TIMEOUT: i64 = 2;
/// Connections, and connections that wait, per tenant: as good as no limit, the node's own comes first.
const MOST_CONNECTIONS: u32 = 1_000_000;
/// Bytes that are buffered per connection and direction before the sender is slowed down.
const BUFFER: u32 = 64 * 1024;
/// Seconds of silence before a connection to an apiserver is probed, and between probes.
const KEEPALIVE: u32 = 30;
/// Unanswered probes after which a connection is dead.
const PROBES: u32 = 3;
/// Failed connects in a row after which an apiserver is left out, until endpoints say more.
const FAILURES: u32 = 2;
/// Seconds that an apiserver is left out the first time, and the most.
const EJECTION: (i64, i64) = (10, 60);
/// Seconds after which the name of another cell's front is resolved again, in each cluster that is in use.
const RESOLVE: i64 = 30;
/// The same after it could not be resolved: at first, and at most.
const RESOLVE_AGAIN: (i64, i64) = (1, 10);
/// The type of the value of a PROXY v2 header that names a host.
const AUTHORITY: u32 = 2;
/// The kind of cluster whose addresses Envoy resolves itself, as (name, type of the configuration).
const DNS: (&str, &str) = (
    "envoy.cluster.dns",
    "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
);
/// Envoy's transport sockets, as (name, type of the configuration).
const RAW_BUFFER: (&str, &str) = (
    "envoy.transport_sockets.raw_buffer",
    "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
);
/// The one that puts a PROXY header before what another one sends.
const PROXY_PROTOCOL: (&str, &str) = (
    "envoy.transport_sockets.upstream_proxy_protocol",
    "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
);

/// The two kinds of resources, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Clusters, asked for on demand.
    Cluster,
    /// Endpoints of clusters.
    Endpoints,
}

impl Kind {
    /// Both, in the order in which they are sent.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Endpoints];

    /// The name of the type on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }

    /// The kind of a name on the wire.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The value of metric labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
        }
    }
}

/// One resource as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The hash of the body.
    pub version: String,
    /// The body.
    pub body: Any,
}

impl Resource {
    fn new(kind: Kind, message: &impl Message) -> Arc<Self> {
        let value = message.encode_to_vec();
        let version = hex::encode(&Sha256::digest(&value)[..8]);
        Arc::new(Self {
            version,
            body: Any {
                type_url: kind.type_url().to_owned(),
                value,
            },
        })
    }
}

/// What Envoy does before the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preface {
    /// Nothing: the next one reads the host name in TLS.
    None,
    /// Puts the host name before them, as a node of a tenant does.
    Name,
}

/// The resources of a route, all named after its host names.
pub fn build_resources(route: &Route) -> Vec<(Kind, String, Arc<Resource>)> {
    let HostNames {
        api,
        node,
        konnectivity,
    } = &route.hosts;
    match &route.way {
        Way::Local(doors) => {
            let names = [
                (api, &doors.api),
                (node, &doors.api),
                (konnectivity, &doors.agents),
            ];
            let names = names.into_iter();
            names.flat_map(|(name, to)| build_local(name, to)).collect()
        }
        // A connection to the name `node` may have come without TLS that names it, from a pod, and Envoy has taken
        // away the name before it: it is put there again, for all of them, since one name is one cluster.
        Way::Far(front) => {
            let names = [
                (api, front.port(), Preface::None),
                (node, front.tunnel_port(), Preface::Name),
                (konnectivity, front.port(), Preface::None),
            ];
            let names = names.into_iter();
            names
                .flat_map(|(name, port, preface)| build_far(name, front.host(), port, preface))
                .collect()
        }
    }
}

fn build_local(name: &str, to: &Backends) -> Vec<(Kind, String, Arc<Resource>)> {
    let endpoints = to
        .published()
        .iter()
        .map(|address| build_endpoint(address.ip().to_string(), address.port()));
    let endpoints = build_endpoints(name, endpoints.collect());
    build_pair(name, &build_cluster(name), &endpoints)
}

/// A cluster of its own for each name too: Envoy takes the name in the handshake for the cluster's, and asks for it
/// when it is used first, so that tenants of other cells that nobody reaches here cost nothing.
fn build_far(name: &str, host: &Host, port: u16, preface: Preface) -> Vec<(Kind, String, Arc<Resource>)> {
    let mut cluster = build_cluster(name);
    if preface == Preface::Name {
        cluster.transport_socket = Some(build_name_before(name));
    }
    match host {
        Host::Address(ip) => {
            let endpoint = build_endpoint(ip.to_string(), port);
            build_pair(name, &cluster, &build_endpoints(name, vec![endpoint]))
        }
        Host::Name(to) => {
            resolve(&mut cluster, build_endpoint(to.clone(), port));
            let cluster = Resource::new(Kind::Cluster, &cluster);
            vec![(Kind::Cluster, name.to_owned(), cluster)]
        }
    }
}

fn build_pair(
    name: &str,
    cluster: &Cluster,
    endpoints: &ClusterLoadAssignment,
) -> Vec<(Kind, String, Arc<Resource>)> {
    vec![
        (
            Kind::Cluster,
            name.to_owned(),
            Resource::new(Kind::Cluster, cluster),
        ),
        (
            Kind::Endpoints,
            name.to_owned(),
            Resource::new(Kind::Endpoints, endpoints),
        ),
    ]
}

/// Makes Envoy itself look for the addresses, which endpoints that are resources cannot: they take no names.
fn resolve(cluster: &mut Cluster, endpoint: LbEndpoint) {
    let resolving = DnsCluster {
        dns_refresh_rate: Some(seconds(RESOLVE)),
        dns_failure_refresh_rate: Some(RefreshRate {
            base_interval: Some(seconds(RESOLVE_AGAIN.0)),
            max_interval: Some(seconds(RESOLVE_AGAIN.1)),
        }),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        ..DnsCluster::default()
    };
    let (name, type_url) = DNS;
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: name.to_owned(),
        typed_config: Some(pack(type_url, &resolving)),
    }));
    cluster.eds_cluster_config = None;
    cluster.load_assignment = Some(build_endpoints(&cluster.name, vec![endpoint]));
}

/// Puts a PROXY v2 header with the host name before each connection.
fn build_name_before(name: &str) -> TransportSocket {
    let authority = TlvEntry {
        r#type: AUTHORITY,
        value: name.as_bytes().to_vec(),
        ..TlvEntry::default()
    };
    let header = ProxyProtocolConfig {
        version: Version::V2.into(),
        added_tlvs: vec![authority],
        ..ProxyProtocolConfig::default()
    };
    let plain = build_transport_socket(RAW_BUFFER, &RawBuffer {});
    build_transport_socket(
        PROXY_PROTOCOL,
        &ProxyProtocolUpstreamTransport {
            config: Some(header),
            transport_socket: Some(plain),
            ..ProxyProtocolUpstreamTransport::default()
        },
    )
}

fn build_transport_socket((name, type_url): (&str, &str), config: &impl Message) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(type_url, config))),
    }
}

fn pack(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

fn build_cluster(host: &str) -> Cluster {
    Cluster {
        name: host.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(aggregated()),
            service_name: String::new(),
        }),
        connect_timeout: Some(seconds(CONNECT_TIMEOUT)),
        per_connection_buffer_limit_bytes: Some(number(BUFFER)),
        lb_policy: LbPolicy::LeastRequest.into(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: Some(number(MOST_CONNECTIONS)),
                max_pending_requests: Some(number(MOST_CONNECTIONS)),
                max_requests: Some(number(MOST_CONNECTIONS)),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        outlier_detection: Some(build_outlier_detection()),
        // With every apiserver left out all of them are tried: better than refusing.
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 1.0 }),
            ..CommonLbConfig::default()
        }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: Some(number(PROBES)),
                keepalive_time: Some(number(KEEPALIVE)),
                keepalive_interval: Some(number(KEEPALIVE)),
            }),
            ..UpstreamConnectionOptions::default()
        }),
        ..Cluster::default()
    }
}

/// Only failed connects count: what goes through a connection is not for the gateway to judge.
fn build_outlier_detection() -> OutlierDetection {
    OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: Some(number(FAILURES)),
        enforcing_consecutive_local_origin_failure: Some(number(100)),
        enforcing_local_origin_success_rate: Some(number(0)),
        enforcing_success_rate: Some(number(0)),
        enforcing_consecutive_5xx: Some(number(0)),
        base_ejection_time: Some(seconds(EJECTION.0)),
        max_ejection_time: Some(seconds(EJECTION.1)),
        max_ejection_percent: Some(number(100)),
        ..OutlierDetection::default()
    }
}

fn build_endpoints(host: &str, lb_endpoints: Vec<LbEndpoint>) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints {
        lb_endpoints,
        ..LocalityLbEndpoints::default()
    };
    ClusterLoadAssignment {
        cluster_name: host.to_owned(),
        endpoints: if locality.lb_endpoints.is_empty() {
            Vec::new()
        } else {
            vec![locality]
        },
        ..ClusterLoadAssignment::default()
    }
}

fn build_endpoint(address: String, port: u16) -> LbEndpoint {
    let socket = SocketAddress {
        address,
        port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
        ..SocketAddress::default()
    };
    let address = Address {
        address: Some(address::Address::SocketAddress(socket)),
    };
    let endpoint = Endpoint {
        address: Some(address),
        ..Endpoint::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    }
}

fn aggregated() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

fn number(value: u32) -> UInt32Value {
    UInt32Value { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{far_route, route};

    /// The port of each endpoint of a far tenant and whether the name is put before, by the order of names.
    fn far_ports(built: &[(Kind, String, Arc<Resource>)]) -> Vec<(u32, bool)> {
        let mut ports = Vec::new();
        let mut are_named = Vec::new();
        for (kind, _, resource) in built {
            let body = resource.body.value.as_slice();
            let endpoints = match kind {
                Kind::Cluster => {
                    let cluster = Cluster::decode(body).unwrap();
                    are_named.push(cluster.transport_socket.is_some());
                    cluster.load_assignment
                }
                Kind::Endpoints => Some(ClusterLoadAssignment::decode(body).unwrap()),
            };
            ports.extend(endpoints.map(|endpoints| port(&endpoints)));
        }
        ports.into_iter().zip(are_named).collect()
    }

    fn port(assignment: &ClusterLoadAssignment) -> u32 {
        let endpoint = &assignment.endpoints[0].lb_endpoints[0];
        let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
            panic!("an endpoint of its own");
        };
        let Some(address::Address::SocketAddress(socket)) =
            endpoint.address.clone().and_then(|address| address.address)
        else {
            panic!("a socket's address");
        };
        match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => port,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_of_another_cells_tenants_go_to_its_tunnel_port_with_their_name_before() {
        for front in ["10.9.0.1:444", "front.example.com:444"] {
            let built = build_resources(&far_route("cabcdefghi", front));
            assert_eq!(
                far_ports(&built),
                [(444, false), (8444, true), (444, false)],
                "{front}"
            );
        }
    }

    #[test]
    fn a_change_of_another_cells_address_changes_endpoints_and_no_cluster() {
        let before = build_resources(&far_route("cabcdefghi", "10.9.0.1:443"));
        let after = build_resources(&far_route("cabcdefghi", "10.9.0.2:443"));
        for ((kind, _, one), (_, _, other)) in before.iter().zip(&after) {
            assert_eq!(one.version == other.version, *kind == Kind::Cluster);
        }
    }

    #[test]
    fn a_host_name_has_a_cluster_and_endpoints_of_its_own() {
        let built = build_resources(&route("cabcdefghi", &["10.0.0.1:6443"]));
        let names: Vec<_> = built
            .iter()
            .map(|(kind, name, _)| (*kind, name.as_str()))
            .collect();
        let (api, node, agents) = (
            "api.cabcdefghi.local.skep.internal",
            "node.cabcdefghi.local.skep.internal",
            "konnectivity.cabcdefghi.local.skep.internal",
        );
        assert_eq!(
            names,
            [
                (Kind::Cluster, api),
                (Kind::Endpoints, api),
                (Kind::Cluster, node),
                (Kind::Endpoints, node),
                (Kind::Cluster, agents),
                (Kind::Endpoints, agents)
            ]
        );
    }

    #[test]
    fn a_change_of_addresses_changes_endpoints_and_no_cluster() {
        let before = build_resources(&route("cabcdefghi", &["10.0.0.1:6443"]));
        let after = build_resources(&route("cabcdefghi", &["10.0.0.2:6443"]));
        // The agents' name has no address in this fixture.
        let of_apiservers = before.iter().zip(&after).take(4);
        for ((kind, _, one), (_, _, other)) in of_apiservers {
            assert_eq!(one.version == other.version, *kind == Kind::Cluster);
        }
    }

    #[test]
    fn equal_routes_have_equal_versions() {
        let one = build_resources(&route("cabcdefghi", &["10.0.0.1:6443", "10.0.0.2:6443"]));
        let other = build_resources(&route("cabcdefghi", &["10.0.0.2:6443", "10.0.0.1:6443"]));
        assert_eq!(one, other);
    }
}
