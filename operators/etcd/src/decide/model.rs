//! A small world in which decisions are carried out, faults happen between any two of them, and the rules
//! that must never be broken are checked at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use skep_api::etcd_cluster::{EtcdMember, MemberIntent, MemberRole, VolumePolicy};

use super::{Action, decide};
use crate::observed::{ClaimState, Member, MemberStatus, Membership, Observed, PodState, Start, quorum};

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
    /// The spec asks for another number of members.
    Resize(usize),
    /// The leader changes.
    Elect(usize),
}

/// The data on one volume.
#[derive(Debug, Clone, Default, PartialEq)]
struct Disk {
    /// The member id whose log is on it; none while it is empty.
    member: Option<u64>,
}

#[derive(Debug, Clone)]
struct EtcdMemberModel {
    id: u64,
    pod: String,
    is_learner: bool,
    is_started: bool,
}

/// Kubernetes, etcd and the status.
#[derive(Debug, Clone)]
struct World {
    desired: usize,
    policy: VolumePolicy,
    bootstrapped: bool,
    intent: Option<MemberIntent>,
    recorded: Vec<EtcdMember>,
    pods: BTreeMap<String, PodState>,
    claims: BTreeMap<String, ClaimState>,
    disks: BTreeMap<String, Disk>,
    members: Vec<EtcdMemberModel>,
    leader: Option<u64>,
    /// Pods whose etcd runs with data of a member.
    running: BTreeSet<String>,
    next: u64,
    clusters_formed: usize,
    has_lost_data: bool,
    healthy_steps: u64,
}

impl World {
    fn new(desired: usize, policy: VolumePolicy) -> Self {
        Self {
            desired,
            policy,
            bootstrapped: false,
            intent: None,
            recorded: Vec::new(),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            disks: BTreeMap::new(),
            members: Vec::new(),
            leader: None,
            running: BTreeSet::new(),
            next: 1,
            clusters_formed: 0,
            has_lost_data: false,
            healthy_steps: 0,
        }
    }

