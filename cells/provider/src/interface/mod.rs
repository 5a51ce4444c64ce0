//! A second interface of a pod, in the network of a tenant's workers: what a cloud does with an interface of the
//! machine, done with a cable into the tenant's router.
//!
//! The CNI plugin plugs pods in that start; whoever makes a tenant's network plugs in those that run already. Both
//! take a pod's record first, so neither misses one or does it twice. Of the control plane it knows one annotation.

mod guard;
mod plugin;

use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use skep_core::Cpid;

use crate::address::{self, Slot};
use crate::command::Command;
use crate::error::Error;
use crate::host::interfaces::{Namespace, is_netns_at, observe_at};
use crate::names::Names;
use crate::state;

pub use plugin::{is_plugin, run_plugin};

/// The plugin's name, by which our program is called.
pub(crate) const PLUGIN: &str = "skep-interface";
/// Where a machine sees the host's network namespaces, those that are made later as well.
pub(crate) const HOST_NETNS: &str = "/var/lib/skep/netns";
/// Where a machine keeps its pods' records; gone with the machine's `/run`, as the pods' namespaces are.
pub(crate) const RECORDS: &str = "/run/skep/interfaces";
/// The bridge between workers, in a tenant's router.
pub(crate) const BRIDGE: &str = "workers";
/// The interface in the pod.
const INTERFACE: &str = "tenant0";
/// The interface that the pod has in any case.
const CELL_INTERFACE: &str = "eth0";
/// The router's end of a cable, before the last number of the pod's address.
const PORT: &str = "api-";

/// Where pods are plugged in: part of the plugin's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    pub instance: String,
    pub slot: Slot,
}

/// A pod that is to be in a tenant's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub cpid: Cpid,
    /// The pod's network namespace, as its machine sees it; no part of the path is a link.
    pub netns: PathBuf,
}

impl Record {
    /// Writes the record; whoever makes the tenant's network from then on finds it.
    fn write(&self, file: &Path) -> Result<(), Error> {
        state::write(file, self)
    }

    /// Keeps the other one of plugin and host from plugging the same pod in.
    pub(crate) fn lock(file: &Path) -> Result<Flock<File>, Error> {
        let file_of_lock = file.with_extension("lock");
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file_of_lock);
        let open = open.map_err(Error::io("open", file_of_lock))?;
        Flock::lock(open, FlockArg::LockExclusive)
            .map_err(|(_, source)| Error::system("lock the record of a pod")(source))
    }

    /// Removes the record; one that is gone is no failure.
    fn remove(file: &Path) {
        for file in [file.to_owned(), file.with_extension("lock")] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A pod and the router that it is to be plugged into, as paths of their namespaces.
pub(crate) struct Cable<'a> {
    pub pod: &'a Path,
    pub router: &'a Path,
}

impl Cable<'_> {
    /// Plugs the pod in; says whether anything was missing. Without a router there is nothing to do yet.
    pub(crate) async fn ensure(&self) -> Result<bool, Error> {
        let Some(router) = self.observe_router().await? else {
            return Ok(false);
        };
        let pod = observe_at(self.pod).await?;
        if is_plugged_in(&pod) {
            return Ok(false);
        }
        if pod.interfaces.contains(INTERFACE) {
            // Of a try that ended half-way.
            in_netns(self.pod)
                .args(["ip", "link", "delete", INTERFACE])
                .run()
                .await?;
        }
        let number = self.lay(router).await?;
        let port = format!("{PORT}{number}");
        in_netns(self.router)
            .args(["ip", "link", "set", &port, "master", BRIDGE, "up"])
            .run()
            .await?;
        in_netns(self.pod)
            .args(["ip", "-batch", "-"])
            .input(plan(number))
            .run()
            .await?;
        Ok(true)
    }

    /// Whether the pod has all that it shall have, if there is a router.
    async fn is_whole(&self) -> Result<bool, Error> {
        Ok(self.observe_router().await?.is_none() || is_plugged_in(&observe_at(self.pod).await?))
    }

    /// The router, once it has its bridge.
    async fn observe_router(&self) -> Result<Option<Namespace>, Error> {
        if !is_netns_at(self.router) {
            return Ok(None);
        }
        let router = observe_at(self.router).await?;
        Ok(router.interfaces.contains(BRIDGE).then_some(router))
    }

    /// Makes the cable, and returns the last number of the pod's address: the port in the router is called by it, so
    /// that the kernel gives no address twice.
    async fn lay(&self, mut router: Namespace) -> Result<u8, Error> {
        loop {
            let number = choose(&router).ok_or_else(|| Error::Render {
                what: "an address in the tenant's network",
                reason: format!("all from {:?} are taken", address::INTERFACES),
            })?;
            let port = format!("{PORT}{number}");
            let made = in_netns(self.pod)
                .args([
                    "ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", &port, "netns",
                ])
                .arg(self.router)
                .run()
                .await;
            let Err(error) = made else { return Ok(number) };
            router = observe_at(self.router).await?;
            // Another pod was faster, or something else is wrong.
            if !router.interfaces.contains(&port) {
                return Err(error);
            }
        }
    }
}

