//! A small world in which decisions are carried out, faults happen between any two of them, and the rules
//! that must never be broken are checked at every step.

mod kubelet;
mod trust;
mod view;
mod world;

use proptest::prelude::*;
use skep_api::etcd_cluster::VolumePolicy;

use super::{Action, decide};
use crate::observed::{Observed, Start};
use world::{RELEASES, World, release, revision};

/// What happens beside the operator.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes: pods start, learners catch up, deletions end.
    Pass,
    /// The operator takes a step.
    Step,
    /// The operator takes a step on what it saw one step earlier, as after a lost lease.
    StaleStep,
    /// Etcd takes the change but its answer is lost, or never gets it.
    LoseAnswer(bool),
    /// A pod vanishes.
    LosePod(usize),
    /// A pod is evicted and stays as a finished one.
    EvictPod(usize),
    /// A pod and its volume vanish.
    LoseVolume(usize),
    /// The disk under a running pod is emptied and its container starts again.
    WipeDisk(usize),
    /// A container crashes again and again.
    Crash(usize),
    /// A container crashes whenever it is started, until its pod is made anew of another spec.
    Sicken(usize),
    /// The spec asks for another number of members.
    Resize(usize),
    /// The leader changes.
    Elect(usize),
    /// The spec asks for another release.
    Release(usize),
    /// The database is full.
    Fill,
    /// The authorities are to be replaced.
    Rotate,
    /// No member may be on the node of a pod any more, or on any again.
    Avoid(usize),
}

impl World {
    fn apply(&mut self, event: &Event, seen: &mut Option<Observed>) {
        match event {
            Event::Pass => self.pass(),
            Event::Step => {
                let now = self.observe();
                self.record();
                self.carry_out(&decide(&now), &now, false);
                *seen = Some(now);
            }
            Event::StaleStep => {
                if let Some(old) = seen.clone() {
                    self.carry_out(&decide(&old), &old, true);
                }
            }
            Event::LoseAnswer(has_effect) => {
                // As with a process that starts anew, what was remembered is lost too.
                self.freed = None;
                let now = self.observe();
                let action = decide(&now);
                if *has_effect {
                    self.carry_out(&action, &now, false);
                }
            }
            Event::LosePod(_)
            | Event::EvictPod(_)
            | Event::LoseVolume(_)
            | Event::WipeDisk(_)
            | Event::Crash(_)
            | Event::Sicken(_) => self.strike(event),
            Event::Resize(members) => self.desired = *members,
            Event::Fill => {
                if self.has_quorum() {
                    (self.is_full, self.has_history) = (true, true);
                    self.revision += 1;
                }
            }
            Event::Avoid(index) => {
                if let Some(pod) = self.nth_pod(*index) {
                    self.avoid_node_of(&pod);
                }
            }
            Event::Rotate => self.authorities.is_due = true,
            Event::Release(index) => self.wanted = release(*index),
            Event::Elect(index) => {
                let able: Vec<u64> = self
                    .voters()
                    .iter()
                    .filter(|member| self.is_running(member))
                    .map(|member| member.id)
                    .collect();
                if self.has_quorum() && !able.is_empty() {
                    self.leader = Some(able[index % able.len()]);
                }
            }
        }
        self.elect();
        let learners = self.members.iter().filter(|member| member.is_learner).count();
        assert!(learners <= 1, "two learners at once");
    }

    /// A pod or its data are struck.
    fn strike(&mut self, event: &Event) {
        match event {
            Event::LosePod(index) => {
                if let Some(pod) = self.nth_pod(*index) {
                    self.pods.remove(&pod);
                    self.running.remove(&pod);
                }
            }
            Event::EvictPod(index) => {
                if let Some(pod) = self.nth_pod(*index) {
                    self.running.remove(&pod);
                    if let Some(state) = self.pods.get_mut(&pod) {
                        state.is_finished = true;
                    }
                }
            }
            Event::LoseVolume(index) => {
                if let Some(pod) = self.nth_pod(*index).filter(|pod| self.may_lose_data_of(pod)) {
                    self.pods.remove(&pod);
                    self.running.remove(&pod);
                    self.claims.remove(&pod);
                    self.disks.remove(&pod);
                    self.has_lost_data = true;
                }
            }
            Event::WipeDisk(index) => {
                if let Some(pod) = self.nth_pod(*index).filter(|pod| self.may_lose_data_of(pod)) {
                    // A learner that has not been sealed may still join: it has never voted.
                    let is_unsealed = self
                        .pods
                        .get(&pod)
                        .is_some_and(|state| state.start != Some(Start::Rejoin));
                    if is_unsealed {
                        return;
                    }
                    self.running.remove(&pod);
                    self.disks.entry(pod).and_modify(|disk| disk.member = None);
                    self.has_lost_data = true;
                }
            }
            Event::Crash(index) => {
                if let Some(pod) = self.nth_pod(*index) {
                    self.running.remove(&pod);
                    if let Some(state) = self.pods.get_mut(&pod) {
                        state.restarts += 1;
                    }
                }
            }
            Event::Sicken(index) => {
                // One at a time: no operator can mend the loss of a quorum.
                if let Some(pod) = self.nth_pod(*index).filter(|_| self.sick.is_none()) {
                    self.running.remove(&pod);
                    if let Some(state) = self.pods.get_mut(&pod) {
                        state.restarts += 1;
                        state.is_out_of_memory = true;
                        self.sick = Some((pod, state.revision.clone()));
                    }
                }
            }
            _ => {}
        }
    }

