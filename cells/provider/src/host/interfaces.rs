//! Interfaces, addresses and routes as the kernel has them; reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::address::Slot;
use crate::command::Command;
use crate::error::{Error, Refusal};
use crate::names::netns_path;

/// What one namespace has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// Addresses of each interface that is up, and none of one that is down.
    pub up: BTreeMap<String, BTreeSet<String>>,
    pub interfaces: BTreeSet<String>,
    /// Ports of a bridge.
    pub enslaved: BTreeSet<String>,
    /// Destination and next hop.
    pub routes: BTreeSet<(String, String)>,
}

/// An interface as `ip -j addr` prints it.
#[derive(Debug, Deserialize)]
struct Link {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    master: Option<String>,
    #[serde(default)]
    addr_info: Vec<LinkAddress>,
}

#[derive(Debug, Deserialize)]
struct LinkAddress {
    local: Option<String>,
    prefixlen: Option<u8>,
}

/// A route as `ip -j route` prints it.
#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    gateway: Option<String>,
    dev: Option<String>,
}

/// Reads what a namespace has; the host's where none is named.
pub(crate) async fn observe(netns: Option<&String>) -> Result<Namespace, Error> {
    let mut ip = Command::new("ip");
    if let Some(netns) = netns {
        ip = ip.args(["-n", netns]);
    }
    read(&ip).await
}

/// Reads what the namespace of this path has.
pub(crate) async fn observe_at(path: &Path) -> Result<Namespace, Error> {
    let enter = Command::new("nsenter").arg(format!("--net={}", path.display()));
    read(&enter.arg("ip")).await
}

async fn read(ip: &Command) -> Result<Namespace, Error> {
    let (links, routes) = tokio::try_join!(list::<Link>(ip, "addr"), list::<Route>(ip, "route"))?;
    let mut found = Namespace::default();
    for link in links {
        if link.flags.iter().any(|flag| flag == "UP") {
            let addresses = link.addr_info.into_iter().filter_map(|a| a.local).collect();
            found.up.insert(link.ifname.clone(), addresses);
        }
        if link.master.is_some() {
            found.enslaved.insert(link.ifname.clone());
        }
        found.interfaces.insert(link.ifname);
    }
    found.routes = routes
        .into_iter()
        .filter_map(|r| Some((r.dst, r.gateway?)))
        .collect();
    Ok(found)
}

async fn list<T: serde::de::DeserializeOwned>(ip: &Command, what: &str) -> Result<Vec<T>, Error> {
    let text = ip.clone().args(["-j", what, "show"]).run().await?;
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).map_err(|error| Error::Render {
        what: "the answer of ip",
        reason: error.to_string(),
    })
}

/// Whether a name stands for a network namespace, and not for a file that one left.
pub(crate) fn is_netns(name: &str) -> bool {
    is_netns_at(&netns_path(name))
}

/// Whether a path leads to a network namespace.
pub(crate) fn is_netns_at(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let nsfs = device(Path::new("/proc/self/ns/net"));
    nsfs.is_some() && device(path) == nsfs
}

/// The names of all network namespaces on the host, valid or not.
pub(crate) fn all_netns() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Whether the host has an interface of this name.
pub(crate) fn has_interface(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// Refuses a slot whose addresses somebody else's interface or route has.
pub(crate) async fn check_free(slot: Slot, own: &str) -> Result<(), Error> {
    let ip = Command::new("ip");
    let (links, routes) = tokio::try_join!(list::<Link>(&ip, "addr"), list::<Route>(&ip, "route"))?;
    let whole = slot.whole();
    let overlaps = |net: Ipv4Net| net.prefix_len() > 0 && (whole.contains(&net) || net.contains(&whole));
    let refuse = |interface: &str| {
        Err(Refusal::RangeInUse {
            range: whole.to_string(),
            interface: interface.to_owned(),
        }
        .into())
    };
    for link in links.iter().filter(|link| link.ifname != own) {
        for address in &link.addr_info {
            let net = address.local.as_deref().and_then(|local| local.parse().ok());
            let net = net
                .zip(address.prefixlen)
                .and_then(|(local, len)| Ipv4Net::new(local, len).ok());
            if net.is_some_and(|net| overlaps(net.trunc())) {
                return refuse(&link.ifname);
            }
        }
    }
    for route in &routes {
        let dev = route.dev.as_deref().unwrap_or_default();
        let net = route
            .dst
            .parse::<Ipv4Net>()
            .or_else(|_| route.dst.parse().map(|host: Ipv4Addr| host.into()));
        if dev != own && net.is_ok_and(overlaps) {
            return refuse(dev);
        }
    }
    Ok(())
}
