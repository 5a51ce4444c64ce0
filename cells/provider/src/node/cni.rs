//! The pod network of a node: routed pairs with addresses of the node's own range.

use ipnet::Ipv4Net;
use serde::Serialize;

use super::json;
use crate::error::Error;
use crate::interface::{PLUGIN, Place};

/// Gone with the machine's `/run`, so that a restart begins with no address taken.
const ADDRESSES_DIR: &str = "/run/cni";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    cni_version: &'static str,
    name: &'static str,
    plugins: Vec<Plugin<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Plugin<'a> {
    Pair(Pair),
    PortMap(PortMap),
    TenantInterface(TenantInterface<'a>),
}

/// `ptp` and not `bridge`: pods of one node are routed too, so policy can act between them.
#[derive(Serialize)]
struct Pair {
    r#type: &'static str,
    mtu: u16,
    ipam: HostLocal,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HostLocal {
    r#type: &'static str,
    data_dir: &'static str,
    ranges: [[Range; 1]; 1],
    routes: [Route; 1],
}

#[derive(Serialize)]
struct Range {
    subnet: Ipv4Net,
}

#[derive(Serialize)]
struct Route {
    dst: &'static str,
}

#[derive(Serialize)]
struct PortMap {
    r#type: &'static str,
    backend: &'static str,
    capabilities: Capabilities,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    port_mappings: bool,
}

/// Plugs pods that ask for it into the network of a tenant.
#[derive(Serialize)]
struct TenantInterface<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    place: &'a Place,
    capabilities: Annotations,
}

/// containerd gives a pod's annotations to plugins that name this capability (`annotations.PodAnnotations`).
#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.pod-annotations")]
    pod_annotations: bool,
}

/// Renders the network of a node's pods; with a place, those that ask for it are plugged in there as well.
pub(crate) fn build_network(pods: Ipv4Net, place: Option<&Place>) -> Result<String, Error> {
    let ipam = HostLocal {
        r#type: "host-local",
        data_dir: ADDRESSES_DIR,
        ranges: [[Range { subnet: pods }]],
        routes: [Route { dst: "0.0.0.0/0" }],
    };
    let mut plugins = vec![
        Plugin::Pair(Pair {
            r#type: "ptp",
            mtu: 1500,
            ipam,
        }),
        Plugin::PortMap(PortMap {
            r#type: "portmap",
            backend: "nftables",
            capabilities: Capabilities { port_mappings: true },
        }),
    ];
    plugins.extend(place.map(|place| {
        Plugin::TenantInterface(TenantInterface {
            r#type: PLUGIN,
            place,
            capabilities: Annotations {
                pod_annotations: true,
            },
        })
    }));
    json(
        "the pod network",
        &List {
            cni_version: "1.0.0",
            name: "skep",
            plugins,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        insta::assert_snapshot!(build_network("198.18.16.0/24".parse().unwrap(), None).unwrap());
    }

    #[test]
    fn golden_of_a_cell() {
        let place = Place {
            instance: "skep".into(),
            slot: 0.try_into().unwrap(),
        };
        insta::assert_snapshot!(build_network("198.18.16.0/24".parse().unwrap(), Some(&place)).unwrap());
    }
}