    fn is_sick(&self, pod: &str) -> bool {
        let made = self
            .pods
            .get(pod)
            .map(|state| (pod.to_owned(), state.revision.clone()));
        made.is_some() && made == self.sick
    }

    /// A pod that fails though it is what the spec asks for, or waits for all to be healthy, is a person's to mend.
    pub fn recover_what_no_spec_can_mend(&mut self) {
        let last = revision(&self.wanted, self.authorities.revision());
        let is_followed = self.current().version.line() == self.wanted.version.line();
        self.sick = self
            .sick
            .take()
            .filter(|(_, made)| is_followed && made.as_ref() != Some(&last));
    }

    /// Runs without faults until nothing is left to do.
    fn settle(&mut self) -> Result<(), String> {
        let mut last = None;
        for _ in 0..1200 {
            let now = self.observe();
            let action = decide(&now);
            self.record();
            self.carry_out(&action, &now, false);
            if action == Action::Done {
                return Ok(());
            }
            if matches!(action, Action::Wait { .. } | Action::Promote { .. }) {
                self.pass();
            }
            last = Some(action);
        }
        Err(format!("still {last:?}"))
    }
}

/// What is seen of three members at rest.
pub fn three() -> Observed {
    at_rest(3)
}

/// What is seen of five members at rest.
pub fn five() -> Observed {
    at_rest(5)
}

fn at_rest(members: usize) -> Observed {
    let mut world = World::new(members, VolumePolicy::Delete);
    world.settle().unwrap();
    world.observe()
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Step),
        6 => Just(Event::Pass),
        2 => Just(Event::StaleStep),
        2 => any::<bool>().prop_map(Event::LoseAnswer),
        1 => (0..5usize).prop_map(Event::LosePod),
        1 => (0..5usize).prop_map(Event::EvictPod),
        1 => (0..5usize).prop_map(Event::LoseVolume),
        1 => (0..5usize).prop_map(Event::WipeDisk),
        1 => (0..5usize).prop_map(Event::Crash),
        1 => (0..5usize).prop_map(Event::Sicken),
        1 => prop_oneof![Just(1usize), Just(3), Just(5)].prop_map(Event::Resize),
        1 => (0..5usize).prop_map(Event::Elect),
        1 => (0..RELEASES.len()).prop_map(Event::Release),
        1 => Just(Event::Fill),
        1 => Just(Event::Rotate),
        1 => (0..5usize).prop_map(Event::Avoid),
    ]
}

fn policy() -> impl Strategy<Value = VolumePolicy> {
    prop_oneof![Just(VolumePolicy::Retain), Just(VolumePolicy::Delete)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_rule_is_broken_and_it_comes_to_rest(
        desired in prop_oneof![Just(1usize), Just(3), Just(5)],
        policy in policy(),
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(desired, policy);
        let mut seen = None;
        for event in &events {
            world.apply(event, &mut seen);
        }
        // Whatever was asked for on the way, this can follow it.
        world.wanted = release(2);
        world.recover_what_no_spec_can_mend();
        let settled = world.settle();
        prop_assert!(settled.is_ok(), "{} {world:#?}", settled.unwrap_err());
        prop_assert_eq!(world.voters().len(), world.desired);
        prop_assert!(world.members.iter().all(|member| !member.is_learner && world.is_running(member)));
        prop_assert_eq!(world.pods.len(), world.desired, "pods that are no members are left");
        prop_assert!(world.pods.keys().all(|pod| world.release_of(pod) == release(2)), "a pod of another release is left");
        prop_assert!(!world.is_full && world.holes.iter().all(|pod| !world.pods.contains_key(pod)), "no room again");
        prop_assert_eq!(world.authorities.observe().pending, None, "authorities are still being replaced");
        let is_any_left = world.pods.keys().any(|pod| world.observe().is_leaving(pod));
        prop_assert!(!is_any_left, "a member is left on a node that it had to leave");
        prop_assert_eq!(world.intent, None);
        if policy == VolumePolicy::Delete && !world.has_lost_data {
            prop_assert_eq!(world.claims.len(), world.desired, "volumes that are no members' are left");
        }
    }

    #[test]
    fn nothing_is_done_at_rest(desired in prop_oneof![Just(1usize), Just(3), Just(5)]) {
        let mut world = World::new(desired, VolumePolicy::Delete);
        world.settle().unwrap();
        let before = format!("{world:?}");
        for _ in 0..20 {
            prop_assert_eq!(decide(&world.observe()), Action::Done);
        }
        prop_assert_eq!(before, format!("{world:?}"));
    }
}
