//! The interfaces that give a node's pods their addresses: as few as do, and never more than the instance type admits.

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Instance, NetworkInterface, ResourceType};
use skep_builder::ProviderError;
use skep_planner::instance::InstanceType;

use crate::error::{failed, lacking};
use crate::network::Subnets;
use crate::observe::Seen;
use crate::tags::{self, PART, Tags};

/// What each node has beside its first interface, which is the node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Further interfaces.
    pub interfaces: u32,
    /// IPv4 addresses of each, its own among them.
    pub addresses: u32,
}

impl Share {
    /// What so many pods need; nothing when the instance type does not admit it.
    ///
    /// An interface's own address is no pod's, as in the AWS VPC CNI's `ENI × (IPv4 per ENI − 1)`.
    pub fn of(node: &InstanceType, pods: u32) -> Option<Self> {
        let each = node.addresses.checked_sub(1).filter(|each| *each > 0)?;
        let interfaces = pods.div_ceil(each);
        (interfaces < node.interfaces).then_some(Self {
            interfaces,
            addresses: node.addresses,
        })
    }
}

/// Makes and attaches what a running node lacks; says whether it lacked anything.
pub(crate) async fn ensure(
    client: &Client,
    node: &Instance,
    share: Share,
    subnets: &Subnets,
    group: &str,
    seen: &Seen,
    tags: &Tags<'_>,
) -> Result<bool, ProviderError> {
    let instance = node.instance_id().unwrap_or_default();
    let mut was_missing = false;
    for number in 1..=share.interfaces {
        let part = format!("pods-{instance}-{number}");
        let is_it = |one: &&NetworkInterface| tags::value(one.tag_set(), PART) == part;
        let known = seen.interfaces.iter().find(is_it);
        if known.is_some_and(|one| {
            one.attachment()
                .is_some_and(|at| at.instance_id() == Some(instance))
        }) {
            continue;
        }
        was_missing = true;
        let id = match known.and_then(|one| one.network_interface_id()) {
            Some(id) => id.to_owned(),
            None => make(client, share, subnets, group, tags, &part).await?,
        };
        let index = i32::try_from(number).unwrap_or(i32::MAX);
        let asked = client
            .attach_network_interface()
            .network_interface_id(id)
            .instance_id(instance)
            .device_index(index);
        asked
            .send()
            .await
            .map_err(|error| failed("attach a network interface", error))?;
    }
    Ok(was_missing)
}

async fn make(
    client: &Client,
    share: Share,
    subnets: &Subnets,
    group: &str,
    tags: &Tags<'_>,
    part: &str,
) -> Result<String, ProviderError> {
    let further = i32::try_from(share.addresses.saturating_sub(1)).unwrap_or(i32::MAX);
    let asked = client
        .create_network_interface()
        .subnet_id(&subnets.pods)
        .groups(group)
        .description(format!("Pods of the cell {}", tags.cell))
        .secondary_private_ip_address_count(further)
        .client_token(tags.request(part))
        .tag_specifications(tags.of(ResourceType::NetworkInterface, part));
    let made = asked
        .send()
        .await
        .map_err(|error| failed("make a network interface", error))?;
    let id = made
        .network_interface()
        .and_then(|one| one.network_interface_id())
        .map(str::to_owned);
    id.ok_or_else(|| lacking("make a network interface"))
}

/// Interfaces that are not needed: those of nodes that are gone, and doubles that hang on nothing.
pub(crate) fn spares(seen: &Seen) -> impl Iterator<Item = &NetworkInterface> {
    let nodes: BTreeSet<&str> = seen.remaining().filter_map(|node| node.instance_id()).collect();
    let part = |one: &NetworkInterface| tags::value(one.tag_set(), PART).to_owned();
    let is_used = move |one: &NetworkInterface| {
        let attachment = one.attachment().and_then(|at| at.instance_id());
        attachment.is_some_and(|node| nodes.contains(node))
    };
    let used = seen.interfaces.iter().filter(|one| is_used(one));
    let mut kept: BTreeSet<String> = used.map(part).collect();
    let is_spare = move |one: &&NetworkInterface| {
        let part = part(one);
        let mut living = seen.living().filter_map(|node| node.instance_id());
        let is_orphan = !living.any(|node| part.starts_with(&format!("pods-{node}-")));
        !is_used(one) && (is_orphan || !kept.insert(part))
    };
    let spares: Vec<&NetworkInterface> = seen.interfaces.iter().filter(is_spare).collect();
    spares.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_as_few_interfaces_as_do() {
        let table = skep_planner::instance::InstanceTypes::shipped().unwrap();
        let share = |name: &str, pods| Share::of(&table.types[name], pods).map(|share| share.interfaces);
        assert_eq!(share("m5.xlarge", 0), Some(0));
        assert_eq!(share("m5.xlarge", 14), Some(1));
        assert_eq!(share("m5.xlarge", 15), Some(2));
        assert_eq!(share("m5.xlarge", 42), Some(3));
        assert_eq!(share("m5.xlarge", 43), None);
    }
}
