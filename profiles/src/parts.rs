//! What runs inside a tenant: the parts of the standard profile, rendered for one control plane.
//!
//! Data alone: who applies it, and when, is decided elsewhere. A part whose images a control plane does not name is
//! left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use skep_core::network::{GATEWAY_PORT, NODE_API_ADDRESS, NODE_API_PORT, TUNNEL_PORT};
use skep_core::{Endpoint, TenantNetwork};

use crate::render::{RenderError, render};

/// One part: its name, its template, and the images that it is made of.
type Recipe = (&'static str, &'static str, &'static [&'static str]);

/// In the order in which they are of use to one another; they may be applied in any.
const STANDARD: [Recipe; 6] = [
    (
        "kube-proxy",
        include_str!("../standard/tenant/kube-proxy.yaml.hbs"),
        &["kube-proxy"],
    ),
    (
        "api-proxy",
        include_str!("../standard/tenant/api-proxy.yaml.hbs"),
        &["envoy", "busybox"],
    ),
    (
        "konnectivity-agent",
        include_str!("../standard/tenant/konnectivity-agent.yaml.hbs"),
        &["konnectivity"],
    ),
    (
        "coredns",
        include_str!("../standard/tenant/coredns.yaml.hbs"),
        &["coredns"],
    ),
    (
        "metrics-server",
        include_str!("../standard/tenant/metrics-server.yaml.hbs"),
        &["metrics-server"],
    ),
    (
        "storage",
        include_str!("../standard/tenant/storage.yaml.hbs"),
        &["local-path-provisioner", "busybox"],
    ),
];

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// What the parts of one tenant are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings<'a> {
    /// Where the tenant's gateway answers.
    pub endpoint: &'a Endpoint,
    /// Its ranges.
    pub network: &'a TenantNetwork,
    /// Image references by name.
    pub images: &'a BTreeMap<String, String>,
    /// The resolver for names outside of the cluster, such as `/etc/resolv.conf`; none when empty.
    pub upstream_dns: &'a str,
    /// The certificate of the cluster's authority, PEM.
    pub authority: &'a str,
    /// The certificate of the authority of the way back, PEM.
    pub konnectivity_authority: &'a str,
    /// metrics-server's serving certificate, by the cluster's authority.
    pub metrics_server: &'a Pair,
}

/// One part, ready to be parsed and applied.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Its objects as a YAML stream.
    pub manifest: String,
}

/// A part that does not render; a fault of this build.
#[derive(Debug, thiserror::Error)]
#[error("part {name} does not render")]
pub struct PartError {
    name: &'static str,
    #[source]
    source: RenderError,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Values<'a> {
    hosts: Hosts<'a>,
    network: Network,
    gateway: Gateway,
    node_api: NodeApi,
    images: &'a BTreeMap<String, String>,
    upstream_dns: &'a str,
    authority: &'a str,
    konnectivity_authority: &'a str,
    metrics_server: &'a Pair,
}

#[derive(Serialize)]
struct Hosts<'a> {
    api: &'a str,
    node: &'a str,
    konnectivity: &'a str,
}

#[derive(Serialize)]
struct Network {
    pods: String,
    services: String,
    dns: Option<IpAddr>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gateway {
    port: u16,
    tunnel_port: u16,
}

#[derive(Serialize)]
struct NodeApi {
    address: Ipv4Addr,
    port: u16,
}

/// Renders the parts whose images are all named.
///
/// # Errors
/// When a template of this crate is wrong.
pub fn parts(surroundings: &Surroundings<'_>) -> Result<Vec<Part>, PartError> {
    let Surroundings {
        endpoint,
        network,
        images,
        upstream_dns,
        authority,
        konnectivity_authority,
        metrics_server,
    } = surroundings;
    let Endpoint {
        api,
        node,
        konnectivity,
    } = endpoint;
    let values = Values {
        hosts: Hosts {
            api,
            node,
            konnectivity,
        },
        network: Network {
            pods: network.pods.to_string(),
            services: network.services.to_string(),
            dns: network.cluster_dns(),
        },
        gateway: Gateway {
            port: GATEWAY_PORT,
            tunnel_port: TUNNEL_PORT,
        },
        node_api: NodeApi {
            address: NODE_API_ADDRESS,
            port: NODE_API_PORT,
        },
        images,
        upstream_dns,
        authority,
        konnectivity_authority,
        metrics_server,
    };
    STANDARD
        .iter()
        .filter(|(_, _, needed)| needed.iter().all(|image| images.contains_key(*image)))
        .map(|(name, template, _)| {
            let manifest = render(template, &values).map_err(|source| PartError { name, source })?;
            Ok(Part { name, manifest })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: [&str; 7] = [
        "kube-proxy",
        "envoy",
        "busybox",
        "konnectivity",
        "coredns",
        "metrics-server",
        "local-path-provisioner",
    ];

    fn render_with(images: &[&str], upstream_dns: &str) -> Vec<Part> {
        let images = images
            .iter()
            .map(|name| ((*name).to_owned(), format!("localhost/{name}:1")))
            .collect();
        let cpid = "cabcdefghi".parse().unwrap();
        let endpoint = Endpoint::new(
            &cpid,
            &"local".parse().unwrap(),
            &"skep.internal".parse().unwrap(),
        );
        parts(&Surroundings {
            endpoint: &endpoint,
            network: &TenantNetwork::parse("198.19.0.0/17", "198.19.128.0/20", &[]).unwrap(),
            images: &images,
            upstream_dns,
            authority: "AUTHORITY\n",
            konnectivity_authority: "WAY BACK\n",
            metrics_server: &Pair {
                certificate: "CERTIFICATE\n".into(),
                key: "KEY\n".into(),
            },
        })
        .unwrap()
    }

    #[test]
    fn golden() {
        for part in render_with(&IMAGES, "") {
            insta::assert_snapshot!(part.name, part.manifest);
        }
    }

    #[test]
    fn a_part_without_its_images_is_left_out() {
        let names = |images: &[&str]| -> Vec<_> {
            let parts = render_with(images, "").into_iter();
            parts.map(|part| part.name).collect()
        };
        assert_eq!(names(&["coredns", "envoy"]), ["coredns"]);
        assert_eq!(names(&IMAGES).len(), STANDARD.len());
    }

    #[test]
    fn names_outside_are_forwarded_where_a_resolver_is_given() {
        let corefile = |upstream: &str| render_with(&["coredns"], upstream)[0].manifest.clone();
        assert!(!corefile("").contains("forward"));
        assert!(corefile("/etc/resolv.conf").contains("forward . /etc/resolv.conf {"));
    }
}
