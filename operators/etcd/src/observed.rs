//! What is known of one cluster at one moment: the whole input of [`crate::decide`].
//!
//! Plain data without clients, so that every state of the world can be written down in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use skep_api::etcd_cluster::{
    EtcdDrillResult, EtcdMember, EtcdRestoring, EtcdSnapshot, MemberIntent, RestoreSource, TrustPhase,
    VolumePolicy,
};

use crate::version::Release;

/// How long all voters must have been healthy before another member is added, as etcd itself demands.
pub const SETTLED: Duration = Duration::from_secs(5);

/// Everything that a decision depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// How many members the spec asks for.
    pub desired: usize,
    /// With what members are made.
    pub release: Release,
    /// With what the spec wants them made.
    pub wanted: Release,
    /// The revision of pods that are made now.
    pub revision: String,
    /// What becomes of volumes that no member uses any more.
    pub volume_policy: VolumePolicy,
    /// Whether the cluster has ever been formed; from the live object, never from a cache.
    pub bootstrapped: bool,
    /// The change that was begun.
    pub intent: Option<MemberIntent>,
    /// Nodes that no member may be on.
    pub avoided_nodes: BTreeSet<String>,
    /// The members as last recorded: all that is known while etcd does not answer, and on which nodes they were.
    pub recorded: Vec<EtcdMember>,
    /// The pods of this cluster, by name.
    pub pods: BTreeMap<String, PodState>,
    /// The volume claims of this cluster, by the name of the pod that each belongs to.
    pub claims: BTreeMap<String, ClaimState>,
    /// The members by a linearizable list; none while etcd has no quorum.
    pub membership: Option<Membership>,
    /// What members say of themselves while there is no quorum, by pod.
    pub alone: BTreeMap<String, MemberStatus>,
    /// The most bytes that a database may hold.
    pub quota_bytes: u64,
    /// How soon the data reach the quota, once that is known.
    pub fills: Option<Fills>,
    /// What was freed since NOSPACE was raised.
    pub freed: Option<Freed>,
    /// How long all voters of this membership have been healthy.
    pub healthy_for: Duration,
    /// Whom members and clients trust.
    pub trust: Trust,
    /// What is known of snapshots.
    pub backups: Backups,
    /// What is known of drills.
    pub drills: Drills,
    /// Which snapshot takes the place of the data.
    pub restore: Restore,
    /// The claims that were set aside by a restore, by the name of the pod that each belonged to.
    pub set_aside: BTreeMap<String, ClaimState>,
    /// A name that no pod and no claim has, for the next member.
    pub fresh: String,
}

/// What is known of the snapshots of a cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backups {
    /// Whether the spec asks for any.
    pub is_wanted: bool,
    /// How old the newest is.
    pub age: BackupAge,
    /// The one that was asked for and is not there yet, and what it waits for.
    pub pending: Option<String>,
    /// The newest.
    pub newest: Option<EtcdSnapshot>,
}

/// What is known of the drills of a cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drills {
    /// Whether the spec asks for any.
    pub is_wanted: bool,
    /// Whether the time of the next has come and none is under way.
    pub is_due: bool,
    /// Whether the last is so long ago that it proves nothing any more.
    pub is_overdue: bool,
    /// How the last has ended.
    pub newest: Option<EtcdDrillResult>,
}

/// How old the newest snapshot is, by what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum BackupAge {
    /// Young enough to go on with a risky step.
    Young,
    /// The schedule wants no other yet.
    Fresh,
    /// The schedule wants the next one.
    Due,
    /// Older than the schedule and some time to take it allow, or there is none.
    #[default]
    Overdue,
}

/// Which snapshot takes the place of the data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restore {
    /// What the spec asks for.
    pub asked: Option<RestoreSource>,
    /// What was begun.
    pub under_way: Option<EtcdRestoring>,
    /// The name of the last that was done.
    pub done: Option<String>,
}

/// Whom members and clients trust, and what is to be changed about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// The name of what clients have to trust; none until an authority was replaced.
    pub revision: Option<String>,
    /// How far the replacement has come.
    pub phase: TrustPhase,
    /// The step that is due.
    pub pending: Option<RotationStep>,
    /// Whether every client has started with what it has to trust, or there is none.
    pub is_known_to_clients: bool,
}

/// A step by which one authority takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RotationStep {
    /// The next authority is made, and trusted.
    Introduce,
    /// The next authority signs.
    Sign,
    /// The last authority is trusted no more.
    Retire,
}

/// What was done against a full database: etcd's own count of used bytes says nothing until it can write again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freed {
    /// The revision up to which history was thrown away.
    pub revision: i64,
    /// The ids of the members that have written their databases anew since.
    pub members: BTreeSet<u64>,
}

/// How soon the data reach the quota, at the growth of the last hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fills {
    /// Within an hour, or they all but have.
    WithinAnHour,
    /// Within six hours.
    WithinSixHours,
    /// Within a day.
    WithinADay,
    /// Later, or never.
    NotSoon,
}

/// What is left of a cluster that is being deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Remains {
    /// What becomes of volumes.
    pub volume_policy: VolumePolicy,
    /// The pods, by name.
    pub pods: BTreeMap<String, PodState>,
    /// The volume claims, by the name of the pod that each belongs to.
    pub claims: BTreeMap<String, ClaimState>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own about the pod