    fn serial(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn voters(&self) -> Vec<&EtcdMemberModel> {
        self.members.iter().filter(|member| !member.is_learner).collect()
    }

    fn is_running(&self, member: &EtcdMemberModel) -> bool {
        self.running.contains(&member.pod)
    }

    fn has_quorum(&self) -> bool {
        let voters = self.voters();
        let alive = voters.iter().filter(|member| self.is_running(member)).count();
        !voters.is_empty() && alive >= quorum(voters.len())
    }

    fn elect(&mut self) {
        let is_led = self
            .members
            .iter()
            .any(|member| Some(member.id) == self.leader && self.is_running(member));
        if !self.has_quorum() {
            self.leader = None;
        } else if !is_led {
            let next = self
                .voters()
                .into_iter()
                .find(|member| self.is_running(member))
                .map(|member| member.id);
            self.leader = next;
        }
    }

    fn observe(&self) -> Observed {
        let membership = self.has_quorum().then(|| Membership {
            cluster_id: 1,
            leader: self.leader,
            is_corrupt: false,
            members: self
                .members
                .iter()
                .map(|member| Member {
                    id: member.id,
                    pod: Some(member.pod.clone()),
                    peer_url: format!("https://{}.p:2380", member.pod),
                    is_started: member.is_started,
                    is_learner: member.is_learner,
                    status: self.is_running(member).then(|| MemberStatus {
                        id: member.id,
                        leader: self.leader,
                        ..MemberStatus::default()
                    }),
                })
                .collect(),
        });
        Observed {
            desired: self.desired,
            volume_policy: self.policy,
            bootstrapped: self.bootstrapped,
            intent: self.intent.clone(),
            recorded: self.recorded.clone(),
            pods: self.pods.clone(),
            claims: self.claims.clone(),
            membership,
            healthy_for: Duration::from_secs(self.healthy_steps * 3),
            fresh: format!("m-{}", self.next),
        }
    }

    /// The status is written with every look, as the driver does.
    fn record(&mut self) {
        if self.has_quorum() {
            self.recorded = self
                .members
                .iter()
                .map(|member| EtcdMember {
                    pod: member.pod.clone(),
                    id: Some(format!("{:x}", member.id)),
                    role: if member.is_learner {
                        MemberRole::Learner
                    } else {
                        MemberRole::Voter
                    },
                    ..EtcdMember::default()
                })
                .collect();
        }
    }

    /// Carries out an action that was decided on `seen`; checks what must never be.
    fn carry_out(&mut self, action: &Action, seen: &Observed, is_stale: bool) {
        match action {
            Action::Latch(_) | Action::ClearIntent | Action::RecordBootstrap => {
                // Written over the version that was read.
                if is_stale && (self.intent != seen.intent || self.bootstrapped != seen.bootstrapped) {
                    return;
                }
                match action {
                    Action::Latch(intent) => self.intent = Some(intent.clone()),
                    Action::ClearIntent => self.intent = None,
                    _ => {
                        self.bootstrapped = true;
                        self.intent = None;
                    }
                }
                self.record();
            }
            Action::StartMember { pod, start } => self.start_member(pod, start, seen),
            Action::SetStart { pod, version, start } => {
                let next = self.serial().to_string();
                if let Some(state) = self.pods.get_mut(pod).filter(|state| state.version == *version) {
                    state.start = Some(start.clone());
                    state.version = next;
                }
            }
            Action::Release { pod, version } => {
                let next = self.serial().to_string();
                if let Some(state) = self.pods.get_mut(pod).filter(|state| state.version == *version) {
                    let is_seed = state.start == Some(Start::Seed);
                    assert!(
                        !is_seed || !self.bootstrapped,
                        "a seed was let go after the bootstrap"
                    );
                    state.is_gated = false;
                    state.version = next;
                }
            }
            Action::DeletePod { pod, uid } => {
                if self.pods.get(pod).is_some_and(|state| state.uid == *uid) {
                    self.pods.remove(pod);
                    self.running.remove(pod);
                }
            }
            Action::DeleteClaim { pod, uid } => {
                if self.claims.get(pod).is_some_and(|state| state.uid == *uid) {
                    assert!(
                        !self.members.iter().any(|m| m.pod == *pod),
                        "the volume of member {pod} was deleted"
                    );
                    self.claims.remove(pod);
                    self.disks.remove(pod);
                }
            }
            Action::AddLearner { .. }
            | Action::Promote { .. }
            | Action::RemoveMember { .. }
            | Action::MoveLeader { .. } => self.change_members(action),
            Action::Wait { .. } | Action::Done => {}
        }
        self.elect();
    }

    fn start_member(&mut self, pod: &str, start: &Start, seen: &Observed) {
        if !seen.claims.contains_key(pod) {
            let uid = self.serial().to_string();
            self.claims.entry(pod.to_owned()).or_insert(ClaimState {
                uid,
                is_deleting: false,
            });
            self.disks.entry(pod.to_owned()).or_default();
        }
        let uid = self.serial().to_string();
        let version = uid.clone();
        let state = PodState {
            uid,
            version,
            is_gated: true,
            start: Some(start.clone()),
            ..PodState::default()
        };
        self.pods.entry(pod.to_owned()).or_insert(state);
    }

    fn change_members(&mut self, action: &Action) {
        if !self.has_quorum() {
            return;
        }
        match action {
            Action::AddLearner { pod } => {
                let is_known = self.members.iter().any(|member| member.pod == *pod);
                let is_full = self.members.iter().any(|member| member.is_learner);
                let is_healthy = self.voters().iter().all(|member| self.is_running(member));
                if is_known || is_full || !is_healthy {
                    return;
                }
                let id = self.serial();
                self.members.push(EtcdMemberModel {
                    id,
                    pod: pod.clone(),
                    is_learner: true,
                    is_started: false,
                });
            }
            Action::Promote { id, .. } => {
                let running = self.running.clone();
                if let Some(member) = self.members.iter_mut().find(|member| member.id == *id) {
                    member.is_learner &= !running.contains(&member.pod);
                }
            }
            Action::RemoveMember { id, .. } => {
                let Some(member) = self.members.iter().find(|member| member.id == *id).cloned() else {
                    return;
                };
                assert!(
                    Some(member.id) != self.leader,
                    "the leader {} was removed",
                    member.pod
                );
                self.members.retain(|member| member.id != *id);
                self.running.remove(&member.pod);
                assert!(self.has_quorum(), "the removal of {} took the quorum", member.pod);
            }
            Action::MoveLeader { to } => {
                let is_able = self
                    .voters()
                    .iter()
                    .any(|member| member.id == *to && self.is_running(member));
                self.leader = if is_able { Some(*to) } else { self.leader };
            }
            _ => {}
        }
    }

    /// Kubelets and etcds do their part.
    fn pass(&mut self) {
        self.pods.retain(|_, pod| !pod.is_deleting);
        let waiting: Vec<String> = self
            .pods
            .iter()
            .filter(|(pod, state)| !state.is_finished && !state.is_gated && !self.running.contains(*pod))
            .map(|(pod, _)| pod.clone())
            .collect();
        for pod in waiting {
            self.start_container(&pod);
        }
        self.elect();
        let is_every_voter_healthy = self.voters().iter().all(|member| self.is_running(member));
        self.healthy_steps = if is_every_voter_healthy {
            self.healthy_steps + 1
        } else {
            0
        };
    }

    fn start_container(&mut self, pod: &str) {
        let Some(disk) = self.disks.get(pod).cloned() else {
            return;
        };
        let start = self.pods.get(pod).and_then(|state| state.start.clone());
        let address = Some("10.0.0.1".to_owned());
        match (disk.member, start) {
            (Some(id), _) => {
                if self.members.iter().any(|member| member.id == id) {
                    self.running.insert(pod.to_owned());
                }
            }
            (None, Some(Start::Seed)) => {
                let id = self.serial();
                let is_second = self.clusters_formed > 0 && !self.members.is_empty();
                assert!(!is_second || !self.bootstrapped, "{pod} formed a second cluster");
                self.clusters_formed += 1;
                self.members = vec![EtcdMemberModel {
                    id,
                    pod: pod.to_owned(),
                    is_learner: false,
                    is_started: true,
                }];
                self.disks.insert(pod.to_owned(), Disk { member: Some(id) });
                self.running = BTreeSet::from([pod.to_owned()]);
            }
            (None, Some(Start::Join(list))) => {
                let listed: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
                let known: BTreeSet<&str> = self.members.iter().map(|member| member.pod.as_str()).collect();
                if listed != known || !self.has_quorum() {
                    return;
                }
                if let Some(member) = self.members.iter_mut().find(|member| member.pod == pod) {
                    assert!(
                        !member.is_started,
                        "{pod} came back under its old id without its data"
                    );
                    member.is_started = true;
                    let id = member.id;
                    self.disks.insert(pod.to_owned(), Disk { member: Some(id) });
                    self.running.insert(pod.to_owned());
                }
            }
            (None, Some(Start::Rejoin) | None) => {
                if let Some(state) = self.pods.get_mut(pod) {
                    state.restarts += 1;
                }
            }
        }
        if let Some(state) = self.pods.get_mut(pod) {
            state.address = address;
        }
    }

    fn nth_pod(&self, index: usize) -> Option<String> {
        let count = self.pods.len();
        (count > 0)
            .then(|| self.pods.keys().nth(index % count).cloned())
            .flatten()
    }

    /// A fault that loses data is held back where it would lose the quorum: no operator can mend that.
    fn may_lose_data_of(&self, pod: &str) -> bool {
        let Some(member) = self.members.iter().find(|member| member.pod == pod) else {
            return self.bootstrapped;
        };
        let voters = self.voters();
        let intact = voters.iter().filter(|other| {
            other.id != member.id
                && self
                    .disks
                    .get(&other.pod)
                    .is_some_and(|disk| disk.member == Some(other.id))
        });
        self.bootstrapped && (member.is_learner || intact.count() >= quorum(voters.len()))
    }

    fn apply(&mut self, event: &Event, seen: &mut Option<Observed>) {
        match event {
            Event::Pass => self.pass(),
            Event::Step => {
                let now = self.observe();
                let action = decide(&now);
                self.record();
                self.carry_out(&action, &now, false);
                *seen = Some(now);
            }
            Event::StaleStep => {
                if let Some(old) = seen.clone() {
                    self.carry_out(&decide(&old), &old, true);
                }
            }
            Event::LoseAnswer(has_effect) => {
                let now = self.observe();
                let action = decide(&now);
                if *has_effect {
                    self.carry_out(&action, &now, false);
                }
            }
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
                    self.disks.insert(pod, Disk::default());
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
            Event::Resize(members) => self.desired = *members,
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

    /// Runs without faults until nothing is left to do.
    fn settle(&mut self) -> Result<(), String> {
        let mut last = None;
        for _ in 0..400 {
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
        1 => prop_oneof![Just(1usize), Just(3), Just(5)].prop_map(Event::Resize),
        1 => (0..5usize).prop_map(Event::Elect),
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
        let settled = world.settle();
        prop_assert!(settled.is_ok(), "{} {world:#?}", settled.unwrap_err());
        prop_assert_eq!(world.voters().len(), world.desired);
        prop_assert!(world.members.iter().all(|member| !member.is_learner && world.is_running(member)));
        prop_assert_eq!(world.pods.len(), world.desired, "pods that are no members are left");
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
