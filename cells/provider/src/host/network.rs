//! The instance's network: a bridge in a namespace of its own, so that no firewall rule of the host
//! sees what goes over it; one cable from the host, and one from each machine.
//!
//! That namespace also routes between pods and the host. It has no route to anywhere else, so a packet
//! to a foreign address is answered as unreachable at once and never leaves this machine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use futures::future::try_join_all;
use ipnet::Ipv4Net;

use super::interfaces::{Namespace, is_netns, observe};
use crate::address::Slot;
use crate::command::Command;
use crate::error::Error;
use crate::names::{Names, netns_path};

/// The interface that a machine has.
pub(crate) const MACHINE_INTERFACE: &str = "eth0";
/// The end, in the bridge's namespace, of the host's cable.
const HOST_PORT: &str = "host";

/// A machine as the network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Station {
    pub netns: String,
    pub address: Ipv4Addr,
    /// The pods behind it; the front has none.
    pub pods: Option<Ipv4Net>,
}

/// What an instance's network is to be.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub names: Names,
    pub slot: Slot,
    pub stations: Vec<Station>,
}

/// Lines for `ip -batch`, in one namespace; the host's where there is none named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub mode: Mode,
    pub netns: Option<String>,
    pub lines: Vec<String>,
}

impl Topology {
    /// Brings the network to this shape; says whether anything was missing.
    pub(crate) async fn ensure(&self) -> Result<bool, Error> {
        let all = self.namespaces();
        let missing = add_missing(&all).await?;
        if missing.contains(&self.names.switch()) {
            forward(&self.names.switch()).await?;
        }
        let host = observe(None).await?;
        let inside = try_join_all(all.iter().map(|name| observe(Some(name)))).await?;
        let observed: BTreeMap<_, _> = all.into_iter().zip(inside).collect();
        let batches = self.plan(&host, &observed);
        for batch in &batches {
            batch.run().await?;
        }
        Ok(!missing.is_empty() || !batches.is_empty())
    }

    /// Every namespace of the instance.
    fn namespaces(&self) -> Vec<String> {
        let stations = self.stations.iter().map(|station| station.netns.clone());
        std::iter::once(self.names.switch()).chain(stations).collect()
    }

    /// What is missing, in the order of making.
    fn plan(&self, host: &Namespace, inside: &BTreeMap<String, Namespace>) -> Vec<Batch> {
        let nothing = Namespace::default();
        let switch_name = self.names.switch();
        let switch = inside.get(&switch_name).unwrap_or(&nothing);
        let bridge = self.names.bridge();
        let mut stale = Vec::new();
        let mut cables = Vec::new();
        let mut ports = Vec::new();
        if !switch.interfaces.contains(&bridge) {
            ports.push(format!("link add {bridge} type bridge"));
        }
        if !host.interfaces.contains(&bridge) {
            switch.unwant(HOST_PORT, &mut stale);
            cables.push(format!(
                "link add {bridge} type veth peer name {HOST_PORT} netns {switch_name}"
            ));
        }
        let is_new = !host.interfaces.contains(&bridge);
        switch.want_port(HOST_PORT, is_new, &bridge, &mut ports);
        for station in &self.stations {
            let port = Names::port(&station.netns);
            let own = inside.get(&station.netns).unwrap_or(&nothing);
            let is_new = !own.interfaces.contains(MACHINE_INTERFACE);
            if is_new {
                switch.unwant(&port, &mut stale);
                let peer = format!("peer name {MACHINE_INTERFACE} netns {}", station.netns);
                cables.push(format!("link add {port} netns {switch_name} type veth {peer}"));
            }
            switch.want_port(&port, is_new, &bridge, &mut ports);
        }
        switch.want_up("lo", None, &mut ports);
        switch.want_up(&bridge, Some(self.slot.router()), &mut ports);
        for station in &self.stations {
            switch.want_pod_route(station, &mut ports);
        }
        let mut outside = Vec::new();
        host.want_up(&bridge, Some(self.slot.host()), &mut outside);
        host.want_route(&self.slot.pods().to_string(), self.slot.router(), &mut outside);
        let mut batches = vec![
            Batch {
                netns: Some(switch_name.clone()),
                lines: stale,
                mode: Mode::Vanishing,
            },
            Batch {
                netns: None,
                lines: cables,
                mode: Mode::Exact,
            },
            Batch {
                netns: Some(switch_name),
                lines: ports,
                mode: Mode::Exact,
            },
            Batch {
                netns: None,
                lines: outside,
                mode: Mode::Exact,
            },
        ];
        batches.extend(
            self.stations
                .iter()
                .map(|station| self.plan_station(station, inside.get(&station.netns).unwrap_or(&nothing))),
        );
        batches.retain(|batch| !batch.lines.is_empty());
        batches
    }

    /// What a machine's own namespace lacks.
    fn plan_station(&self, station: &Station, is: &Namespace) -> Batch {
        let mut lines = Vec::new();
        is.want_up("lo", None, &mut lines);
        is.want_up(MACHINE_INTERFACE, Some(station.address), &mut lines);
        is.want_route("default", self.slot.router(), &mut lines);
        for other in self
            .stations
            .iter()
            .filter(|other| other.address != station.address)
        {
            is.want_pod_route(other, &mut lines);
        }
        Batch {
            netns: Some(station.netns.clone()),
            lines,
            mode: Mode::Exact,
        }
    }
}