pub struct PodState {
    /// Its unique id: the precondition of its deletion.
    pub uid: String,
    /// Its resource version: the precondition of its changes.
    pub version: String,
    /// Whether the scheduler still holds it back.
    pub is_gated: bool,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Whether it has ended for good, as an evicted one has.
    pub is_finished: bool,
    /// Its address, once it runs.
    pub address: Option<String>,
    /// Whether its node says that it is ready, as Services and disruption budgets count it.
    pub is_ready: bool,
    /// The zone of its node.
    pub zone: Option<String>,
    /// Of which revision of the spec it was made.
    pub revision: Option<String>,
    /// With what its container starts when its volume is empty.
    pub start: Option<Start>,
    /// How often its container was started again.
    pub restarts: i32,
    /// Whether its container was last ended for want of memory.
    pub is_out_of_memory: bool,
    /// What keeps it from running, for people.
    pub trouble: Option<String>,
}

/// One volume claim.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimState {
    /// Its unique id: the precondition of its deletion.
    pub uid: String,
    /// Whether it is being deleted.
    pub is_deleting: bool,
}

/// What a member does when its volume is empty; with data in it, etcd heeds none of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It forms a cluster of its own: the first member, and only until the cluster is formed.
    Seed,
    /// It joins: `name=peer URL` of every member, itself among them.
    Join(Vec<(String, String)>),
    /// It forms a cluster of its own with the data that it has, whatever members they speak of; refuses to start without.
    Force,
    /// It refuses to start: a member that has lost its data must not come back under its old id.
    Rejoin,
}

/// The members of a running cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The leader's id.
    pub leader: Option<u64>,
    /// The members in the order of their ids.
    pub members: Vec<Member>,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
}

/// An alarm, which a member raises for the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// The id of the member that raised it.
    pub member: u64,
    /// Which.
    pub kind: AlarmKind,
}

/// The kinds of alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// A database has reached its quota: nothing is written until the alarm is taken back.
    NoSpace,
    /// The data of two members differ.
    Corrupt,
    /// One of a later etcd, by its number.
    Other(i32),
}

/// One member as etcd lists it, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The member's id.
    pub id: u64,
    /// The pod that its peer URL names; none where the URL is none of this cluster's.
    pub pod: Option<String>,
    /// Its peer URL.
    pub peer_url: String,
    /// Whether it has ever started: a member that has not has no name.
    pub is_started: bool,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// What it answers, if it does.
    pub status: Option<MemberStatus>,
}

/// A member's answer about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberStatus {
    /// The member's id.
    pub id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The leader's id; none while there is none.
    pub leader: Option<u64>,
    /// The version that it runs.
    pub version: String,
    /// The revision of its store.
    pub revision: i64,
    /// The bytes of its database file.
    pub database_bytes: i64,
    /// The bytes of it that hold data.
    pub used_bytes: i64,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// What it complains about, alarms among it.
    pub errors: Vec<String>,
}

impl Observed {
    /// Whether a pod was made of another spec than today's.
    pub fn is_stale(&self, pod: &PodState) -> bool {
        pod.revision.as_deref() != Some(&self.revision)
    }

    /// The node that a member's pod is on, or was on before it was made anew over its volume.
    pub fn node_of(&self, pod: &str) -> Option<&str> {
        let now = self.pods.get(pod).and_then(|state| state.node.as_deref());
        let mut recorded = self.recorded.iter().filter(|member| member.pod == pod);
        now.or_else(|| recorded.next()?.node.as_deref())
    }

    /// Whether a member's pod is on a node that no member may be on.
    pub fn is_leaving(&self, pod: &str) -> bool {
        self.node_of(pod)
            .is_some_and(|node| self.avoided_nodes.contains(node))
    }
}

impl PodState {
    /// Whether it has a node and nothing has gone wrong there so far.
    pub fn is_starting(&self) -> bool {
        self.node.is_some() && !self.is_deleting && !self.is_finished && self.restarts == 0
    }
}

impl Member {
    /// Whether it answers and follows a leader.
    pub fn is_healthy(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.leader.is_some())
    }
}

impl Membership {
    /// The members that vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// The member that has no vote yet, if there is one.
    pub fn learner(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.is_learner)
    }

    /// The member of a pod, found by its peer URL.
    pub fn of_pod(&self, pod: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.pod.as_deref() == Some(pod))
    }

    /// How many voters there are.
    pub fn voter_count(&self) -> usize {
        self.voters().count()
    }

    /// Whether an alarm of a kind is raised.
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    /// The revision of the leader's store.
    pub fn revision(&self) -> Option<i64> {
        let leader = self
            .members
            .iter()
            .find(|member| Some(member.id) == self.leader)?;
        Some(leader.status.as_ref()?.revision)
    }

    /// Whether every voter answers and follows a leader.
    pub fn is_every_voter_healthy(&self) -> bool {
        self.voters().all(Member::is_healthy)
    }

    /// The first voter that does not answer.
    pub fn silent_voter(&self) -> Option<&Member> {
        self.voters().find(|member| !member.is_healthy())
    }

    /// `name=peer URL` of every member, as etcd wants it of one that joins.
    pub fn join_list(&self) -> Vec<(String, String)> {
        let name = |member: &Member| member.pod.clone().unwrap_or_else(|| format!("{:x}", member.id));
        self.members
            .iter()
            .map(|member| (name(member), member.peer_url.clone()))
            .collect()
    }
}

/// How many of `voters` must agree.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
