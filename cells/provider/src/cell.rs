//! What an instance is, kept from one `up` to the next, and whether it can become what is asked for.

use serde::{Deserialize, Serialize};

use crate::address::Slot;
use crate::error::Refusal;
use crate::names::Names;
use crate::spec::{LocalSpec, Node, Role};

/// An instance's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cell {
    pub instance: String,
    pub region: String,
    pub slot: Slot,
    pub nodes: Vec<Node>,
    pub volumes_per_node: u16,
    pub volume_bytes: u64,
}

impl Cell {
    pub(crate) fn names(&self) -> Names {
        Names::new(&self.instance)
    }

    /// Every machine's name, the front's first.
    pub(crate) fn machines(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(|node| node.name.clone());
        std::iter::once(self.names().front()).chain(nodes).collect()
    }

    /// The shape for what is asked: a new one, or what stands with nodes added.
    pub(crate) fn shape(spec: &LocalSpec, slot: Slot, stands: Option<&Self>) -> Result<Self, Refusal> {
        let wanted = spec.wanted_nodes();
        let mut nodes = stands.map(|cell| cell.nodes.clone()).unwrap_or_default();
        let control_planes = nodes
            .iter()
            .filter(|node| node.role == Role::ControlPlane)
            .count();
        let keeps_all = nodes
            .iter()
            .all(|node| wanted.iter().any(|(name, _)| *name == node.name));
        if let Some(cell) = stands
            && (!keeps_all
                || control_planes != usize::from(spec.control_planes)
                || cell.region != spec.region)
        {
            let describe = |nodes: usize, planes: usize, region: &str| {
                format!("{nodes} nodes, {planes} control planes, region {region}")
            };
            return Err(Refusal::OtherShape {
                instance: spec.instance.clone(),
                stands: describe(nodes.len(), control_planes, &cell.region),
                asked: describe(wanted.len(), usize::from(spec.control_planes), &spec.region),
            });
        }
        for (name, zone) in wanted {
            if nodes.iter().any(|node| node.name == name) {
                continue;
            }
            // Indexes are given once and never change: a node's addresses hang on it.
            let index = nodes.iter().map(|node| node.index + 1).max().unwrap_or(0);
            let is_first = stands.is_none() && nodes.len() < usize::from(spec.control_planes);
            let role = if is_first {
                Role::ControlPlane
            } else {
                Role::Worker
            };
            nodes.push(Node {
                name,
                zone,
                address: slot.node(index),
                index,
                role,
            });
        }
        Ok(Self {
            instance: spec.instance.clone(),
            region: spec.region.clone(),
            slot,
            nodes,
            // Volumes are made with the machines that mount them; both stay as they were made.
            volumes_per_node: stands.map_or(spec.volumes_per_node, |cell| cell.volumes_per_node),
            volume_bytes: stands.map_or(spec.volume_bytes, |cell| cell.volume_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(zones: &[&str], nodes_per_zone: u8, control_planes: u8) -> LocalSpec {
        LocalSpec {
            instance: "skep".into(),
            home: "/tmp/none".into(),
            region: "local".into(),
            zones: zones.iter().map(|&zone| zone.into()).collect(),
            nodes_per_zone,
            control_planes,
            volumes_per_node: 24,
            ranges: None,
            volume_bytes: 1 << 31,
            supervisor: Vec::new(),
        }
    }

    fn roles(cell: &Cell) -> Vec<(String, u8, Role)> {
        cell.nodes
            .iter()
            .map(|node| (node.name.clone(), node.index, node.role))
            .collect()
    }

    #[test]
    fn three_control_planes_are_one_in_each_zone() {
        let cell = Cell::shape(&spec(&["a", "b", "c"], 2, 3), Slot::try_from(0).unwrap(), None).unwrap();
        let planes = roles(&cell)
            .into_iter()
            .filter(|(.., role)| *role == Role::ControlPlane);
        assert_eq!(
            planes.map(|(name, ..)| name).collect::<Vec<_>>(),
            ["skep-a-1", "skep-b-1", "skep-c-1"]
        );
    }

    #[test]
    fn what_stands_only_grows() {
        let slot = Slot::try_from(0).unwrap();
        let first = Cell::shape(&spec(&["a", "b"], 1, 1), slot, None).unwrap();
        let same = Cell::shape(&spec(&["a", "b"], 1, 1), slot, Some(&first)).unwrap();
        assert_eq!(first, same);
        let grown = Cell::shape(&spec(&["a", "b", "c"], 1, 1), slot, Some(&first)).unwrap();
        assert_eq!(grown.nodes[..2], first.nodes);
        assert_eq!(roles(&grown)[2], ("skep-c-1".into(), 2, Role::Worker));
        assert!(Cell::shape(&spec(&["a"], 1, 1), slot, Some(&first)).is_err());
        assert!(Cell::shape(&spec(&["a", "b", "c"], 1, 3), slot, Some(&first)).is_err());
    }
}
