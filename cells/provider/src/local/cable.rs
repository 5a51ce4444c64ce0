//! The cable between two instances: a veth pair between their switches, with a route each way.
//!
//! It has no addresses of its own: each switch answers for its router's address on every interface. It goes with
//! either switch, so nothing has to take it away.

use crate::address::Slot;
use crate::error::Error;
use crate::host::interfaces::{Namespace, observe};
use crate::host::network::{Batch, Mode};
use crate::names::Names;

/// The cable's end in the switch of the instance that joins another.
const UPLINK: &str = "hub";

/// One instance's part in a cable.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub names: Names,
    pub slot: Slot,
}

/// A cable from a hub's instance to a cell's.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    pub hub: End,
    pub cell: End,
}

impl Cable {
    /// Makes what is missing of the cable; says whether anything was.
    pub(crate) async fn ensure(&self) -> Result<bool, Error> {
        let (hub, cell) = (self.hub.names.switch(), self.cell.names.switch());
        let (in_hub, in_cell) = tokio::try_join!(observe(Some(&hub)), observe(Some(&cell)))?;
        let batches = self.plan(&in_hub, &in_cell);
        for batch in &batches {
            batch.run().await?;
        }
        Ok(!batches.is_empty())
    }

    /// The cable's end in the hub's switch.
    fn port(&self) -> String {
        Names::port(&self.cell.names.switch())
    }

    /// What is missing, in the order of making.
    fn plan(&self, in_hub: &Namespace, in_cell: &Namespace) -> Vec<Batch> {
        let (hub, cell) = (self.hub.names.switch(), self.cell.names.switch());
        let port = self.port();
        let mut batches = Vec::new();
        let nothing = Namespace::default();
        let stands = in_hub.interfaces.contains(&port) && in_cell.interfaces.contains(UPLINK);
        if !stands {
            let stale = |netns: &String, is: &Namespace, end: &str| {
                let mut lines = Vec::new();
                is.unwant(end, &mut lines);
                batch(netns, Mode::Vanishing, lines)
            };
            batches.push(stale(&hub, in_hub, &port));
            batches.push(stale(&cell, in_cell, UPLINK));
            let add = format!("link add {port} netns {hub} type veth peer name {UPLINK} netns {cell}");
            batches.push(Batch {
                mode: Mode::Exact,
                netns: None,
                lines: vec![add],
            });
        }
        // A new cable is down, and a route over the old one went with it.
        let seen = |is| if stands { is } else { &nothing };
        let to_cell = way(seen(in_hub), &port, self.cell.slot);
        batches.push(batch(&hub, Mode::Exact, to_cell));
        let to_hub = way(seen(in_cell), UPLINK, self.hub.slot);
        batches.push(batch(&cell, Mode::Exact, to_hub));
        batches.retain(|batch| !batch.lines.is_empty());
        batches
    }
}

fn batch(netns: &str, mode: Mode, lines: Vec<String>) -> Batch {
    Batch {
        mode,
        netns: Some(netns.to_owned()),
        lines,
    }
}

