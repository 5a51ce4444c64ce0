//! What the API says of one tenant and its record at this moment, past every cache.

use kube::{Api, Client, ResourceExt};
use skep_api::{DeploymentRecord, TenantCluster};
use skep_core::{CellName, Cpid};

use super::error::Error;

/// Reads the tenant's record in its cell's namespace; nothing when there is none.
pub async fn fetch_record(
    client: &Client,
    cell: &CellName,
    cpid: &Cpid,
) -> Result<Option<DeploymentRecord>, Error> {
    let namespace = cell.namespace();
    let api: Api<DeploymentRecord> = Api::namespaced(client.clone(), &namespace);
    let read = api.get_opt(cpid.as_str()).await;
    read.map_err(|source| Error::Observe {
        name: format!("record {namespace}/{cpid}"),
        source,
    })
}

/// Reads the tenant again; nothing when it, the same one, is gone.
pub async fn fetch_tenant(client: &Client, tenant: &TenantCluster) -> Result<Option<TenantCluster>, Error> {
    let namespace = tenant
        .namespace()
        .ok_or(Error::Incomplete("metadata.namespace"))?;
    let name = tenant.name_any();
    let api: Api<TenantCluster> = Api::namespaced(client.clone(), &namespace);
    let read = api.get_opt(&name).await;
    let found = read.map_err(|source| Error::Observe {
        name: format!("cluster {namespace}/{name}"),
        source,
    })?;
    Ok(found.filter(|found| found.metadata.uid == tenant.metadata.uid))
}
