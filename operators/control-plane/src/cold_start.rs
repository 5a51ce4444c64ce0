//! Whose apiserver may start now.
//!
//! A cold apiserver takes seconds of CPU. Many at once starve one another, their probes, and the cell's own API:
//! all would be ready late and some would be restarted. So a cell starts about one for each core that its nodes
//! offer, the oldest request first, and first apiservers before further replicas. The first part of a start, the
//! datastore, mostly waits for others and is not held back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures::Stream;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::runtime::reflector::{ObjectRef, Store};
use skep_api::ControlPlane;
use skep_core::Cpid;
use tokio::sync::mpsc;

use crate::validate::quantity;

/// After so long a start holds nobody else up: it has failed, or the machine is too slow to tell.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// One control plane's place in the line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Whether it serves already and waits for a further replica.
    pub is_further: bool,
    /// When it was asked for.
    pub created: Timestamp,
    /// Which it is.
    pub cpid: Cpid,
}

/// What a control plane has to do with cold starts at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An apiserver of it is starting.
    Starting,
    /// It wants to start one.
    Wanting,
    /// Neither.
    Nothing,
}

/// Whether it may start one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Now,
    /// Not yet.
    Later {
        /// How many start now.
        starting: usize,
        /// How many wait before it.
        ahead: usize,
    },
}

impl Turn {
    /// For people.
    pub fn message(self) -> Option<String> {
        match self {
            Self::Now => None,
            Self::Later { starting, ahead } => Some(format!(
                "waiting for its turn: {starting} other control planes of this cell are starting and {ahead} are before it"
            )),
        }
    }
}

/// Who starts and who waits.
#[derive(Debug, Default)]
struct Line {
    starting: BTreeMap<Cpid, Timestamp>,
    waiting: BTreeSet<Ticket>,
}

impl Line {
    /// Notes what `ticket`'s control plane needs, and says whether it may start and whom else to tell to try.
    fn step(&mut self, ticket: &Ticket, need: Need, slots: usize, now: Timestamp) -> (Turn, Vec<Cpid>) {
        self.waiting.retain(|waiting| waiting.cpid != ticket.cpid);
        if need == Need::Starting {
            self.starting.entry(ticket.cpid.clone()).or_insert(now);
            return (Turn::Now, Vec::new());
        }
        self.starting.remove(&ticket.cpid);
        let starting = self
            .starting
            .values()
            .filter(|since| now.duration_since(**since) < PATIENCE)
            .count();
        let free = slots.saturating_sub(starting);
        if need == Need::Nothing {
            return (Turn::Now, self.next(free));
        }
        let ahead = self.waiting.range(..ticket).count();
        if ahead < free {
            self.starting.insert(ticket.cpid.clone(), now);
            return (Turn::Now, self.next(free - 1));
        }
        self.waiting.insert(ticket.clone());
        (Turn::Later { starting, ahead }, self.next(free))
    }

    fn next(&self, free: usize) -> Vec<Cpid> {
        self.waiting
            .iter()
            .take(free)
            .map(|ticket| ticket.cpid.clone())
            .collect()
    }
}

/// The cold starts of one cell.
pub struct ColdStarts {
    line: Mutex<Line>,
    nodes: Store<Node>,
    wake: mpsc::UnboundedSender<ObjectRef<ControlPlane>>,
}

impl ColdStarts {
    /// Cold starts on these nodes, and the control planes whose turn has come.
    pub fn new(nodes: Store<Node>) -> (Self, impl Stream<Item = ObjectRef<ControlPlane>> + Send + 'static) {
        let (wake, turns) = mpsc::unbounded_channel();
        let turns = futures::stream::unfold(turns, |mut turns| async { Some((turns.recv().await?, turns)) });
        (
            Self {
                line: Mutex::default(),
                nodes,
                wake,
            },
            turns,
        )
    }

