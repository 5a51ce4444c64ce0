//! What shall become of one tenant, decided from its spec, its status and the catalog alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use skep_api::{Cell, DeploymentRecord, TenantCluster, TenantReference};
use skep_core::{CellName, Cpid, Endpoint, ProjectName, Region};

use super::build::{Parts, build_record};
use super::choose::choose;
use super::error::Error;
use super::planner::Advice;
use crate::validate::{Catalog, FieldError, Resolved, Standing, validate};

/// What shall become of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing, until its spec changes.
    Invalid(Vec<FieldError>),
    /// It waits for a cell.
    NoCell {
        /// The region that was asked for.
        region: String,
        /// Why none can take it.
        why: String,
    },
    /// Its cell is no longer registered; it stays what it is.
    CellGone(CellName),
    /// It has a cell and this record there.
    Placed(Box<Placement>),
}

/// A tenant's place and record.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The cell.
    pub cell: CellName,
    /// The choices that were made.
    pub resolved: Resolved,
    /// The host name of the API.
    pub endpoint: String,
    /// The address, `host:port`, that serves it.
    pub address: String,
    /// The record to write.
    pub record: DeploymentRecord,
}

/// The identity of a tenant's control plane: the latched one, else derived from the tenant's uid.
pub fn identity(tenant: &TenantCluster) -> Result<Cpid, Error> {
    let latched = tenant.status.as_ref().and_then(|status| status.cpid.as_deref());
    match latched.map(str::parse) {
        Some(Ok(cpid)) => Ok(cpid),
        Some(Err(_)) => Err(Error::Incomplete("valid status.cpid")),
        None => Ok(Cpid::derive(
            &tenant.uid().ok_or(Error::Incomplete("metadata.uid"))?,
        )),
    }
}

/// The cell of a tenant that has none: the planner's choice, or else one of those that belong to no pool.
fn place_of(catalog: &Catalog, region: &Region, advice: Option<&Advice>) -> Result<CellName, String> {
    let waits = match advice {
        Some(Advice::Take(cell)) => return Ok(cell.clone()),
        Some(Advice::Wait(why)) => Some(why.clone()),
        None => None,
    };
    // A cell of a pool takes only whom the planner sends there.
    let is_free = |cell: &&Cell| advice.is_none() || cell.spec.pool.is_none();
    let cells: Vec<Cell> = catalog.cells.iter().filter(is_free).cloned().collect();
    choose(&cells, region)
        .map(|choice| choice.cell)
        .map_err(|refusals| {
            let others = refusals.iter().map(ToString::to_string);
            let all: Vec<String> = waits.into_iter().chain(others).collect();
            if all.is_empty() {
                "it has no cell".to_owned()
            } else {
                all.join("; ")
            }
        })
}

/// Decides; `advice` is what the planner says where it places the tenants of the region.
///
/// # Errors
/// When the object is not one that the API stored, or the profile does not resolve.
pub fn decide(tenant: &TenantCluster, catalog: &Catalog, advice: Option<&Advice>) -> Result<Decision, Error> {
    let cpid = identity(tenant)?;
    let reference = match reference(&tenant.metadata)? {
        Ok(reference) => reference,
        Err(error) => return Ok(Decision::Invalid(vec![error])),
    };
    let standing = standing(tenant)?;
    if let Some(standing) = &standing
        && find(catalog, &standing.cell).is_none()
    {
        return Ok(Decision::CellGone(standing.cell.clone()));
    }
    let resolved = match validate(&tenant.spec, catalog, standing.as_ref()) {
        Ok(resolved) => resolved,
        Err(errors) => return Ok(Decision::Invalid(errors)),
    };
    let cell = match standing {
        Some(standing) => standing.cell,
        None => match place_of(catalog, &resolved.region, advice) {
            Ok(cell) => cell,
            Err(why) => {
                let region = resolved.region.to_string();
                return Ok(Decision::NoCell { region, why });
            }
        },
    };
    let Some(home) = find(catalog, &cell) else {
        return Ok(Decision::CellGone(cell));
    };
    place(tenant, catalog, &cpid, reference, resolved, home)
        .map(|placement| Decision::Placed(Box::new(placement)))
}

fn place(
    tenant: &TenantCluster,
    catalog: &Catalog,
    cpid: &Cpid,
    reference: TenantReference,
    resolved: Resolved,
    home: &Cell,
) -> Result<Placement, Error> {
    let cell: CellName = home
        .name_any()
        .parse()
        .map_err(|_| Error::Incomplete("valid cell name"))?;
    let domain = home
        .spec
        .domain
        .parse()
        .map_err(|_| Error::Incomplete("valid domain in its cell"))?;
    let profile = catalog
        .profiles
        .get(&resolved.profile)
        .ok_or(Error::Incomplete("profile"))?;
    let class = catalog
        .classes
        .get(&resolved.class)
        .ok_or(Error::Incomplete("class"))?;
    let endpoint = Endpoint::new(cpid, &resolved.region, &domain).api;
    let traceparent = tenant
        .annotations()
        .get(skep_core::labels::TRACEPARENT)
        .map(String::as_str);
    let parts = Parts {
        reference,
        cpid,
        cell: &cell,
        domain,
        resolved: &resolved,
        profile,
        class,
        traceparent,
    };
    let record = build_record(&parts).map_err(Error::Resolve)?;
    let address = catalog.front.clone();
    let address = address.unwrap_or_else(|| home.spec.gateway.address.clone());
    Ok(Placement {
        cell,
        resolved,
        endpoint,
        address,
        record,
    })
}

fn find<'a>(catalog: &'a Catalog, cell: &CellName) -> Option<&'a Cell> {
    catalog
        .cells
        .iter()
        .find(|known| known.metadata.name.as_deref() == Some(cell.as_str()))
}

/// What stands; a tenant that has a cell is never given another one, whatever else its status lacks.
fn standing(tenant: &TenantCluster) -> Result<Option<Standing>, Error> {
    let Some(status) = &tenant.status else {
        return Ok(None);
    };
    match (Standing::of(status), &status.cell) {
        (Some(standing), _) => Ok(Some(standing)),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::Incomplete(
            "version and class beside its cell in the status",
        )),
    }
}

fn reference(metadata: &ObjectMeta) -> Result<Result<TenantReference, FieldError>, Error> {
    let namespace = metadata
        .namespace
        .as_deref()
        .ok_or(Error::Incomplete("metadata.namespace"))?;
    let name = metadata.name.clone().ok_or(Error::Incomplete("metadata.name"))?;
    let uid = metadata.uid.clone().ok_or(Error::Incomplete("metadata.uid"))?;
    let project = namespace
        .strip_prefix("project-")
        .and_then(|name| name.parse::<ProjectName>().ok());
    Ok(match project {
        Some(project) => Ok(TenantReference {
            project: project.to_string(),
            name,
            uid,
        }),
        None => Err(FieldError {
            field: "metadata.namespace",
            message: format!("{namespace} is no project; a project's namespace is project-NAME"),
        }),
    })
}
