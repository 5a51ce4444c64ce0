//! What a local cell is asked to be, what it came out as, and which asks are refused.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::{MAX_NODES, Slot};
use crate::error::Refusal;

/// What `up` makes of this machine.
#[derive(Clone, Debug)]
pub struct LocalSpec {
    /// Names everything that is made; several instances live side by side.
    pub instance: String,
    /// The state directory, `$SKEP_HOME`.
    pub home: PathBuf,
    /// The value of label `topology.kubernetes.io/region`.
    pub region: String,
    /// The zones, in order; the first node of the first zone is the first control plane.
    pub zones: Vec<String>,
    /// Nodes in each zone.
    pub nodes_per_zone: u8,
    /// Control-plane nodes of the cell: 1 or 3.
    pub control_planes: u8,
    /// Local volumes on each node.
    pub volumes_per_node: u16,
    /// The address ranges, exactly as one of the local plan's has them; those of the lowest that is free when none are given.
    pub ranges: Option<Ranges>,
    /// Size of a volume in bytes; the backing files are sparse.
    pub volume_bytes: u64,
    /// The command that becomes a machine's supervisor; `--config FILE` is added to it.
    pub supervisor: Vec<OsString>,
}

/// A running local cell.
#[derive(Clone, Debug, Serialize)]
pub struct LocalCell {
    /// Credentials of an administrator, as a file.
    pub kubeconfig: PathBuf,
    /// Where the front proxy listens: 6443 the API, 443 the gateway, 8443 the provisioning API.
    pub front_address: IpAddr,
    /// This machine's own address in the cell's network.
    pub host_address: IpAddr,
    /// The node machines, by index.
    pub nodes: Vec<Node>,
    /// The address ranges.
    pub ranges: Ranges,
}

/// A node machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its host name, network namespace and Kubernetes name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its address on the instance's bridge.
    pub address: Ipv4Addr,
    /// Its number in the instance; decides its address and pod range, and never changes.
    pub index: u8,
    /// Whether it runs a control plane of the cell.
    pub role: Role,
}

/// What a node runs beside workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A control plane and workloads.
    ControlPlane,
    /// Workloads only.
    Worker,
}

/// The address ranges of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Machines on the bridge.
    pub nodes: IpNet,
    /// Pods; every node has one /24 of it.
    pub pods: IpNet,
    /// Cluster addresses of services.
    pub services: IpNet,
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nodes {}, pods {}, services {}",
            self.nodes, self.pods, self.services
        )
    }
}

impl LocalSpec {
    /// The nodes that are asked for, zone by zone within each round, as (name, zone).
    pub(crate) fn wanted_nodes(&self) -> Vec<(String, String)> {
        let of_round = |round: u8| {
            self.zones
                .iter()
                .map(move |zone| (format!("{}-{zone}-{round}", self.instance), zone.clone()))
        };
        (1..=self.nodes_per_zone).flat_map(of_round).collect()
    }

    /// Checks names and numbers; touches nothing.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        if !is_name(&self.instance) {
            return Err(Refusal::InstanceName(self.instance.clone()));
        }
        let mut seen = BTreeSet::new();
        for zone in &self.zones {
            if !is_name(zone) {
                return Err(Refusal::ZoneName(zone.clone()));
            }
            if !seen.insert(zone) {
                return Err(Refusal::DuplicateZone(zone.clone()));
            }
        }
        if let Some(ranges) = &self.ranges
            && Slot::of(ranges).is_none()
        {
            return Err(Refusal::Ranges(ranges.to_string()));
        }
        if self.control_planes != 1 && self.control_planes != 3 {
            return Err(Refusal::ControlPlanes(self.control_planes));
        }
        let nodes = self.zones.len() * usize::from(self.nodes_per_zone);
        match nodes {
            0 => Err(Refusal::NoNodes),
            n if n > usize::from(MAX_NODES) => Err(Refusal::TooManyNodes(n)),
            n if n < usize::from(self.control_planes) => Err(Refusal::TooFewNodes(n)),
            _ => Ok(()),
        }
    }
}

/// Whether a name can be part of host, interface and directory names.
fn is_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 20
        && bytes.iter().copied().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LocalSpec {
        LocalSpec {
            instance: "skep".into(),
            home: "/tmp/none".into(),
            region: "local".into(),
            zones: vec!["a".into(), "b".into(), "c".into()],
            nodes_per_zone: 1,
            control_planes: 1,
            volumes_per_node: 24,
            ranges: None,
            volume_bytes: 1 << 31,
            supervisor: Vec::new(),
        }
    }

    #[test]
    fn nodes_go_round_the_zones() {
        let nodes = LocalSpec {
            nodes_per_zone: 2,
            ..spec()
        }
        .wanted_nodes();
        let names: Vec<_> = nodes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "skep-a-1", "skep-b-1", "skep-c-1", "skep-a-2", "skep-b-2", "skep-c-2"
            ]
        );
    }

    #[test]
    fn refuses_what_cannot_be_built() {
        let refusal = |change: fn(&mut LocalSpec)| {
            let mut changed = spec();
            change(&mut changed);
            changed.validate().err()
        };
        assert_eq!(refusal(|_| ()), None);
        assert_eq!(
            refusal(|s| s.instance = "Skep".into()),
            Some(Refusal::InstanceName("Skep".into()))
        );
        assert_eq!(
            refusal(|s| s.instance = String::new()),
            Some(Refusal::InstanceName(String::new()))
        );
        assert_eq!(
            refusal(|s| s.zones[1] = "b-".into()),
            Some(Refusal::ZoneName("b-".into()))
        );
        assert_eq!(
            refusal(|s| s.zones[1] = "a".into()),
            Some(Refusal::DuplicateZone("a".into()))
        );
        assert_eq!(refusal(|s| s.zones.clear()), Some(Refusal::NoNodes));
        assert_eq!(refusal(|s| s.nodes_per_zone = 6), Some(Refusal::TooManyNodes(18)));
        assert_eq!(refusal(|s| s.control_planes = 2), Some(Refusal::ControlPlanes(2)));
        assert_eq!(
            refusal(|s| {
                s.control_planes = 3;
                s.zones.pop();
            }),
            Some(Refusal::TooFewNodes(2))
        );
    }
}
