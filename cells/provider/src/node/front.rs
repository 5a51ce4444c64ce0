//! The front proxy: one address for the API of the cell, the tenants' gateway and the provisioning API.
//!
//! Envoy watches the two files that name listeners and clusters; a changed one is moved into place.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::{Value, json};

use skep_core::network::{GATEWAY_PORT, TUNNEL_PORT};

use super::json as render;
use crate::error::Error;
use crate::spec::{Node, Role};

/// The API of the cell, where it listens and where it is behind the front.
const API_PORT: u16 = 6443;
/// The provisioning API.
const PROVISION_PORT: u16 = 8443;
/// Its port on every node.
const PROVISION_NODE_PORT: u16 = 30443;

/// Files of the front, as (name, content).
pub(crate) fn build_files(
    dir: &Path,
    instance: &str,
    address: Ipv4Addr,
    nodes: &[Node],
) -> Result<Vec<(&'static str, String)>, Error> {
    let all: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let control_planes: Vec<_> = nodes
        .iter()
        .filter(|node| node.role == Role::ControlPlane)
        .map(|node| node.address)
        .collect();
    let routes = [
        ("api", API_PORT, control_planes, API_PORT),
        ("gateway", GATEWAY_PORT, all.clone(), GATEWAY_PORT),
        ("tunnels", TUNNEL_PORT, all.clone(), TUNNEL_PORT),
        ("provision", PROVISION_PORT, all, PROVISION_NODE_PORT),
    ];
    let clusters: Vec<_> = routes
        .iter()
        .map(|(name, _, to, port)| build_cluster(name, to, *port))
        .collect();
    let listeners: Vec<_> = routes
        .iter()
        .map(|(name, port, _, _)| build_listener(name, address, *port))
        .collect();
    Ok(vec![
        (
            "clusters.json",
            render("the front's clusters", &json!({ "resources": clusters }))?,
        ),
        (
            "listeners.json",
            render("the front's listeners", &json!({ "resources": listeners }))?,
        ),
        (
            "envoy.json",
            render("the front's configuration", &build_bootstrap(dir, instance))?,
        ),
    ])
}

fn build_bootstrap(dir: &Path, instance: &str) -> Value {
    let source = |file: &str| {
        json!({
            "resource_api_version": "V3",
            "path_config_source": { "path": dir.join(file), "watched_directory": { "path": dir } },
        })
    };
    json!({
        "node": { "id": format!("{instance}-front"), "cluster": "front" },
        "admin": { "address": build_address("127.0.0.1", 9901) },
        "dynamic_resources": {
            "cds_config": source("clusters.json"),
            "lds_config": source("listeners.json"),
        },
    })
}

fn build_listener(name: &str, address: Ipv4Addr, port: u16) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": build_address(&address.to_string(), port),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": name,
                "cluster": name,
                // Watches are silent for long.
                "idle_timeout": "0s",
            },
        }] }],
    })
}

fn build_cluster(name: &str, to: &[Ipv4Addr], port: u16) -> Value {
    let endpoints: Vec<_> = to
        .iter()
        .map(|address| json!({ "endpoint": { "address": build_address(&address.to_string(), port) } }))
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        // With none healthy, refuse at once.
        "common_lb_config": { "healthy_panic_threshold": {} },
        "health_checks": [{
            "timeout": "1s",
            "interval": "1s",
            "no_traffic_interval": "1s",
            "unhealthy_interval": "0.25s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "tcp_health_check": {},
        }],
    })
}

fn build_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let node = |index: u8, role| Node {
            name: format!("skep-a-{index}"),
            zone: "a".into(),
            address: Ipv4Addr::new(198, 18, 0, 11 + index),
            index,
            role,
        };
        let nodes = [node(0, Role::ControlPlane), node(1, Role::Worker)];
        let files = build_files(
            Path::new("/home/machines/skep-front"),
            "skep",
            Ipv4Addr::new(198, 18, 0, 2),
            &nodes,
        );
        for (name, text) in files.unwrap() {
            insta::assert_snapshot!(name, text);
        }
    }
}
