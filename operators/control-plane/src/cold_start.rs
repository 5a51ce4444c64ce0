//! Who may start its programs now.
//!
//! A cold apiserver takes seconds of CPU, and a controller manager with its scheduler hardly less. Many at once starve
//! one another, their probes, and the cell's own API: all would be ready late and some would be restarted. So a cell
//! starts about one for each core that its nodes offer, the oldest request first; controllers and further apiservers
//! give way for a while to apiservers that somebody waits for. The first part of a start, the datastore, mostly waits
//! for others and is not held back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures::Stream;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::runtime::reflector::{ObjectRef, Store};
use skep_api::ControlPlane;
use skep_core::Cpid;
use tokio::sync::mpsc;

/// After so long a start holds nobody else up: it has failed, or the machine is too slow to tell.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// What a control plane starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The apiserver without which it cannot be used.
    FirstApiServer,
    /// Controller manager and scheduler.
    Controllers,
    /// Apiservers beside one that answers.
    FurtherApiServers,
}

impl Part {
    /// How much younger a request may be and still come first, so that nobody gives way for ever.
    fn courtesy(self) -> SignedDuration {
        match self {
            Self::FirstApiServer => SignedDuration::ZERO,
            Self::Controllers => SignedDuration::from_mins(1),
            Self::FurtherApiServers => SignedDuration::from_mins(2),
        }
    }
}

/// Whose start it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The control plane.
    pub cpid: Cpid,
    /// When it was asked for.
    pub created: Timestamp,
}

/// What a control plane has to do with cold starts at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A part of it is starting.
    Starting,
    /// It wants to start one.
    Wanting(Part),
    /// Neither.
    Nothing,
}

/// Whether it may.
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

/// Who starts, since when, and who waits, by when each is due.
#[derive(Debug, Default)]
struct Line {
    starting: BTreeMap<Cpid, Timestamp>,
    waiting: BTreeSet<(Timestamp, Cpid)>,
}

impl Line {
    /// Notes what a control plane needs, and says whether it may start and whom else to tell to try.
    fn step(&mut self, request: &Request, need: Need, slots: usize, now: Timestamp) -> (Turn, Vec<Cpid>) {
        let Request { cpid, created } = request;
        self.waiting.retain(|(_, waiting)| waiting != cpid);
        if need == Need::Starting {
            self.starting.entry(cpid.clone()).or_insert(now);
            return (Turn::Now, Vec::new());
        }
        self.starting.remove(cpid);
        let starting = self
            .starting
            .values()
            .filter(|since| now.duration_since(**since) < PATIENCE)
            .count();
        let free = slots.saturating_sub(starting);
        let Need::Wanting(part) = need else {
            return (Turn::Now, self.next(free));
        };
        let place = (*created + part.courtesy(), cpid.clone());
        let ahead = self.waiting.range(..&place).count();
        if ahead < free {
            self.starting.insert(cpid.clone(), now);
            return (Turn::Now, self.next(free - 1));
        }
        self.waiting.insert(place);
        (Turn::Later { starting, ahead }, self.next(free))
    }

    fn next(&self, free: usize) -> Vec<Cpid> {
        self.waiting
            .iter()
            .take(free)
            .map(|(_, cpid)| cpid.clone())
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

    /// Notes what a control plane needs, and says whether it may start that.
    pub fn step(&self, request: &Request, need: Need, now: Timestamp) -> Turn {
        let slots = slots(self.nodes.state().iter().map(AsRef::as_ref));
        let (turn, next) = self
            .line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .step(request, need, slots, now);
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
    skep_core::quantity::amount(&amount.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    const WANTING: Need = Need::Wanting(Part::FirstApiServer);

    fn request(number: u8) -> Request {
        Request {
            cpid: Cpid::derive(&number.to_string()),
            created: START + SignedDuration::from_secs(i64::from(number)),
        }
    }

    #[test]
    fn the_oldest_request_is_first_and_the_next_is_told() {
        let (mut line, first, second, third) = (Line::default(), request(1), request(2), request(3));
        let later = |ahead| Turn::Later { starting: 1, ahead };
        assert_eq!(line.step(&second, WANTING, 1, START).0, Turn::Now);
        assert_eq!(line.step(&third, WANTING, 1, START).0, later(0));
        assert_eq!(line.step(&first, WANTING, 1, START).0, later(0));
        assert_eq!(line.step(&third, WANTING, 1, START).0, later(1));
        assert_eq!(line.step(&second, Need::Starting, 1, START), (Turn::Now, vec![]));
        assert_eq!(
            line.step(&second, Need::Nothing, 1, START),
            (Turn::Now, vec![first.cpid.clone()])
        );
        assert_eq!(
            line.step(&third, WANTING, 1, START).0,
            Turn::Later {
                starting: 0,
                ahead: 1
            }
        );
        assert_eq!(line.step(&first, WANTING, 1, START).0, Turn::Now);
    }

    #[test]
    fn controllers_and_further_replicas_give_way_to_first_apiservers_for_a_while() {
        let first_of = |waiting: &[(u8, Part)]| {
            let mut line = Line::default();
            line.step(&request(0), Need::Starting, 1, START);
            for (number, part) in waiting {
                line.step(&request(*number), Need::Wanting(*part), 1, START);
            }
            line.step(&request(0), Need::Nothing, 1, START).1
        };
        let (further, controllers) = ((1, Part::FurtherApiServers), (2, Part::Controllers));
        let is_first = |number| vec![request(number).cpid];
        assert_eq!(first_of(&[further, controllers]), is_first(2));
        assert_eq!(
            first_of(&[further, controllers, (30, Part::FirstApiServer)]),
            is_first(30)
        );
        assert_eq!(
            first_of(&[further, controllers, (63, Part::FirstApiServer)]),
            is_first(2)
        );
    }

    #[test]
    fn a_start_that_never_ends_holds_nobody_up_for_ever() {
        let (mut line, stuck, next) = (Line::default(), request(1), request(2));
        line.step(&stuck, Need::Starting, 1, START);
        assert_ne!(
            line.step(&next, WANTING, 1, START + SignedDuration::from_secs(119))
                .0,
            Turn::Now
        );
        line.step(&stuck, Need::Starting, 1, START + SignedDuration::from_secs(120));
        assert_eq!(
            line.step(&next, WANTING, 1, START + SignedDuration::from_secs(120))
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
