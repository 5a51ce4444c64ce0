//! The network of a cell: a VPC, its way out, and two subnets in each zone.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{IpPermission, IpRange, ResourceType, UserIdGroupPair};
use skep_builder::{Order, ProviderError};

use crate::delete;
use crate::error::{failed, lacking};
use crate::layout::{Layout, ZoneLayout};
use crate::observe::Seen;
use crate::tags::{self, PART, Tags};

/// What instances and interfaces are put into.
pub(crate) struct Network {
    /// The security group of the nodes.
    pub group: String,
    /// The subnets of each zone, in the order of the zones.
    pub zones: Vec<Subnets>,
}

/// The subnets of a zone.
pub(crate) struct Subnets {
    pub zone: String,
    pub nodes: String,
    pub pods: String,
}

/// Whether a lost reply left two of what there is one of.
pub(crate) fn has_spares(seen: &Seen) -> bool {
    seen.vpcs.len() > 1 || seen.gateways.len() > 1 || seen.tables.len() > 1
}

/// Makes what is missing of the network.
pub(crate) async fn ensure(
    client: &Client,
    order: &Order,
    layout: &Layout,
    seen: &Seen,
    tags: &Tags<'_>,
) -> Result<Network, ProviderError> {
    let vpc = vpc(client, order, seen, tags).await?;
    pods_range(client, order, seen, &vpc).await?;
    let gateway = gateway(client, seen, tags, &vpc).await?;
    let table = table(client, seen, tags, &vpc, &gateway).await?;
    let group = group(client, seen, tags, &vpc).await?;
    let mut zones = Vec::new();
    for zone in &layout.zones {
        zones.push(subnets(client, order, zone, seen, tags, &vpc, &table).await?);
    }
    Ok(Network { group, zones })
}

/// The one VPC; of two that a lost reply left, the one with subnets is kept, else the first.
async fn vpc(client: &Client, order: &Order, seen: &Seen, tags: &Tags<'_>) -> Result<String, ProviderError> {
    let has_subnets = |id: &str| seen.subnets.iter().any(|subnet| subnet.vpc_id() == Some(id));
    let mut ids: Vec<&str> = seen.vpcs.iter().filter_map(|vpc| vpc.vpc_id()).collect();
    ids.sort_by_key(|id| !has_subnets(id));
    if let Some((kept, others)) = ids.split_first() {
        for other in others {
            delete::network_of(client, seen, other).await?;
        }
        return Ok((*kept).to_owned());
    }
    let made = client
        .create_vpc()
        .cidr_block(order.ranges.nodes.trunc().to_string())
        .tag_specifications(tags.of(ResourceType::Vpc, "vpc"))
        .send()
        .await
        .map_err(|error| failed("make a VPC", error))?;
    let id = made.vpc().and_then(|vpc| vpc.vpc_id()).map(str::to_owned);
    id.ok_or_else(|| lacking("make a VPC"))
}

async fn pods_range(client: &Client, order: &Order, seen: &Seen, vpc: &str) -> Result<(), ProviderError> {
    let range = order.ranges.pods.trunc().to_string();
    let known = seen.vpcs.iter().find(|one| one.vpc_id() == Some(vpc));
    let ranges = known.map_or(&[][..], |vpc| vpc.cidr_block_association_set());
    if ranges.iter().any(|one| one.cidr_block() == Some(&range)) {
        return Ok(());
    }
    let asked = client.associate_vpc_cidr_block().vpc_id(vpc).cidr_block(range);
    let answer = asked.send().await;
    answer
        .map(drop)
        .map_err(|error| failed("add the range of pods to the VPC", error))
}

async fn gateway(client: &Client, seen: &Seen, tags: &Tags<'_>, vpc: &str) -> Result<String, ProviderError> {
    let is_at = |one: &&aws_sdk_ec2::types::InternetGateway| {
        one.attachments()
            .iter()
            .any(|attachment| attachment.vpc_id() == Some(vpc))
    };
    let attached = seen.gateways.iter().find(is_at);
    let attached = attached.and_then(|one| one.internet_gateway_id());
    let loose = seen.gateways.iter().filter(|one| one.attachments().is_empty());
    let mut loose = loose.filter_map(|one| one.internet_gateway_id());
    let first = attached.or_else(|| loose.next());
    for spare in loose {
        delete::gateway(client, spare).await?;
    }
    if let Some(id) = attached {
        return Ok(id.to_owned());
    }
    let id = if let Some(id) = first {
        id.to_owned()
    } else {
        let asked = client
            .create_internet_gateway()
            .tag_specifications(tags.of(ResourceType::InternetGateway, "gateway"));
        let made = asked
            .send()
            .await
            .map_err(|error| failed("make an internet gateway", error))?;
        let id = made
            .internet_gateway()
            .and_then(|one| one.internet_gateway_id())
            .map(str::to_owned);
        id.ok_or_else(|| lacking("make an internet gateway"))?
    };
    let attached = client
        .attach_internet_gateway()
        .internet_gateway_id(&id)
        .vpc_id(vpc)
        .send()
        .await;
    attached.map_err(|error| failed("attach the internet gateway", error))?;
    Ok(id)
}

