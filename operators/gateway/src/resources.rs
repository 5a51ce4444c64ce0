//! Builds the xDS resources of a route: one cluster and one set of endpoints for each host name.
//!
//! Pure and deterministic: the same route gives the same bytes, and so the same version. Endpoints are
//! resources of their own, so that a change of addresses neither replaces a cluster nor ends a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
    circuit_breakers::Thresholds,
    cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, TcpKeepalive, address,
    config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::route::{Backends, Route};

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

/// The resources of a route, all named after its host names.
pub fn build_resources(route: &Route) -> Vec<(Kind, String, Arc<Resource>)> {
    let of_host = |(host, backends): (&str, &Backends)| {
        let endpoints = build_endpoints(host, backends.published().iter().copied());
        [
            (
                Kind::Cluster,
                host.to_owned(),
                Resource::new(Kind::Cluster, &build_cluster(host)),
            ),
            (
                Kind::Endpoints,
                host.to_owned(),
                Resource::new(Kind::Endpoints, &endpoints),
            ),
        ]
    };
    route.iter().flat_map(of_host).collect()
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

fn build_endpoints(host: &str, addresses: impl Iterator<Item = SocketAddr>) -> ClusterLoadAssignment {
    let lb_endpoints: Vec<LbEndpoint> = addresses.map(build_endpoint).collect();
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

fn build_endpoint(address: SocketAddr) -> LbEndpoint {
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(address.port()))),
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
    use crate::snapshot::tests::route;

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