/// Makes the namespaces that are missing, and names them.
pub(crate) async fn add_missing(all: &[String]) -> Result<Vec<String>, Error> {
    let missing: Vec<_> = all.iter().filter(|name| !is_netns(name)).cloned().collect();
    for name in &missing {
        // A file without a namespace is what a half-made one leaves.
        let _ = std::fs::remove_file(netns_path(name));
        Command::new("ip").args(["netns", "add", name]).run().await?;
    }
    Ok(missing)
}

/// Lets a namespace route between its interfaces.
pub(crate) async fn forward(netns: &str) -> Result<(), Error> {
    for (path, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
    ] {
        Command::new("nsenter")
            .arg(format!("--net={}", netns_path(netns).display()))
            .args(["tee", &format!("/proc/sys/{path}")])
            .input(value)
            .run()
            .await?;
    }
    Ok(())
}

/// Whether every line must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All must.
    Exact,
    /// What these lines delete may go by itself in this moment.
    Vanishing,
}

impl Namespace {
    /// A port whose other end is gone, or going with a namespace that was deleted.
    pub(crate) fn unwant(&self, port: &str, lines: &mut Vec<String>) {
        if self.interfaces.contains(port) {
            lines.push(format!("link delete {port}"));
        }
    }

    /// A new port is in no bridge, whatever its predecessor of the same name was in.
    pub(crate) fn want_port(&self, port: &str, is_new: bool, bridge: &str, lines: &mut Vec<String>) {
        if is_new || !self.enslaved.contains(port) || !self.up.contains_key(port) {
            lines.push(format!("link set {port} master {bridge} up"));
        }
    }

    pub(crate) fn want_up(&self, interface: &str, address: Option<Ipv4Addr>, lines: &mut Vec<String>) {
        if let Some(address) = address {
            let has = self
                .up
                .get(interface)
                .is_some_and(|all| all.contains(&address.to_string()));
            if !has {
                lines.push(format!("addr replace {address}/24 dev {interface}"));
            }
        }
        if !self.up.contains_key(interface) {
            lines.push(format!("link set {interface} up"));
        }
    }

    pub(crate) fn want_pod_route(&self, station: &Station, lines: &mut Vec<String>) {
        if let Some(pods) = station.pods {
            self.want_route(&pods.to_string(), station.address, lines);
        }
    }

    pub(crate) fn want_route(&self, to: &str, via: Ipv4Addr, lines: &mut Vec<String>) {
        if !self.routes.contains(&(to.to_owned(), via.to_string())) {
            lines.push(format!("route replace {to} via {via}"));
        }
    }
}

impl Batch {
    pub(crate) async fn run(&self) -> Result<(), Error> {
        let mut command = Command::new("ip");
        if let Some(netns) = &self.netns {
            command = command.args(["-n", netns]);
        }
        if self.mode == Mode::Vanishing {
            command = command.arg("-force");
        }
        let done = command
            .args(["-batch", "-"])
            .input(self.lines.join("\n") + "\n")
            .run()
            .await;
        match self.mode {
            Mode::Exact => done.map(drop),
            Mode::Vanishing => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn topology() -> Topology {
        let slot = Slot::try_from(1).unwrap();
        let node = |index: u8| Station {
            netns: format!("x-a-{}", index + 1),
            address: slot.node(index),
            pods: Some(slot.pods_of(index)),
        };
        let front = Station {
            netns: "x-front".into(),
            address: slot.front(),
            pods: None,
        };
        Topology {
            names: Names::new("x"),
            slot,
            stations: vec![front, node(0), node(1)],
        }
    }

    #[test]
    fn everything_from_nothing() {
        let batches = topology().plan(&Namespace::default(), &BTreeMap::new());
        let text: Vec<_> = batches
            .iter()
            .map(|b| {
                format!(
                    "[{}]\n{}",
                    b.netns.as_deref().unwrap_or("host"),
                    b.lines.join("\n")
                )
            })
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn a_new_cable_is_plugged_in_although_the_old_one_was() {
        let topology = topology();
        let port = Names::port("x-a-1");
        let switch = Namespace {
            interfaces: BTreeSet::from([port.clone()]),
            enslaved: BTreeSet::from([port.clone()]),
            up: BTreeMap::from([(port.clone(), BTreeSet::new())]),
            ..Namespace::default()
        };
        let observed = BTreeMap::from([(topology.names.switch(), switch)]);
        let lines: Vec<_> = topology
            .plan(&Namespace::default(), &observed)
            .into_iter()
            .flat_map(|batch| batch.lines)
            .collect();
        let at = |line: String| lines.iter().position(|found| *found == line);
        let (deleted, plugged) = (
            at(format!("link delete {port}")),
            at(format!("link set {port} master x0 up")),
        );
        assert!(deleted.is_some() && deleted < plugged, "{lines:#?}");
    }

    #[test]
    fn only_the_missing_route() {
        let slot = topology().slot;
        let up = |interface: &str, address: Ipv4Addr| {
            (interface.to_owned(), BTreeSet::from([address.to_string()]))
        };
        let is = Namespace {
            up: BTreeMap::from([("lo".to_owned(), BTreeSet::new()), up("eth0", slot.node(0))]),
            interfaces: BTreeSet::from(["lo".to_owned(), "eth0".to_owned()]),
            enslaved: BTreeSet::new(),
            routes: BTreeSet::from([("default".to_owned(), slot.router().to_string())]),
        };
        let topology = topology();
        let batch = topology.plan_station(&topology.stations[1], &is);
        assert_eq!(batch.lines, ["route replace 198.18.49.0/24 via 198.18.32.12"]);
    }
}
