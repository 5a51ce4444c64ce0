//! `decide(observed) -> one Action`: which single step brings a cluster closer to its spec.
//!
//! Pure: no client, no clock, no chance. Every action may be carried out twice, and after each of them the
//! world is observed again, so that a process may end anywhere. Rules from `docs/design/etcd.md`.

mod backups;
mod bootstrap;
mod membership;
#[cfg(test)]
mod model;
mod restore;
mod rolling;
mod rotation;
mod space;
mod teardown;

use skep_api::etcd_backup::BackupReason;
use skep_api::etcd_cluster::{MemberAction, MemberIntent, RestoreSource};

use crate::observed::{Alarm, Observed, PodState, RotationStep, Start};
use crate::version::Release;

pub use teardown::decide_teardown;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes into the status what is going to be done, before anything of it is done.
    Latch(MemberIntent),
    /// Writes into the status that the cluster is formed; from then on members only join.
    RecordBootstrap,
    /// Takes a finished intent out of the status.
    ClearIntent,
    /// Writes into the status with what members are made from now on.
    Adopt(Release),
    /// Creates whichever is missing of a member's volume claim and pod.
    StartMember {
        /// The pod's name.
        pod: String,
        /// What it does with an empty volume.
        start: Start,
    },
    /// Changes what a pod's container does with an empty volume when it starts the next time.
    SetStart {
        /// The pod's name.
        pod: String,
        /// The version of the pod that was observed.
        version: String,
        /// What it does with an empty volume.
        start: Start,
    },
    /// Lets the scheduler have a pod. A pod is created held back, so that one that was created on a view of
    /// yesterday never runs: only a look that finds it as it shall be lets it go, and only that version.
    Release {
        /// The pod's name.
        pod: String,
        /// The version of the pod that was observed.
        version: String,
    },
    /// Deletes a pod.
    DeletePod {
        /// The pod's name.
        pod: String,
        /// The pod that was observed.
        uid: String,
    },
    /// Deletes the volume claim of a pod.
    DeleteClaim {
        /// The name of the pod that the claim belongs to.
        pod: String,
        /// The claim that was observed.
        uid: String,
    },
    /// Adds a member without a vote.
    AddLearner {
        /// The pod that it will run in.
        pod: String,
    },
    /// Gives a learner its vote; etcd refuses while it is not in sync.
    Promote {
        /// The learner's id.
        id: u64,
        /// Its pod.
        pod: String,
    },
    /// Makes another member the leader.
    MoveLeader {
        /// The id of the leader to be.
        to: u64,
    },
    /// Takes a member out of the cluster.
    RemoveMember {
        /// The member's id.
        id: u64,
        /// Its pod.
        pod: String,
    },
    /// Throws away history before a revision.
    Compact {
        /// The revision.
        revision: i64,
    },
    /// Writes a member's database anew without its holes.
    Defragment {
        /// Its pod.
        pod: String,
    },
    /// Takes an alarm back.
    Disarm(Alarm),
    /// Brings authorities one step closer to their replacement.
    Rotate(RotationStep),
    /// Asks for a snapshot.
    Backup(BackupReason),
    /// Asks for a drill.
    Drill,
    /// Writes into the status which snapshot takes the place of the data, before any member goes for it.
    BeginRestore(RestoreSource),
    /// Writes into the status that a restore is not needed any more.
    PassOver(RestoreSource),
    /// Sets a volume claim aside: it belongs to no member any more, and stays until the new cluster is whole.
    SetAside {
        /// The name of the pod that the claim belongs to.
        pod: String,
        /// The claim that was observed.
        uid: String,
    },
    /// Writes into the status that nothing of the members is left, so that one can be made from the snapshot.
    FormRestored,
    /// Nothing can be done now.
    Wait {
        /// What is waited for, for people.
        what: String,
        /// Who says when it has come.
        on: Signal,
    },
    /// Nothing is left to do.
    Done,
}

/// Who says that something that is waited for has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A watch will.
    Watch,
    /// Nobody: etcd must be asked again, within a second.
    Etcd,
    /// Other clusters, when they have done what they do.
    Turn,
    /// A person must act.
    Person,
}

/// The one step to take now.
pub fn decide(observed: &Observed) -> Action {
    if let Some(action) = restore::decide(observed) {
        return action;
    }
    if !observed.bootstrapped {
        return bootstrap::decide(observed);
    }
    match &observed.membership {
        None => membership::without_quorum(observed),
        Some(members) => membership::with_quorum(observed, members),
    }
}

fn latch(action: MemberAction, pod: &str) -> Action {
    Action::Latch(MemberIntent {
        action,
        pod: pod.to_owned(),
    })
}

fn wait(on: Signal, what: impl Into<String>) -> Action {
    Action::Wait {
        what: what.into(),
        on,
    }
}

/// Makes a pod do `start` with an empty volume, and lets it go once it does.
fn prepare(name: &str, pod: &PodState, start: &Start) -> Option<Action> {
    if pod.is_deleting {
        return None;
    }
    let (pod_name, version) = (name.to_owned(), pod.version.clone());
    if pod.start.as_ref() != Some(start) {
        return Some(Action::SetStart {
            pod: pod_name,
            version,
            start: start.clone(),
        });
    }
    pod.is_gated.then_some(Action::Release {
        pod: pod_name,
        version,
    })
}

/// Deletes a pod, so that it is made again over its volume.
fn delete_pod(name: &str, pod: &PodState) -> Action {
    Action::DeletePod {
        pod: name.to_owned(),
        uid: pod.uid.clone(),
    }
}

/// Deletes the first pod that has ended for good, so that it is made again over its volume.
fn clear_finished_pod(observed: &Observed) -> Option<Action> {
    let is_left_over = |pod: &PodState| pod.is_finished && !pod.is_deleting;
    let (name, pod) = observed.pods.iter().find(|(_, pod)| is_left_over(pod))?;
    Some(delete_pod(name, pod))
}

/// Says what keeps a pod from running.
fn trouble(observed: &Observed, pod: &str) -> String {
    match observed.pods.get(pod) {
        None => "its pod is not there yet".to_owned(),
        Some(state) if state.is_deleting => "its pod is ending".to_owned(),
        Some(state) => state
            .trouble
            .clone()
            .unwrap_or_else(|| "it does not answer yet".to_owned()),
    }
}
