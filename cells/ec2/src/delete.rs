//! Removes a cell from its last part to its first, as far as EC2 lets it go now.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{NetworkInterface, RouteTable};
use skep_builder::ProviderError;

use crate::error::{failed, is_gone};
use crate::observe::Seen;

/// Asks for the end of something; that it is gone already is as good.
macro_rules! remove {
    ($what:literal, $asked:expr) => {
        match $asked.send().await {
            Err(error) if !is_gone(&error) => Err(failed($what, error)),
            _ => Ok(()),
        }
    };
}

/// Terminates instances.
pub(crate) async fn instances(client: &Client, ids: Vec<String>) -> Result<(), ProviderError> {
    if ids.is_empty() {
        return Ok(());
    }
    remove!(
        "terminate instances",
        client.terminate_instances().set_instance_ids(Some(ids))
    )
}

/// Deletes an interface, and takes it from its node first where that is gone and EC2 has not.
pub(crate) async fn interface(client: &Client, one: &NetworkInterface) -> Result<(), ProviderError> {
    if let Some(attachment) = one.attachment().and_then(|at| at.attachment_id()) {
        let asked = client
            .detach_network_interface()
            .attachment_id(attachment)
            .force(true);
        remove!("detach a network interface", asked)?;
    }
    let id = one.network_interface_id().unwrap_or_default();
    remove!(
        "delete a network interface",
        client.delete_network_interface().network_interface_id(id)
    )
}

/// Deletes a gateway that hangs on nothing.
pub(crate) async fn gateway(client: &Client, id: &str) -> Result<(), ProviderError> {
    remove!(
        "delete the internet gateway",
        client.delete_internet_gateway().internet_gateway_id(id)
    )
}

/// Deletes a route table that no subnet uses.
pub(crate) async fn table(client: &Client, id: &str) -> Result<(), ProviderError> {
    remove!(
        "delete the route table",
        client.delete_route_table().route_table_id(id)
    )
}

/// Removes what can go now; an instance that still shuts down holds its interfaces and with them the network.
pub(crate) async fn everything(client: &Client, seen: &Seen) -> Result<(), ProviderError> {
    let ids = seen
        .living()
        .filter_map(|one| one.instance_id().map(str::to_owned));
    instances(client, ids.collect()).await?;
    for one in &seen.templates {
        let id = one.launch_template_id().unwrap_or_default();
        remove!(
            "delete the launch template",
            client.delete_launch_template().launch_template_id(id)
        )?;
    }
    if seen.remaining().next().is_some() {
        return Ok(());
    }
    for one in &seen.interfaces {
        interface(client, one).await?;
    }
    for vpc in seen.vpcs.iter().filter_map(|one| one.vpc_id()) {
        network_of(client, seen, vpc).await?;
    }
    for one in seen.gateways.iter().filter(|one| one.attachments().is_empty()) {
        let id = one.internet_gateway_id().unwrap_or_default();
        gateway(client, id).await?;
    }
    Ok(())
}

/// Removes a VPC with its subnets, table, group and gateway.
pub(crate) async fn network_of(client: &Client, seen: &Seen, vpc: &str) -> Result<(), ProviderError> {
    for one in seen.subnets.iter().filter(|one| one.vpc_id() == Some(vpc)) {
        let id = one.subnet_id().unwrap_or_default();
        for association in seen.tables.iter().flat_map(RouteTable::associations) {
            if association.subnet_id() == Some(id) {
                let association = association.route_table_association_id().unwrap_or_default();
                let asked = client.disassociate_route_table().association_id(association);
                remove!("take a subnet from its routes", asked)?;
            }
        }
        remove!("delete a subnet", client.delete_subnet().subnet_id(id))?;
    }
    for one in seen.groups.iter().filter(|one| one.vpc_id() == Some(vpc)) {
        let id = one.group_id().unwrap_or_default();
        remove!(
            "delete the security group",
            client.delete_security_group().group_id(id)
        )?;
    }
    for one in seen.tables.iter().filter(|one| one.vpc_id() == Some(vpc)) {
        let id = one.route_table_id().unwrap_or_default();
        table(client, id).await?;
    }
    for one in &seen.gateways {
        let id = one.internet_gateway_id().unwrap_or_default();
        if one.attachments().iter().any(|at| at.vpc_id() == Some(vpc)) {
            let asked = client
                .detach_internet_gateway()
                .internet_gateway_id(id)
                .vpc_id(vpc);
            remove!("detach the internet gateway", asked)?;
            gateway(client, id).await?;
        }
    }
    remove!("delete the VPC", client.delete_vpc().vpc_id(vpc))
}
