//! The trait, over one client of EC2.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::InstanceStateName;
use skep_builder::{CellProvider, Deletion, Described, Leak, Order, ProviderError, Quote, Stage, Token};
use skep_planner::instance::{InstanceType, InstanceTypes};

use crate::interfaces::Share;
use crate::layout::Layout;
use crate::observe::{Seen, state};
use crate::settings::Settings;
use crate::tags::{self, PART, Tags};
use crate::{delete, instances, interfaces, network, price};

/// When to look again at what EC2 is about to do.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a cell usually takes: instances a minute, kubeadm and the agent some more.
const LEAD: Duration = Duration::from_mins(10);

/// Makes cells of EC2's instances, in one region of one account.
#[derive(Debug, Clone)]
pub struct Ec2Provider {
    client: Client,
    settings: Settings,
    table: InstanceTypes,
}

/// What an order comes to, before anything is made.
struct Measure<'a> {
    name: &'a str,
    node: InstanceType,
    share: Share,
    layout: Layout,
}

impl Ec2Provider {
    /// A provider with a table of instance types, such as [`InstanceTypes::shipped`].
    pub const fn new(client: Client, settings: Settings, table: InstanceTypes) -> Self {
        Self {
            client,
            settings,
            table,
        }
    }

    fn measure<'a>(&'a self, order: &'a Order) -> Result<Measure<'a>, ProviderError> {
        let region = self.client.config().region().map(AsRef::as_ref);
        if region.is_some_and(|region: &str| region != order.region.as_str()) {
            let message = format!("{} is not the region of this provider's client", order.region);
            let field = "region";
            return Err(ProviderError::Invalid { field, message });
        }
        let name = order.node_type.as_deref().unwrap_or(&self.settings.node_type);
        let node = price::node(order, &self.settings.node_type, &self.table)?;
        let pods = self.settings.pods_per_node;
        let share = Share::of(&node, pods).ok_or_else(|| ProviderError::Invalid {
            field: "nodeType",
            message: format!(
                "{name} has {} interfaces of {} addresses, too few for {pods} pods",
                node.interfaces, node.addresses
            ),
        })?;
        let layout = Layout::of(order, share.interfaces * share.addresses)?;
        Ok(Measure {
            name,
            node,
            share,
            layout,
        })
    }

    async fn see(&self, token: Option<&Token>) -> Result<Seen, ProviderError> {
        Seen::of(&self.client, &self.settings.platform, token).await
    }
}

#[async_trait]
impl CellProvider for Ec2Provider {
    async fn quote(&self, order: &Order) -> Result<Quote, ProviderError> {
        let Measure { node, .. } = self.measure(order)?;
        let zones = u32::try_from(order.zones.len()).unwrap_or(u32::MAX);
        Ok(Quote {
            price_milli: price::price_milli(&node, zones * u32::from(order.nodes_per_zone)),
            lead: LEAD,
            nodes_left: self.settings.vcpus_left.map(|left| left / node.vcpus.max(1)),
        })
    }

    async fn create(&self, order: &Order) -> Result<Stage, ProviderError> {
        let measure = self.measure(order)?;
        let seen = self.see(Some(&order.token)).await?;
        if let Some(message) = instances::surplus(order, &seen) {
            let field = "nodesPerZone";
            return Err(ProviderError::Invalid { field, message });
        }
        let (client, cell) = (&self.client, order.cell.as_str());
        let tags = Tags {
            platform: &self.settings.platform,
            token: &order.token,
            cell,
        };
        let doubles = instances::doubles(&seen);
        let spares: Vec<_> = interfaces::spares(&seen).collect();
        let ending = seen.remaining().count() - seen.living().count();
        // What is taken away in this pass is still among what was seen.
        let is_tidy = ending == 0 && doubles.is_empty() && spares.is_empty() && !network::has_spares(&seen);
        delete::instances(client, doubles).await?;
        for spare in spares {
            delete::interface(client, spare).await?;
        }
        let network = network::ensure(client, order, &measure.layout, &seen, &tags).await?;
        let template = instances::template(client, &self.settings, measure.name, &seen, &tags).await?;
        let ground = instances::Ground {
            order,
            settings: &self.settings,
            layout: &measure.layout,
            network: &network,
            template: &template,
        };
        let missing = instances::ensure(client, &ground, &seen, &tags).await?;
        let mut waits = (!is_tidy).then(|| "EC2 to forget what was made twice".to_owned());
        if missing > 0 {
            waits = Some(format!("{missing} instances to run"));
        }
        for node in seen
            .living()
            .filter(|one| state(one) == Some(&InstanceStateName::Running))
        {
            let zone = tags::zone(tags::value(node.tags(), PART)).map(|(zone, _)| zone);
            let is_of = |one: &&network::Subnets| Some(one.zone.as_str()) == zone;
            let Some(subnets) = network.zones.iter().find(is_of) else {
                continue;
            };
            let share = measure.share;
            if interfaces::ensure(client, node, share, subnets, &network.group, &seen, &tags).await? {
                waits.get_or_insert_with(|| "interfaces of the nodes".to_owned());
            }
        }
        match (waits, describe(&seen)) {
            (None, Some(described)) => Ok(Stage::Standing(described)),
            (waits, _) => Ok(Stage::Building {
                waits_for: waits.unwrap_or_else(|| "the network".to_owned()),
                after: AGAIN,
            }),
        }
    }

    async fn describe(&self, token: &Token) -> Result<Option<Described>, ProviderError> {
        Ok(describe(&self.see(Some(token)).await?))
    }

    async fn delete(&self, token: &Token) -> Result<Deletion, ProviderError> {
        let seen = self.see(Some(token)).await?;
        if seen.parts().is_empty() {
            return Ok(Deletion::Gone);
        }
        delete::everything(&self.client, &seen).await?;
        let left = seen.remaining().count();
        Ok(Deletion::Going {
            waits_for: match left {
                0 => "EC2 to forget what was deleted".to_owned(),
                _ => format!("{left} instances to end"),
            },
            after: AGAIN,
        })
    }

    async fn leaks(&self, known: &BTreeSet<Token>) -> Result<Vec<Leak>, ProviderError> {
        let parts = self.see(None).await?.parts().into_iter();
        let is_known = |token: &str| token.parse::<Token>().is_ok_and(|token| known.contains(&token));
        let leaks = parts.filter(|(_, token)| !is_known(token));
        Ok(leaks.map(|(part, token)| Leak { part, token }).collect())
    }
}

/// What is seen of a cell, for people and for the hub.
fn describe(seen: &Seen) -> Option<Described> {
    let parts: Vec<String> = seen.parts().into_iter().map(|(part, _)| part).collect();
    if parts.is_empty() {
        return None;
    }
    let mut nodes = std::collections::BTreeMap::<String, u32>::new();
    let mut first = None;
    for node in seen
        .living()
        .filter(|one| state(one) == Some(&InstanceStateName::Running))
    {
        let (zone, number) = tags::zone(tags::value(node.tags(), PART)).unwrap_or_default();
        *nodes.entry(zone.to_owned()).or_default() += 1;
        let private = node.private_ip_address();
        // The first node of the first zone has the fixed address, the least of all.
        first = first.into_iter().chain(private.filter(|_| number == "1")).min();
    }
    Some(Described {
        nodes: nodes.into_iter().collect(),
        api: first.map(|address| format!("{address}:6443")),
        gateway: None,
        parts,
    })
}