    /// Notes what a control plane needs, and says whether it may start an apiserver.
    pub fn step(&self, ticket: &Ticket, need: Need, now: Timestamp) -> Turn {
        let slots = slots(self.nodes.state().iter().map(AsRef::as_ref));
        let (turn, next) = self
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .step(ticket, need, slots, now);
        for cpid in next {
            // Nobody listens any more only when the controller ends.
            let _ = self.wake.send(ObjectRef::new(cpid.as_str()));
        }
        turn
    }
}

/// Drops of a node what is not read here.
pub fn prune(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        let allocatable = status.allocatable.take();
        *status = NodeStatus {
            allocatable,
            ..NodeStatus::default()
        };
    }
}

/// One start for each core that the nodes offer, and at least one.
fn slots<'a>(nodes: impl Iterator<Item = &'a Node>) -> usize {
    let cores = nodes.filter_map(cores_of).sum::<f64>();
    // Within any machine's number of cores.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = cores.round() as usize;
    whole.max(1)
}

fn cores_of(node: &Node) -> Option<f64> {
    let amount = node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?;
    quantity(&amount.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn ticket(number: u8) -> Ticket {
        let created = START + SignedDuration::from_secs(i64::from(number));
        Ticket {
            is_further: false,
            created,
            cpid: Cpid::derive(&number.to_string()),
        }
    }

    #[test]
    fn the_oldest_request_is_first_and_the_next_is_told() {
        let (mut line, first, second, third) = (Line::default(), ticket(1), ticket(2), ticket(3));
        assert_eq!(line.step(&second, Need::Wanting, 1, START).0, Turn::Now);
        assert_eq!(
            line.step(&third, Need::Wanting, 1, START).0,
            Turn::Later {
                starting: 1,
                ahead: 0
            }
        );
        assert_eq!(
            line.step(&first, Need::Wanting, 1, START).0,
            Turn::Later {
                starting: 1,
                ahead: 0
            }
        );
        assert_eq!(
            line.step(&third, Need::Wanting, 1, START).0,
            Turn::Later {
                starting: 1,
                ahead: 1
            }
        );
        assert_eq!(line.step(&second, Need::Starting, 1, START), (Turn::Now, vec![]));
        assert_eq!(
            line.step(&second, Need::Nothing, 1, START),
            (Turn::Now, vec![first.cpid.clone()])
        );
        assert_eq!(
            line.step(&third, Need::Wanting, 1, START).0,
            Turn::Later {
                starting: 0,
                ahead: 1
            }
        );
        assert_eq!(line.step(&first, Need::Wanting, 1, START).0, Turn::Now);
    }

    #[test]
    fn first_apiservers_come_before_further_replicas() {
        let (mut line, old, young) = (
            Line::default(),
            Ticket {
                is_further: true,
                ..ticket(1)
            },
            ticket(2),
        );
        assert_eq!(line.step(&ticket(9), Need::Starting, 1, START).0, Turn::Now);
        line.step(&old, Need::Wanting, 1, START);
        line.step(&young, Need::Wanting, 1, START);
        assert_eq!(line.step(&ticket(9), Need::Nothing, 1, START).1, vec![young.cpid]);
    }

    #[test]
    fn a_start_that_never_ends_holds_nobody_up_for_ever() {
        let (mut line, stuck, next) = (Line::default(), ticket(1), ticket(2));
        line.step(&stuck, Need::Starting, 1, START);
        assert_ne!(
            line.step(&next, Need::Wanting, 1, START + SignedDuration::from_secs(119))
                .0,
            Turn::Now
        );
        line.step(&stuck, Need::Starting, 1, START + SignedDuration::from_secs(120));
        assert_eq!(
            line.step(&next, Need::Wanting, 1, START + SignedDuration::from_secs(120))
                .0,
            Turn::Now
        );
    }

    #[test]
    fn one_start_for_each_core_and_at_least_one() {
        let node = |cpu: &str| -> Node {
            serde_json::from_value(serde_json::json!({"status": {"allocatable": {"cpu": cpu}}})).unwrap()
        };
        assert_eq!(slots([].iter()), 1);
        assert_eq!(slots([node("666m"), node("666m"), node("666m")].iter()), 2);
        assert_eq!(slots([node("16"), node("15890m")].iter()), 32);
    }
}
