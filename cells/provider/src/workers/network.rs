//! A tenant's network: a bridge of its own in a router namespace, which leads to the front and to nothing else.
//!
//! The cell knows no address behind it (the router speaks for all), so tenants may use the same ranges.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use skep_core::network::{GATEWAY_PORT, TUNNEL_PORT};

use super::state::TenantState;
use crate::address::{self, Slot};
use crate::command::Command;
use crate::error::Error;
use crate::host::interfaces::{Namespace, observe};
use crate::host::network::{Batch, MACHINE_INTERFACE, Mode, Station, add_missing, forward};
use crate::interface::BRIDGE;
use crate::names::{Names, netns_path};

/// The router's end of the cable to the cell.
const UPLINK: &str = "cell";

/// What a tenant's network is to be.
#[derive(Clone, Debug)]
pub(crate) struct TenantTopology<'a> {
    pub names: &'a Names,
    pub slot: Slot,
    pub tenant: &'a TenantState,
}

impl TenantTopology<'_> {
    /// Brings the network to this shape; says whether anything was missing.
    pub(crate) async fn ensure(&self) -> Result<bool, Error> {
        let (router, switch) = (self.router(), self.names.switch());
        let stations = self.stations();
        let own: Vec<_> = std::iter::once(router.clone())
            .chain(stations.iter().map(|station| station.netns.clone()))
            .collect();
        let missing = add_missing(&own).await?;
        if missing.contains(&router) {
            forward(&router).await?;
            self.set_rules().await?;
        }
        let all: Vec<_> = own.into_iter().chain([switch]).collect();
        let inside = try_join_all(all.iter().map(|name| observe(Some(name)))).await?;
        let observed: BTreeMap<_, _> = all.into_iter().zip(inside).collect();
        let batches = self.plan(&stations, &observed);
        for batch in &batches {
            batch.run().await?;
        }
        Ok(!missing.is_empty() || !batches.is_empty())
    }

    fn router(&self) -> String {
        self.names.router(&self.tenant.cpid)
    }

    fn stations(&self) -> Vec<Station> {
        let station = |worker: &super::Worker| Station {
            netns: self.names.worker(&self.tenant.cpid, worker.index),
            address: address::worker(worker.index),
            pods: worker.pods,
        };
        self.tenant.workers.iter().map(station).collect()
    }

    /// Out to the front alone, as the router; in, only answers.
    async fn set_rules(&self) -> Result<(), Error> {
        let front = self.slot.front();
        let rules = format!(
            "table ip skep {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname \"{BRIDGE}\" oifname \"{BRIDGE}\" accept
    iifname \"{BRIDGE}\" oifname \"{UPLINK}\" ip daddr {front} tcp dport {{ {GATEWAY_PORT}, {TUNNEL_PORT} }} accept
    reject
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname \"{UPLINK}\" masquerade
  }}
}}
"
        );
        Command::new("nsenter")
            .arg(format!("--net={}", netns_path(&self.router()).display()))
            .args(["nft", "-f", "-"])
            .input(rules)
            .run()
            .await
            .map(drop)
    }

    /// What is missing, in the order of making.
    fn plan(&self, stations: &[Station], observed: &BTreeMap<String, Namespace>) -> Vec<Batch> {
        let nothing = Namespace::default();
        let of = |name: &str| observed.get(name).unwrap_or(&nothing);
        let (router_name, switch_name) = (self.router(), self.names.switch());
        let (router, switch) = (of(&router_name), of(&switch_name));
        let cell_port = Names::port(&router_name);
        let (mut stale, mut cell_stale, mut cables, mut cell, mut ports) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let is_new = !router.interfaces.contains(UPLINK);
        if is_new {
            switch.unwant(&cell_port, &mut cell_stale);
            let peer = format!("peer name {UPLINK} netns {router_name}");
            cables.push(format!(
                "link add {cell_port} netns {switch_name} type veth {peer}"
            ));
        }
        switch.want_port(&cell_port, is_new, &self.names.bridge(), &mut cell);
        if !router.interfaces.contains(BRIDGE) {
            ports.push(format!("link add {BRIDGE} type bridge"));
        }
        for station in stations {
            let port = Names::port(&station.netns);
            let is_new = !of(&station.netns).interfaces.contains(MACHINE_INTERFACE);
            if is_new {
                router.unwant(&port, &mut stale);
                let peer = format!("peer name {MACHINE_INTERFACE} netns {}", station.netns);
                cables.push(format!("link add {port} netns {router_name} type veth {peer}"));
            }
            router.want_port(&port, is_new, BRIDGE, &mut ports);
        }
        router.want_up("lo", None, &mut ports);
        router.want_up(BRIDGE, Some(address::workers_router()), &mut ports);
        router.want_up(UPLINK, Some(self.slot.link(self.tenant.link)), &mut ports);
        for station in stations {
            router.want_pod_route(station, &mut ports);
        }
        let batch = |netns: Option<&str>, lines, mode| Batch {
            netns: netns.map(str::to_owned),
            lines,
            mode,
        };
        let mut batches = vec![
            batch(Some(&router_name), stale, Mode::Vanishing),
            batch(Some(&switch_name), cell_stale, Mode::Vanishing),
            batch(None, cables, Mode::Exact),
            batch(Some(&switch_name), cell, Mode::Exact),
            batch(Some(&router_name), ports, Mode::Exact),
        ];
        batches.extend(
            stations
                .iter()
                .map(|station| plan_worker(station, stations, of(&station.netns))),
        );
        batches.retain(|batch| !batch.lines.is_empty());
        batches
    }
}

/// What a worker's own namespace lacks.
fn plan_worker(station: &Station, all: &[Station], is: &Namespace) -> Batch {
    let mut lines = Vec::new();
    is.want_up("lo", None, &mut lines);
    is.want_up(MACHINE_INTERFACE, Some(station.address), &mut lines);
    is.want_route("default", address::workers_router(), &mut lines);
    for other in all.iter().filter(|other| other.address != station.address) {
        is.want_pod_route(other, &mut lines);
    }
    Batch {
        netns: Some(station.netns.clone()),
        lines,
        mode: Mode::Exact,
    }
}
