//! Kubernetes and etcd as far as decisions depend on them, and the rules that must never be broken.

use std::collections::{BTreeMap, BTreeSet};

use skep_api::etcd_cluster::{EtcdMember, MemberIntent, VolumePolicy};

use super::super::Action;
use super::trust::{Authorities, Files};
use crate::observed::{Alarm, AlarmKind, ClaimState, Freed, Observed, PodState, Start, quorum};
use crate::version::{EtcdVersion, Line, Release};

/// What the spec asks for, in the order in which it can be followed; the second and third differ in the image alone, and
/// the image of the second never runs.
pub const RELEASES: [(&str, &str); 4] = [
    ("3.6.14", "etcd:3.6.14"),
    ("3.7.3", "etcd:none"),
    ("3.7.3", "etcd:3.7.3"),
    ("3.6.15", "etcd:3.6.15"),
];
pub const BROKEN: &str = "etcd:none";

pub fn release(index: usize) -> Release {
    let (version, image) = RELEASES[index % RELEASES.len()];
    Release {
        version: EtcdVersion::parse(version).expect("a version"),
        image: image.to_owned(),
    }
}

pub fn revision(release: &Release, trust: Option<String>) -> String {
    format!(
        "{} {}|{}",
        release.version,
        release.image,
        trust.unwrap_or_default()
    )
}

/// The data on one volume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Disk {
    /// The member id whose log is on it; none while it is empty.
    pub member: Option<u64>,
    /// The node that it is on; none until a pod has used it.
    pub node: Option<String>,
}

#[derive(Debug, Clone)]
pub struct EtcdMemberModel {
    pub id: u64,
    pub pod: String,
    pub is_learner: bool,
    pub is_started: bool,
}

/// Kubernetes, etcd and the status.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own about the world
pub struct World {
    pub desired: usize,
    pub policy: VolumePolicy,
    /// What the status has.
    pub release: Option<Release>,
    /// What the spec has.
    pub wanted: Release,
    /// The line that wrote the data.
    pub line: Line,
    pub bootstrapped: bool,
    pub intent: Option<MemberIntent>,
    pub recorded: Vec<EtcdMember>,
    pub pods: BTreeMap<String, PodState>,
    pub claims: BTreeMap<String, ClaimState>,
    pub disks: BTreeMap<String, Disk>,
    pub members: Vec<EtcdMemberModel>,
    pub leader: Option<u64>,
    /// Pods whose etcd runs with data of a member.
    pub running: BTreeSet<String>,
    pub next: u64,
    pub clusters_formed: usize,
    pub has_lost_data: bool,
    pub healthy_steps: u64,
    /// Whether NOSPACE is raised.
    pub is_full: bool,
    /// Whether history fills the databases.
    pub has_history: bool,
    /// The pods whose databases have holes.
    pub holes: BTreeSet<String>,
    /// What the operator remembers to have freed.
    pub freed: Option<Freed>,
    pub revision: i64,
    pub authorities: Authorities,
    /// A pod that fails whenever it is started, while it is of this revision.
    pub sick: Option<(String, Option<String>)>,
    /// Nodes that no member may be on.
    pub avoided_nodes: BTreeSet<String>,
    /// What pods may have read, by unique id.
    pub files: BTreeMap<String, Files>,
}

/// Bytes of a database that is full, and of one that is not.
pub const FULL: i64 = 64 << 20;
pub const SMALL: i64 = 1 << 20;

