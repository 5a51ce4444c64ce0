//! Everything of an order, or of the platform, that EC2 shows.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    Instance, InstanceStateName, InternetGateway, LaunchTemplate, NetworkInterface, RouteTable,
    SecurityGroup, Subnet, Tag, Vpc,
};
use skep_builder::{ProviderError, Token};

use crate::error::failed;
use crate::tags::{self, TOKEN};

/// What stands, by kind.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub vpcs: Vec<Vpc>,
    pub gateways: Vec<InternetGateway>,
    pub tables: Vec<RouteTable>,
    pub groups: Vec<SecurityGroup>,
    pub subnets: Vec<Subnet>,
    pub templates: Vec<LaunchTemplate>,
    /// Those that are gone are shown for an hour or so.
    pub instances: Vec<Instance>,
    pub interfaces: Vec<NetworkInterface>,
}

macro_rules! every {
    ($client:expr, $request:ident, $filters:expr, $what:literal) => {{
        let pages = $client.$request().set_filters(Some($filters)).into_paginator();
        let found: Result<Vec<_>, _> = pages.items().send().collect().await;
        found.map_err(|error| failed(concat!("list ", $what), error))?
    }};
}

impl Seen {
    /// Asks for each kind once, page by page.
    pub async fn of(client: &Client, platform: &str, token: Option<&Token>) -> Result<Self, ProviderError> {
        let filters = || tags::filters(platform, token);
        let reservations = client
            .describe_instances()
            .set_filters(Some(filters()))
            .into_paginator();
        let reservations: Result<Vec<_>, _> = reservations.items().send().collect().await;
        let reservations = reservations.map_err(|error| failed("list instances", error))?;
        let mut seen = Self {
            vpcs: every!(client, describe_vpcs, filters(), "VPCs"),
            gateways: every!(client, describe_internet_gateways, filters(), "internet gateways"),
            tables: every!(client, describe_route_tables, filters(), "route tables"),
            groups: every!(client, describe_security_groups, filters(), "security groups"),
            subnets: every!(client, describe_subnets, filters(), "subnets"),
            templates: every!(client, describe_launch_templates, filters(), "launch templates"),
            interfaces: every!(
                client,
                describe_network_interfaces,
                filters(),
                "network interfaces"
            ),
            instances: reservations
                .into_iter()
                .flat_map(|one| one.instances.unwrap_or_default())
                .collect(),
        };
        // Lists come in any order; what is kept of two must be the same one each time.
        seen.vpcs.sort_by(|a, b| a.vpc_id.cmp(&b.vpc_id));
        seen.gateways
            .sort_by(|a, b| a.internet_gateway_id.cmp(&b.internet_gateway_id));
        seen.tables
            .sort_by(|a, b| a.route_table_id.cmp(&b.route_table_id));
        seen.instances.sort_by(|a, b| a.instance_id.cmp(&b.instance_id));
        seen.interfaces
            .sort_by(|a, b| a.network_interface_id.cmp(&b.network_interface_id));
        Ok(seen)
    }

    /// The instances that are not gone, nor going.
    pub fn living(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|one| {
            !matches!(
                state(one),
                Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown)
            )
        })
    }

    /// The instances that are not gone.
    pub fn remaining(&self) -> impl Iterator<Item = &Instance> {
        let is_gone = |one: &Instance| state(one) == Some(&InstanceStateName::Terminated);
        self.instances.iter().filter(move |one| !is_gone(one))
    }

    /// Everything that is still there, as (kind and id, token).
    pub fn parts(&self) -> Vec<(String, String)> {
        let part = |kind: &str, id: Option<&str>, tags: &[Tag]| {
            let id = id.unwrap_or_default();
            (format!("{kind}/{id}"), tags::value(tags, TOKEN).to_owned())
        };
        let mut parts = Vec::new();
        parts.extend(self.vpcs.iter().map(|one| part("vpc", one.vpc_id(), one.tags())));
        parts.extend(
            self.gateways
                .iter()
                .map(|one| part("internet-gateway", one.internet_gateway_id(), one.tags())),
        );
        parts.extend(
            self.tables
                .iter()
                .map(|one| part("route-table", one.route_table_id(), one.tags())),
        );
        parts.extend(
            self.groups
                .iter()
                .map(|one| part("security-group", one.group_id(), one.tags())),
        );
        parts.extend(
            self.subnets
                .iter()
                .map(|one| part("subnet", one.subnet_id(), one.tags())),
        );
        parts.extend(
            self.templates
                .iter()
                .map(|one| part("launch-template", one.launch_template_id(), one.tags())),
        );
        parts.extend(
            self.remaining()
                .map(|one| part("instance", one.instance_id(), one.tags())),
        );
        parts.extend(
            self.interfaces
                .iter()
                .map(|one| part("network-interface", one.network_interface_id(), one.tag_set())),
        );
        parts
    }
}

/// The state of an instance.
pub(crate) fn state(instance: &Instance) -> Option<&InstanceStateName> {
    instance.state().and_then(|state| state.name())
}