async fn table(
    client: &Client,
    seen: &Seen,
    tags: &Tags<'_>,
    vpc: &str,
    gateway: &str,
) -> Result<String, ProviderError> {
    let mut tables: Vec<_> = seen
        .tables
        .iter()
        .filter(|one| one.vpc_id() == Some(vpc))
        .collect();
    tables.sort_by_key(|one| one.associations().is_empty());
    for spare in tables.iter().skip(1).filter_map(|one| one.route_table_id()) {
        delete::table(client, spare).await?;
    }
    let known = tables.first().copied();
    let id = if let Some(id) = known.and_then(|one| one.route_table_id()) {
        id.to_owned()
    } else {
        let asked = client
            .create_route_table()
            .vpc_id(vpc)
            .tag_specifications(tags.of(ResourceType::RouteTable, "routes"));
        let made = asked
            .send()
            .await
            .map_err(|error| failed("make a route table", error))?;
        let id = made
            .route_table()
            .and_then(|one| one.route_table_id())
            .map(str::to_owned);
        id.ok_or_else(|| lacking("make a route table"))?
    };
    let routes = known.map_or(&[][..], |one| one.routes());
    if !routes.iter().any(|route| route.gateway_id() == Some(gateway)) {
        let asked = client
            .create_route()
            .route_table_id(&id)
            .destination_cidr_block("0.0.0.0/0")
            .gateway_id(gateway);
        asked
            .send()
            .await
            .map_err(|error| failed("make the route out", error))?;
    }
    Ok(id)
}

async fn group(client: &Client, seen: &Seen, tags: &Tags<'_>, vpc: &str) -> Result<String, ProviderError> {
    let known = seen.groups.iter().find(|one| one.vpc_id() == Some(vpc));
    let id = if let Some(id) = known.and_then(|one| one.group_id()) {
        id.to_owned()
    } else {
        let asked = client
            .create_security_group()
            .group_name(format!("skep-{}", tags.token))
            .description(format!("Nodes of the cell {}", tags.cell))
            .vpc_id(vpc)
            .tag_specifications(tags.of(ResourceType::SecurityGroup, "nodes"));
        let made = asked
            .send()
            .await
            .map_err(|error| failed("make a security group", error))?;
        let id = made.group_id().map(str::to_owned);
        id.ok_or_else(|| lacking("make a security group"))?
    };
    let rules = known.map_or(&[][..], |one| one.ip_permissions());
    if !rules.iter().any(|rule| !rule.user_id_group_pairs().is_empty()) {
        let own = UserIdGroupPair::builder().group_id(&id).build();
        allow(
            client,
            &id,
            IpPermission::builder()
                .ip_protocol("-1")
                .user_id_group_pairs(own)
                .build(),
        )
        .await?;
    }
    if !rules.iter().any(|rule| rule.from_port() == Some(443)) {
        let all = IpRange::builder()
            .cidr_ip("0.0.0.0/0")
            .description("tenants")
            .build();
        let https = IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(443)
            .to_port(443);
        allow(client, &id, https.ip_ranges(all).build()).await?;
    }
    Ok(id)
}

async fn allow(client: &Client, group: &str, rule: IpPermission) -> Result<(), ProviderError> {
    let asked = client
        .authorize_security_group_ingress()
        .group_id(group)
        .ip_permissions(rule);
    asked
        .send()
        .await
        .map(drop)
        .map_err(|error| failed("allow traffic to the nodes", error))
}

async fn subnets(
    client: &Client,
    order: &Order,
    zone: &ZoneLayout,
    seen: &Seen,
    tags: &Tags<'_>,
    vpc: &str,
    table: &str,
) -> Result<Subnets, ProviderError> {
    let mut ids = Vec::new();
    for (kind, range) in [("nodes", zone.nodes), ("pods", zone.pods)] {
        let part = format!("{kind}-{}", zone.zone);
        let is_it = |one: &&aws_sdk_ec2::types::Subnet| {
            one.vpc_id() == Some(vpc) && tags::value(one.tags(), PART) == part
        };
        let known = seen.subnets.iter().find(is_it).and_then(|one| one.subnet_id());
        let id = if let Some(id) = known {
            id.to_owned()
        } else {
            let asked = client
                .create_subnet()
                .vpc_id(vpc)
                .cidr_block(range.to_string())
                .availability_zone(availability_zone(order.region.as_str(), &zone.zone))
                .tag_specifications(tags.of(ResourceType::Subnet, &part));
            let made = asked
                .send()
                .await
                .map_err(|error| failed("make a subnet", error))?;
            let id = made.subnet().and_then(|one| one.subnet_id()).map(str::to_owned);
            id.ok_or_else(|| lacking("make a subnet"))?
        };
        route(client, seen, table, &id).await?;
        ids.push(id);
    }
    let [nodes, pods] = ids.try_into().map_err(|_| lacking("make a subnet"))?;
    Ok(Subnets {
        zone: zone.zone.clone(),
        nodes,
        pods,
    })
}

/// A zone by its letter alone, or by its whole name.
fn availability_zone(region: &str, zone: &str) -> String {
    if zone.starts_with(region) {
        return zone.to_owned();
    }
    format!("{region}{zone}")
}

async fn route(client: &Client, seen: &Seen, table: &str, subnet: &str) -> Result<(), ProviderError> {
    let known = seen.tables.iter().find(|one| one.route_table_id() == Some(table));
    let known = known.map_or(&[][..], |one| one.associations());
    if known.iter().any(|one| one.subnet_id() == Some(subnet)) {
        return Ok(());
    }
    let asked = client
        .associate_route_table()
        .route_table_id(table)
        .subnet_id(subnet);
    asked
        .send()
        .await
        .map(drop)
        .map_err(|error| failed("give a subnet its routes", error))
}
