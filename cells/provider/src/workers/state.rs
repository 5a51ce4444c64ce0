//! Which workers tenants have on this machine: kept in files, so that `up` brings them back and a command that was
//! killed half-way is gone on with or undone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::address::{self, MAX_LINKS};
use crate::error::{Error, Refusal};
use crate::layout::Layout;
use crate::state;

/// The tenant that workers are to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its identity; names everything that is made for it.
    pub cpid: String,
    /// Its host name for nodes.
    pub host: String,
    /// The range of its pods.
    pub pods: IpNet,
    /// The range of its services.
    pub services: IpNet,
    /// The address of its cluster DNS.
    pub dns: IpAddr,
}

/// What one tenant has here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TenantState {
    pub cpid: String,
    pub host: String,
    pub dns: IpAddr,
    /// Numbers its way into the cell; no two tenants of an instance have the same.
    pub link: u8,
    pub workers: Vec<Worker>,
}

/// One worker machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// The name of its node in the tenant.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its number in the tenant; decides its address.
    pub index: u8,
    /// The range of its pods, once the tenant has given it one.
    pub pods: Option<Ipv4Net>,
}

/// Every tenant with workers here.
pub(crate) fn all(layout: &Layout) -> Result<Vec<TenantState>, Error> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(layout.tenants())
        .into_iter()
        .flatten()
        .flatten()
    {
        if file.path().extension().is_some_and(|ext| ext == "json") {
            found.extend(state::read::<TenantState>(&file.path())?);
        }
    }
    found.sort_by_key(|tenant| tenant.link);
    Ok(found)
}

/// One tenant, if it has workers here.
pub(crate) fn find(layout: &Layout, cpid: &str) -> Result<Option<TenantState>, Error> {
    state::read(&layout.tenant(cpid))
}

impl TenantState {
    /// What stands of a tenant, or the beginning of it.
    pub(crate) fn open(layout: &Layout, tenant: &Tenant) -> Result<Self, Error> {
        if let Some(found) = find(layout, &tenant.cpid)? {
            return Ok(found);
        }
        let workers = IpNet::V4(address::workers());
        for (what, range) in [("pods", tenant.pods), ("services", tenant.services)] {
            if workers.contains(&range.network()) || range.contains(&workers.network()) {
                let (range, workers) = (range.to_string(), workers.to_string());
                return Err(Refusal::TenantRange { what, range, workers }.into());
            }
        }
        let taken: BTreeSet<u8> = all(layout)?.into_iter().map(|tenant| tenant.link).collect();
        let link = (0..MAX_LINKS)
            .find(|link| !taken.contains(link))
            .ok_or(Refusal::NoLink(MAX_LINKS))?;
        Ok(Self {
            cpid: tenant.cpid.clone(),
            host: tenant.host.clone(),
            dns: tenant.dns,
            link,
            workers: Vec::new(),
        })
    }

    /// Adds a worker `NAME-INDEX` for each zone given.
    pub(crate) fn grow(&mut self, name: &str, zones: &[String]) -> Result<Vec<Worker>, Refusal> {
        /// Addresses from `.10` up to the end of the network.
        const MAX_WORKERS: u8 = 200;
        let mut added = Vec::new();
        for zone in zones {
            let is_free = |index: &u8| self.workers.iter().all(|worker| worker.index != *index);
            let index = (1..=MAX_WORKERS)
                .find(is_free)
                .ok_or(Refusal::TooManyWorkers(MAX_WORKERS))?;
            let worker = Worker {
                name: format!("{name}-{index}"),
                zone: zone.clone(),
                index,
                pods: None,
            };
            self.workers.push(worker.clone());
            added.push(worker);
        }
        Ok(added)
    }

    /// Every name under which a node reaches its control plane; all lead to the front.
    pub(crate) fn hosts(&self) -> [String; 3] {
        let rest = self.host.split_once('.').map_or("", |(_, rest)| rest);
        ["node", "api", "konnectivity"].map(|role| format!("{role}.{rest}"))
    }

    pub(crate) fn write(&self, layout: &Layout) -> Result<(), Error> {
        state::write(&layout.tenant(&self.cpid), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(pods: &str) -> Tenant {
        Tenant {
            cpid: "cabcdefghi".into(),
            host: "node.cabcdefghi.local.skep.internal".into(),
            pods: pods.parse().unwrap(),
            services: "198.19.128.0/20".parse().unwrap(),
            dns: "198.19.128.10".parse().unwrap(),
        }
    }

    #[test]
    fn numbers_are_given_once_and_again_when_free() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let mut first = TenantState::open(&layout, &tenant("198.19.0.0/17")).unwrap();
        let zones = ["a".to_owned(), "b".to_owned()];
        let added = first.grow("demo", &zones).unwrap();
        assert_eq!(
            added
                .iter()
                .map(|worker| worker.name.as_str())
                .collect::<Vec<_>>(),
            ["demo-1", "demo-2"]
        );
        first.workers.remove(0);
        assert_eq!(first.grow("demo", &zones[..1]).unwrap()[0].index, 1);
        first.write(&layout).unwrap();
        assert_eq!(
            TenantState::open(&layout, &tenant("198.19.0.0/17")).unwrap(),
            first
        );
        let other = Tenant {
            cpid: "cother".into(),
            ..tenant("198.19.0.0/17")
        };
        assert_eq!(TenantState::open(&layout, &other).unwrap().link, 1);
        assert_eq!(all(&layout).unwrap(), [first]);
    }

    #[test]
    fn a_tenant_that_uses_its_workers_addresses_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = TenantState::open(&Layout::new(dir.path()), &tenant("198.19.192.0/18"));
        assert!(refused.unwrap_err().to_string().contains("198.19.255.0/24"));
    }
}
