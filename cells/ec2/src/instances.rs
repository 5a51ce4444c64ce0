//! The nodes of a cell: a launch template, and one instance for each place in each zone.

use std::collections::BTreeSet;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    Instance, InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType,
    LaunchTemplateSpecification, RequestLaunchTemplateData, ResourceType,
};
use skep_builder::{Order, ProviderError};

use crate::error::{failed, lacking};
use crate::layout::Layout;
use crate::network::Network;
use crate::observe::{Seen, state};
use crate::settings::Settings;
use crate::tags::{self, PART, Tags};
use crate::user_data::{Node, user_data};

/// The template of the nodes; made once, since what it says comes from the order's first pass.
pub(crate) async fn template(
    client: &Client,
    settings: &Settings,
    node_type: &str,
    seen: &Seen,
    tags: &Tags<'_>,
) -> Result<String, ProviderError> {
    if let Some(id) = seen.templates.first().and_then(|one| one.launch_template_id()) {
        return Ok(id.to_owned());
    }
    let data = RequestLaunchTemplateData::builder()
        .image_id(&settings.image)
        .instance_type(InstanceType::from(node_type))
        .build();
    let asked = client
        .create_launch_template()
        .launch_template_name(format!("skep-{}", tags.token))
        .client_token(tags.request("template"))
        .launch_template_data(data)
        .tag_specifications(tags.of(ResourceType::LaunchTemplate, "template"));
    let made = asked
        .send()
        .await
        .map_err(|error| failed("make a launch template", error))?;
    let id = made
        .launch_template()
        .and_then(|one| one.launch_template_id())
        .map(str::to_owned);
    id.ok_or_else(|| lacking("make a launch template"))
}

/// How many nodes run that an order does not ask for any more, by zone.
pub(crate) fn surplus(order: &Order, seen: &Seen) -> Option<String> {
    order.zones.iter().find_map(|zone| {
        // Two instances at one place are one node, of which the other goes.
        let places: BTreeSet<&str> = seen
            .living()
            .map(|one| tags::value(one.tags(), PART))
            .filter(|part| tags::zone(part).is_some_and(|(of, _)| of == zone.as_str()))
            .collect();
        let nodes = places.len();
        (nodes > usize::from(order.nodes_per_zone))
            .then(|| format!("zone {zone} has {nodes} nodes, and a cell is never made smaller"))
    })
}

/// What nodes are put on.
pub(crate) struct Ground<'a> {
    pub order: &'a Order,
    pub settings: &'a Settings,
    pub layout: &'a Layout,
    pub network: &'a Network,
    pub template: &'a str,
}

/// Starts what is missing of the nodes; says how many places have no running instance yet.
pub(crate) async fn ensure(
    client: &Client,
    ground: &Ground<'_>,
    seen: &Seen,
    tags: &Tags<'_>,
) -> Result<usize, ProviderError> {
    let Ground { order, network, .. } = ground;
    let mut missing = 0;
    for (position, subnets) in network.zones.iter().enumerate() {
        for number in 1..=order.nodes_per_zone {
            let part = format!("node-{}-{number}", subnets.zone);
            let known = seen.living().find(|one| tags::value(one.tags(), PART) == part);
            if known.and_then(state) == Some(&InstanceStateName::Running) {
                continue;
            }
            missing += 1;
            if known.is_none() {
                let node = Node {
                    name: format!("{}-{}-{number}", order.cell, subnets.zone),
                    zone: &subnets.zone,
                    is_first: position == 0 && number == 1,
                };
                let place = Place {
                    part: &part,
                    subnet: &subnets.nodes,
                    node,
                };
                run(client, ground, place, seen, tags).await?;
            }
        }
    }
    Ok(missing)
}

/// Where a node goes.
struct Place<'a> {
    part: &'a str,
    subnet: &'a str,
    node: Node<'a>,
}

async fn run(
    client: &Client,
    ground: &Ground<'_>,
    place: Place<'_>,
    seen: &Seen,
    tags: &Tags<'_>,
) -> Result<(), ProviderError> {
    let api = ground.layout.api().map(|address| address.to_string());
    let interface = InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .subnet_id(place.subnet)
        .groups(&ground.network.group)
        .associate_public_ip_address(true)
        .delete_on_termination(true)
        .set_private_ip_address(api.clone().filter(|_| place.node.is_first))
        .build();
    let of_template = LaunchTemplateSpecification::builder()
        .launch_template_id(ground.template)
        .build();
    let script = user_data(
        ground.order,
        ground.settings,
        api.as_deref().unwrap_or_default(),
        &place.node,
    );
    let asked = client
        .run_instances()
        .min_count(1)
        .max_count(1)
        .launch_template(of_template)
        .network_interfaces(interface)
        .user_data(script)
        .client_token(tags.request(&format!("{}/{}", place.part, generation(seen, place.part))))
        .tag_specifications(tags.of(ResourceType::Instance, place.part));
    asked
        .send()
        .await
        .map(drop)
        .map_err(|error| failed("start an instance", error))
}

/// How many instances were at a place before: EC2 answers a client token that it knows with the instance of then.
fn generation(seen: &Seen, part: &str) -> usize {
    let was_there = |one: &&Instance| tags::value(one.tags(), PART) == part;
    seen.instances.iter().filter(was_there).count()
}

/// Instances beside another one at the same place, by id: the first is kept.
pub(crate) fn doubles(seen: &Seen) -> Vec<String> {
    let mut places = BTreeSet::new();
    let is_double = |one: &&Instance| !places.insert(tags::value(one.tags(), PART).to_owned());
    let doubles: Vec<&Instance> = seen.living().filter(is_double).collect();
    doubles
        .into_iter()
        .filter_map(|one| one.instance_id().map(str::to_owned))
        .collect()
}