/// What an end lacks on the way to all addresses of the other instance.
fn way(is: &Namespace, interface: &str, to: Slot) -> Vec<String> {
    let mut lines = Vec::new();
    is.want_up(interface, None, &mut lines);
    let (whole, router) = (to.whole().to_string(), to.router().to_string());
    if !is.routes.contains(&(whole.clone(), router.clone())) {
        lines.push(format!(
            "route replace {whole} via {router} dev {interface} onlink"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::command::Command;
    use crate::host::network::{add_missing, forward};

    fn cable(hub: &str, cell: &str) -> Cable {
        let end = |instance: &str, slot: u8| End {
            names: Names::new(instance),
            slot: Slot::try_from(slot).unwrap(),
        };
        Cable {
            hub: end(hub, 0),
            cell: end(cell, 1),
        }
    }

    fn lines(batches: &[Batch]) -> Vec<String> {
        let of = |batch: &Batch| {
            let netns = batch.netns.clone().unwrap_or_else(|| "host".to_owned());
            let line = |line: &String| format!("[{netns}] {line}");
            batch.lines.iter().map(line).collect::<Vec<_>>()
        };
        batches.iter().flat_map(of).collect()
    }

    #[test]
    fn a_cable_from_nothing_has_a_route_each_way() {
        let nothing = Namespace::default();
        let plan = cable("x", "x--y").plan(&nothing, &nothing);
        assert_eq!(
            lines(&plan),
            [
                "[host] link add x--y-switch netns x-switch type veth peer name hub netns x--y-switch",
                "[x-switch] link set x--y-switch up",
                "[x-switch] route replace 198.18.32.0/19 via 198.18.32.254 dev x--y-switch onlink",
                "[x--y-switch] link set hub up",
                "[x--y-switch] route replace 198.18.0.0/19 via 198.18.0.254 dev hub onlink",
            ]
        );
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let cable = cable("x", "x--y");
        let has = |end: &str, to: &str, via: &str| Namespace {
            up: BTreeMap::from([(end.to_owned(), BTreeSet::new())]),
            interfaces: BTreeSet::from([end.to_owned()]),
            enslaved: BTreeSet::new(),
            routes: BTreeSet::from([(to.to_owned(), via.to_owned())]),
        };
        let hub = has("x--y-switch", "198.18.32.0/19", "198.18.32.254");
        let mut cell = has(UPLINK, "198.18.0.0/19", "198.18.0.254");
        assert_eq!(cable.plan(&hub, &cell), []);
        cell.routes.clear();
        let to_hub = "[x--y-switch] route replace 198.18.0.0/19 via 198.18.0.254 dev hub onlink";
        assert_eq!(lines(&cable.plan(&hub, &cell)), [to_hub]);
        // The cell's switch was made anew: the old end in the hub's switch is of no use.
        let plan = lines(&cable.plan(&hub, &Namespace::default()));
        assert_eq!(plan[0], "[x-switch] link delete x--y-switch");
        assert_eq!(plan.len(), 6);
    }

    /// Makes network namespaces of its own, for which it needs root.
    #[tokio::test]
    async fn one_switch_reaches_the_other_over_the_cable() {
        let cable = cable("cbl", "cbl--y");
        let switches = [cable.hub.names.switch(), cable.cell.names.switch()];
        let ends = [(&switches[0], cable.hub.slot), (&switches[1], cable.cell.slot)];
        add_missing(&switches).await.unwrap();
        for (switch, slot) in ends {
            forward(switch).await.unwrap();
            let lines = vec![
                "link set lo up".to_owned(),
                format!("addr add {}/32 dev lo", slot.router()),
                format!("addr add {}/32 dev lo", slot.front()),
            ];
            batch(switch, Mode::Exact, lines).run().await.unwrap();
        }
        let first = cable.ensure().await;
        let again = cable.ensure().await;
        let there = ping(&switches[0], cable.hub.slot, cable.cell.slot).await;
        let back = ping(&switches[1], cable.cell.slot, cable.hub.slot).await;
        for switch in &switches {
            let delete = Command::new("ip").args(["netns", "delete", switch.as_str()]);
            delete.run().await.unwrap();
        }
        assert!(first.unwrap(), "the cable was there already");
        assert!(!again.unwrap(), "a second run changed something");
        assert!(there && back, "there {there}, back {back}");
    }

    /// Whether one instance's front address reaches the other's, by TCP: a port nobody listens on is refused at once.
    async fn ping(netns: &str, from: Slot, to: Slot) -> bool {
        let script = format!(
            "import socket; s = socket.socket(); s.settimeout(3); s.bind(('{}', 0)); exit(s.connect_ex(('{}', 9)) != 111)",
            from.front(),
            to.front()
        );
        Command::new("nsenter")
            .arg(format!("--net={}", crate::names::netns_path(netns).display()))
            .args(["python3", "-c", script.as_str()])
            .run()
            .await
            .is_ok()
    }
}