impl World {
    pub fn new(desired: usize, policy: VolumePolicy) -> Self {
        Self {
            desired,
            policy,
            release: None,
            wanted: release(0),
            line: release(0).version.line(),
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
            is_full: false,
            has_history: false,
            holes: BTreeSet::new(),
            freed: None,
            revision: 1,
            authorities: Authorities::new(),
            sick: None,
            avoided_nodes: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    pub fn serial(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn alarm(&self) -> Option<Alarm> {
        self.is_full.then_some(Alarm {
            member: 1,
            kind: AlarmKind::NoSpace,
        })
    }

    /// With what members are made: until something is recorded, with what the spec says.
    pub fn current(&self) -> &Release {
        self.release.as_ref().unwrap_or(&self.wanted)
    }

    /// With what a pod was made.
    pub fn release_of(&self, pod: &str) -> Release {
        let made = self
            .pods
            .get(pod)
            .and_then(|state| state.revision.clone())
            .unwrap_or_default();
        let made = made.split('|').next().unwrap_or_default();
        let mut releases = (0..RELEASES.len()).map(release);
        let found = releases.find(|release| revision(release, None).strip_suffix('|') == Some(made));
        found.expect("a pod of a release")
    }

    pub fn voters(&self) -> Vec<&EtcdMemberModel> {
        self.members.iter().filter(|member| !member.is_learner).collect()
    }

    pub fn is_running(&self, member: &EtcdMemberModel) -> bool {
        self.running.contains(&member.pod)
    }

    pub fn has_quorum(&self) -> bool {
        let voters = self.voters();
        let alive = voters.iter().filter(|member| self.is_running(member)).count();
        !voters.is_empty() && alive >= quorum(voters.len())
    }

    pub fn elect(&mut self) {
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

    /// Carries out an action that was decided on `seen`; checks what must never be.
    pub fn carry_out(&mut self, action: &Action, seen: &Observed, is_stale: bool) {
        match action {
            Action::Latch(_) | Action::ClearIntent | Action::RecordBootstrap | Action::Adopt(_) => {
                // Written over the version that was read.
                let is_other = self.intent != seen.intent
                    || self.bootstrapped != seen.bootstrapped
                    || *self.current() != seen.release;
                if is_stale && is_other {
                    return;
                }
                match action {
                    Action::Adopt(release) => self.release = Some(release.clone()),
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
                    let had_quorum = self.has_quorum();
                    self.pods.remove(pod);
                    self.running.remove(pod);
                    assert!(
                        is_stale || !had_quorum || self.has_quorum() || self.voters().len() == 1,
                        "the deletion of pod {pod} took the quorum"
                    );
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
            Action::Compact { .. } | Action::Defragment { .. } | Action::Disarm(_) => {
                self.change_store(action, is_stale);
            }
            Action::Rotate(step) => self.authorities.advance(*step, self.files.values_mut()),
            Action::Backup(_)
            | Action::Drill
            | Action::BeginRestore(_)
            | Action::PassOver(_)
            | Action::SetAside { .. }
            | Action::FormRestored => panic!("no restore is asked for in this world: {action:?}"),
            Action::Wait { .. } | Action::Done => {}
        }
        self.elect();
        self.check_trust();
    }

    /// Whoever runs takes what every other may show.
    fn check_trust(&self) {
        let pods = self.running.iter().filter_map(|pod| self.pods.get(pod));
        let members = pods.filter_map(|pod| self.files.get(&pod.uid));
        let all: Vec<&Files> = members.chain([self.authorities.client()]).collect();
        let are_together = all.iter().all(|one| all.iter().all(|other| one.takes(other)));
        assert!(are_together, "one does not trust another: {all:?}");
    }

    pub fn start_member(&mut self, pod: &str, start: &Start, seen: &Observed) {
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
            revision: Some(seen.revision.clone()),
            start: Some(start.clone()),
            ..PodState::default()
        };
        self.files.insert(state.uid.clone(), self.authorities.files());
        self.pods.entry(pod.to_owned()).or_insert(state);
    }

    fn change_store(&mut self, action: &Action, is_stale: bool) {
        if !self.has_quorum() {
            return;
        }
        match action {
            Action::Compact { .. } => {
                if self.has_history {
                    self.holes = self.members.iter().map(|member| member.pod.clone()).collect();
                }
                self.has_history = false;
                self.freed = Some(Freed {
                    revision: self.revision,
                    members: BTreeSet::new(),
                });
            }
            Action::Defragment { pod } => {
                let others = self.voters().into_iter().filter(|member| member.pod != *pod);
                let serving = others.filter(|member| self.is_running(member)).count();
                let voters = self.voters().len();
                assert!(
                    is_stale || voters == 1 || serving >= quorum(voters),
                    "{pod} answers nothing while others are down"
                );
                self.holes.remove(pod);
                let member = self.members.iter().find(|member| member.pod == *pod);
                if let (Some(member), Some(freed)) = (member, self.freed.as_mut()) {
                    freed.members.insert(member.id);
                }
                self.intent = None;
            }
            Action::Disarm(_) => {
                assert!(
                    is_stale || !self.has_history,
                    "the alarm is taken back from a full database"
                );
                // The next write raises it again: what counts is the file, holes and all.
                let mut members = self.members.iter();
                self.is_full = self.has_history || members.any(|member| self.holes.contains(&member.pod));
                self.freed = self.freed.take().filter(|_| self.is_full);
            }
            _ => {}
        }
    }

    pub fn change_members(&mut self, action: &Action) {
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

    /// Has members leave the node of a pod, and no other; of one without a node, none.
    pub fn avoid_node_of(&mut self, pod: &str) {
        let node = self.disks.get(pod).and_then(|disk| disk.node.clone());
        self.avoided_nodes = node.into_iter().collect();
    }

    pub fn nth_pod(&self, index: usize) -> Option<String> {
        let count = self.pods.len();
        (count > 0)
            .then(|| self.pods.keys().nth(index % count).cloned())
            .flatten()
    }

    /// A fault that loses data is held back where it would lose the quorum: no operator can mend that.
    pub fn may_lose_data_of(&self, pod: &str) -> bool {
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
}