/// The first free number.
fn choose(router: &Namespace) -> Option<u8> {
    let mut numbers = address::INTERFACES;
    numbers.find(|number| !router.interfaces.contains(&format!("{PORT}{number}")))
}

/// Everything but the cell is behind the tenant's router. The default route comes last: it tells that all was done.
fn plan(number: u8) -> String {
    let (address, router) = (address::interface(number), address::workers_router());
    format!(
        "addr add {address}/24 dev {INTERFACE}
link set {INTERFACE} up
route replace default via {router} dev {INTERFACE}
"
    )
}

fn is_plugged_in(pod: &Namespace) -> bool {
    let way = ("default".to_owned(), address::workers_router().to_string());
    pod.up.contains_key(INTERFACE) && pod.routes.contains(&way)
}

/// The next hop into the cell: of the route that is kept, or of the default route, which comes from `ptp`.
fn gateway(pod: &Namespace, slot: Slot) -> Option<Ipv4Addr> {
    let cell = slot.whole().to_string();
    let via = |to: &str| {
        let mut routes = pod.routes.iter();
        routes
            .find(|(known, _)| known == to)
            .and_then(|(_, via)| via.parse().ok())
    };
    via(&cell).or_else(|| via("default"))
}

/// Prepares a pod that is to be in a tenant's network, whether that is there or not: shuts what leads from the tenant
/// into the cell, and keeps the way to the cell's own addresses.
async fn prepare(pod: &Path, slot: Slot) -> Result<(), Error> {
    in_netns(pod)
        .args(["nft", "-f", "-"])
        .input(guard::build_rules(slot))
        .run()
        .await?;
    let is = observe_at(pod).await?;
    let gateway = gateway(&is, slot).ok_or_else(|| Error::Render {
        what: "the pod's way into the cell",
        reason: format!("it has no default route by {CELL_INTERFACE}"),
    })?;
    let route = format!(
        "route replace {} via {gateway} dev {CELL_INTERFACE}\n",
        slot.whole()
    );
    in_netns(pod)
        .args(["ip", "-batch", "-"])
        .input(route)
        .run()
        .await
        .map(drop)
}

/// Where a machine finds a tenant's router.
fn router_path(place: &Place, cpid: &Cpid) -> PathBuf {
    Path::new(HOST_NETNS).join(Names::new(&place.instance).router(cpid.as_str()))
}

/// A program that will run in the network namespace of this path.
fn in_netns(path: &Path) -> Command {
    Command::new("nsenter").arg(format!("--net={}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn with_ports(numbers: impl IntoIterator<Item = u8>) -> Namespace {
        Namespace {
            interfaces: numbers
                .into_iter()
                .map(|number| format!("{PORT}{number}"))
                .collect(),
            ..Namespace::default()
        }
    }

    #[test]
    fn no_address_is_given_twice() {
        assert_eq!(choose(&with_ports([])), Some(220));
        assert_eq!(choose(&with_ports([220, 222])), Some(221));
        assert_eq!(choose(&with_ports(220..=249)), None);
    }

    #[test]
    fn a_pod_is_plugged_in_when_its_last_step_was_taken() {
        let mut pod = Namespace {
            up: BTreeMap::from([(INTERFACE.to_owned(), BTreeSet::new())]),
            ..Namespace::default()
        };
        assert!(!is_plugged_in(&pod));
        pod.routes
            .insert(("default".to_owned(), "198.18.16.1".to_owned()));
        assert!(!is_plugged_in(&pod));
        pod.routes
            .insert(("default".to_owned(), "198.19.255.1".to_owned()));
        assert!(is_plugged_in(&pod));
        assert!(
            plan(220)
                .trim_end()
                .ends_with("route replace default via 198.19.255.1 dev tenant0")
        );
    }

    #[test]
    fn the_way_into_the_cell_is_kept() {
        let slot = Slot::try_from(1).unwrap();
        let mut pod = Namespace::default();
        assert_eq!(gateway(&pod, slot), None);
        pod.routes
            .insert(("default".to_owned(), "198.18.48.1".to_owned()));
        assert_eq!(gateway(&pod, slot), Some(Ipv4Addr::new(198, 18, 48, 1)));
        pod.routes = BTreeSet::from([
            ("default".to_owned(), "198.19.255.1".to_owned()),
            ("198.18.32.0/19".to_owned(), "198.18.48.1".to_owned()),
        ]);
        assert_eq!(gateway(&pod, slot), Some(Ipv4Addr::new(198, 18, 48, 1)));
    }
}
