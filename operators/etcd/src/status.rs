//! The status: derived from what was observed and decided, written only when it differs, and only over the
//! version that was read, so that a process that has lost its lease cannot take back what another recorded.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use skep_api::etcd_cluster::{
    BACKED_UP, EtcdCluster, EtcdClusterStatus, EtcdMember, EtcdTrust, MemberRole, RESTORE_PROVEN, ROOM_AHEAD,
    SERVING,
};
use skep_core::{labels, reasons};
use skep_runtime::{ConditionStatus, Conditions, Outcome};

use crate::CONTROLLER;
use crate::decide::{Action, Signal};
use crate::observed::{AlarmKind, BackupAge, Backups, Drills, Fills, Membership, Observed, PodState, Trust};
use crate::validate::InvalidSpec;

/// Database sizes are told in steps, so that a busy cluster does not rewrite its status all the time.
const SIZE_STEP: i64 = 16 << 20;
/// Until a watch tells; only against an event that was missed.
pub(crate) const WATCH_FALLBACK: Duration = Duration::from_secs(30);
/// Until etcd is asked again during a change.
const ASK_SOON: Duration = Duration::from_millis(700);
/// Until etcd is asked again while its first member starts: this wait is in every creation.
const ASK_AT_ONCE: Duration = Duration::from_millis(200);
/// Until etcd is asked again about a member that is silent; a watch tells sooner when its pod changes.
const ASK_LATER: Duration = Duration::from_secs(5);
/// Until a look at a database that fills.
const FILLING: Duration = Duration::from_secs(15);
/// From so many percent of its quota on.
const FILLING_PERCENT: u64 = 60;
/// Until another try at what waits for other clusters; the more there are, the sooner one of them finds its turn.
const TURN: Duration = Duration::from_secs(10);
/// Until a look at what a person must mend.
const PERSON: Duration = Duration::from_mins(1);

/// The status that follows from an observation and the action that was decided on.
pub fn build_status(
    object: &EtcdCluster,
    observed: &Observed,
    action: &Action,
    now: Timestamp,
) -> EtcdClusterStatus {
    let before = object.status.clone().unwrap_or_default();
    let membership = observed.membership.as_ref();
    let members = match membership {
        Some(members) => members_of(observed, members),
        None => silent(observed, &before.members),
    };
    let serving = members
        .iter()
        .filter(|member| member.healthy && member.role == MemberRole::Voter)
        .count();
    let leader = membership.and_then(|members| members.leader);
    let leader_pod = membership.and_then(|members| {
        members
            .members
            .iter()
            .find(|member| Some(member.id) == leader)
            .and_then(|member| member.pod.clone())
    });
    EtcdClusterStatus {
        observed_generation: object.metadata.generation,
        bootstrapped: before.bootstrapped,
        cluster_id: membership
            .map(|members| format!("{:x}", members.cluster_id))
            .or(before.cluster_id.clone()),
        version: membership.and_then(common_version).or(before.version.clone()),
        leader: leader_pod,
        ready_members: i32::try_from(serving).unwrap_or(i32::MAX),
        members,
        release: Some(observed.release.to_record()),
        trust: trust_of(observed),
        intent: before.intent.clone(),
        snapshot: observed.backups.newest.clone().or(before.snapshot.clone()),
        drill: observed.drills.newest.clone().or(before.drill.clone()),
        restoring: before.restoring.clone(),
        restored: before.restored.clone(),
        recovered: before.recovered.clone(),
        conditions: conditions(object, observed, action, serving, now),
    }
}

fn conditions(
    object: &EtcdCluster,
    observed: &Observed,
    action: &Action,
    serving: usize,
    now: Timestamp,
) -> Vec<Condition> {
    let is_formed = object.status.as_ref().is_some_and(|status| status.bootstrapped);
    let voters = observed.membership.as_ref().map(Membership::voter_count);
    let base = fresh_conditions(object, now).set(
        reasons::VALID,
        ConditionStatus::True,
        reasons::AS_DESIRED,
        "the spec can be acted upon",
    );
    let base = match voters {
        Some(voters) if is_formed => {
            let text = format!("{serving} of {voters} voting members serve, with a quorum");
            base.set(SERVING, ConditionStatus::True, reasons::AS_DESIRED, text)
        }
        _ if is_formed => base.set(
            SERVING,
            ConditionStatus::False,
            reasons::NO_QUORUM,
            "no quorum of members answers",
        ),
        _ if observed.pods.values().any(PodState::is_starting) => base.set(
            SERVING,
            ConditionStatus::False,
            reasons::STARTING,
            "the first member starts on its node",
        ),
        _ => base.set(
            SERVING,
            ConditionStatus::False,
            reasons::WAITING,
            "waiting for the first member to serve",
        ),
    };
    let base = room_ahead(backed_up(base, &observed.backups), observed.fills);
    let base = restore_proven(base, &observed.drills);
    let (status, reason, text) = readiness(observed, action, is_formed);
    base.set(reasons::READY, status, reason, text).build()
}

/// Says whether snapshots are taken as the schedule wants them, where it wants any.
fn backed_up(base: Conditions, backups: &Backups) -> Conditions {
    if !backups.is_wanted {
        return base;
    }
    let last = backups
        .newest
        .as_ref()
        .map(|newest| format!("the last snapshot is {}", newest.snapshot));
    let last = last.unwrap_or_else(|| "there is no snapshot yet".to_owned());
    if backups.age < BackupAge::Overdue {
        return base.set(BACKED_UP, ConditionStatus::True, reasons::AS_DESIRED, last);
    }
    let why = backups.pending.as_deref().unwrap_or("the next is asked for soon");
    base.set(
        BACKED_UP,
        ConditionStatus::False,
        reasons::WAITING,
        format!("{last}; {why}"),
    )
}

/// Says whether a snapshot was restored lately and found to be what was taken, where that is wanted.
fn restore_proven(base: Conditions, drills: &Drills) -> Conditions {
    if !drills.is_wanted {
        return base;
    }
    let Some(newest) = &drills.newest else {
        let text = "no drill has ended yet";
        return base.set(RESTORE_PROVEN, ConditionStatus::Unknown, reasons::WAITING, text);
    };
    if drills.is_overdue {
        let text = format!(
            "the last drill, {}, was at {}, and none has ended since",
            newest.drill, newest.at.0
        );
        base.set(RESTORE_PROVEN, ConditionStatus::False, reasons::WAITING, text)
    } else if newest.passed {
        base.set(
            RESTORE_PROVEN,
            ConditionStatus::True,
            reasons::AS_DESIRED,
            &newest.message,
        )
    } else {
        base.set(
            RESTORE_PROVEN,
            ConditionStatus::False,
            reasons::FAILED,
            &newest.message,
        )
    }
}

/// Says whether the database has room for the next day.
fn room_ahead(base: Conditions, fills: Option<Fills>) -> Conditions {
    let time = match fills {
        // Another process may know more than this one does yet.
        None => return base.keep(ROOM_AHEAD),
        Some(Fills::NotSoon) => {
            let text = "nothing says that the database is full within a day";
            return base.set(ROOM_AHEAD, ConditionStatus::True, reasons::AS_DESIRED, text);
        }
        Some(Fills::WithinAnHour) => "an hour",
        Some(Fills::WithinSixHours) => "six hours",
        Some(Fills::WithinADay) => "a day",
    };
    let text = format!(
        "within {time} the data reach spec.quotaBytes, as they have grown: raise it, or the size class, or delete some"
    );
    base.set(ROOM_AHEAD, ConditionStatus::False, reasons::FILLING, text)
}

fn readiness(
    observed: &Observed,
    action: &Action,
    is_formed: bool,
) -> (ConditionStatus, &'static str, String) {
    let desired = observed.desired;
    match action {
        Action::Done => (
            ConditionStatus::True,
            reasons::AS_DESIRED,
            format!("{desired} of {desired} members vote and serve"),
        ),
        Action::Wait {
            what,
            on: Signal::Person,
        } => (
            ConditionStatus::False,
            reasons::BLOCKED,
            format!("waiting for {what}"),
        ),
        Action::Wait { what, .. } => {
            let has_quorum = observed.membership.is_some() || !is_formed;
            let reason = if has_quorum {
                reasons::WAITING
            } else {
                reasons::NO_QUORUM
            };
            (ConditionStatus::False, reason, format!("waiting for {what}"))
        }
        Action::Latch(_)
        | Action::RecordBootstrap
        | Action::ClearIntent
        | Action::Adopt(_)
        | Action::StartMember { .. }
        | Action::SetStart { .. }
        | Action::Release { .. }
        | Action::DeletePod { .. }
        | Action::DeleteClaim { .. }
        | Action::AddLearner { .. }
        | Action::Promote { .. }
        | Action::MoveLeader { .. }
        | Action::RemoveMember { .. }
        | Action::Compact { .. }
        | Action::Defragment { .. }
        | Action::Disarm(_)
        | Action::Backup(_)
        | Action::Drill
        | Action::BeginRestore(_)
        | Action::PassOver(_)
        | Action::SetAside { .. }
        | Action::FormRestored
        | Action::Rotate(_) => {
            let text = if let Some(anew) = made_anew(observed) {
                format!(
                    "waiting for members to be made anew with {}: {anew} of {desired} are",
                    observed.release.version
                )
            } else {
                let voters = observed.membership.as_ref().map_or(0, Membership::voter_count);
                format!("waiting for members: {voters} of {desired} vote")
            };
            (ConditionStatus::False, reasons::WAITING, text)
        }
    }
}

/// How many voters run with today's spec; nothing when all do.
fn made_anew(observed: &Observed) -> Option<usize> {
    let voters = observed.membership.as_ref()?.voters();
    let pods = voters.filter_map(|member| observed.pods.get(member.pod.as_deref()?));
    let (all, stale) = pods.fold((0, 0), |(all, stale), pod| {
        (all + 1, stale + usize::from(observed.is_stale(pod)))
    });
    (stale > 0 || observed.wanted != observed.release).then_some(all - stale)
}

/// The status of a spec that cannot be acted upon; what was recorded stays.
pub fn build_invalid_status(
    object: &EtcdCluster,
    invalid: &InvalidSpec,
    now: Timestamp,
) -> EtcdClusterStatus {
    let conditions = fresh_conditions(object, now)
        .keep(SERVING)
        .set(
            reasons::VALID,
            ConditionStatus::False,
            reasons::INVALID_SPEC,
            invalid.to_string(),
        )
        .set(
            reasons::READY,
            ConditionStatus::False,
            reasons::INVALID_SPEC,
            invalid.to_string(),
        );
    with_conditions(object, conditions)
}

/// The status after a step that failed; what was recorded stays.
pub fn build_failed_status(object: &EtcdCluster, error: &str, now: Timestamp) -> EtcdClusterStatus {
    let conditions = fresh_conditions(object, now)
        .keep(reasons::VALID)
        .keep(SERVING)
        .set(reasons::READY, ConditionStatus::False, reasons::FAILED, error);
    with_conditions(object, conditions)
}

/// The status of a cluster that is being deleted; what was recorded stays.
pub fn build_deleting_status(object: &EtcdCluster, what: &str, now: Timestamp) -> EtcdClusterStatus {
    let text = format!("waiting for {what}");
    let conditions = fresh_conditions(object, now)
        .set(SERVING, ConditionStatus::False, reasons::DELETING, &text)
        .set(reasons::READY, ConditionStatus::False, reasons::DELETING, &text);
    with_conditions(object, conditions)
}

fn fresh_conditions(object: &EtcdCluster, now: Timestamp) -> Conditions {
    let observed = object
        .status
        .as_ref()
        .map(|status| status.conditions.clone())
        .unwrap_or_default();
    Conditions::new(&observed, object.metadata.generation, now)
}

fn with_conditions(object: &EtcdCluster, conditions: Conditions) -> EtcdClusterStatus {
    EtcdClusterStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions.build(),
        ..object.status.clone().unwrap_or_default()
    }
}

fn members_of(observed: &Observed, members: &Membership) -> Vec<EtcdMember> {
    let mut all: Vec<EtcdMember> = members
        .members
        .iter()
        .map(|member| EtcdMember {
            pod: member.pod.clone().unwrap_or_else(|| member.peer_url.clone()),
            id: Some(format!("{:x}", member.id)),
            zone: member
                .pod
                .as_ref()
                .and_then(|pod| observed.pods.get(pod)?.zone.clone()),
            node: member
                .pod
                .as_ref()
                .and_then(|pod| observed.node_of(pod).map(str::to_owned)),
            role: if member.is_learner {
                MemberRole::Learner
            } else {
                MemberRole::Voter
            },
            healthy: member.is_healthy(),
            version: member.status.as_ref().map(|status| status.version.clone()),
            database_bytes: member
                .status
                .as_ref()
                .map(|status| in_steps(status.database_bytes)),
            revision: None,
        })
        .collect();
    all.sort_by(|one, other| one.pod.cmp(&other.pod));
    all
}

fn trust_of(observed: &Observed) -> Option<EtcdTrust> {
    let Trust { revision, phase, .. } = &observed.trust;
    Some(EtcdTrust {
        revision: revision.clone()?,
        phase: *phase,
    })
}

/// Without a quorum: who would have the newest data.
fn silent(observed: &Observed, members: &[EtcdMember]) -> Vec<EtcdMember> {
    members
        .iter()
        .cloned()
        .map(|member| EtcdMember {
            healthy: false,
            revision: observed.alone.get(&member.pod).map(|status| status.revision),
            ..member
        })
        .collect()
}

fn in_steps(bytes: i64) -> i64 {
    (bytes.max(1) + SIZE_STEP - 1) / SIZE_STEP * SIZE_STEP
}

fn common_version(members: &Membership) -> Option<String> {
    let mut versions = members
        .members
        .iter()
        .filter_map(|member| Some(&member.status.as_ref()?.version));
    let first = versions.next()?;
    versions.all(|version| version == first).then(|| first.clone())
}

/// Writes a status over the version of the object that was read; a conflict means: observe again.
pub async fn write_status(
    client: &Client,
    object: &EtcdCluster,
    status: &EtcdClusterStatus,
) -> kube::Result<()> {
    if object
        .status
        .as_ref()
        .is_some_and(|before| is_same(before, status))
    {
        return Ok(());
    }
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": EtcdCluster::api_version(&()),
        "kind": EtcdCluster::kind(&()),
        "metadata": {
            "name": object.name_any(),
            "namespace": object.namespace(),
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
        },
        "status": status,
    });
    let params = PatchParams::apply(&labels::field_manager(CONTROLLER)).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(body))
        .await
        .map(drop)
}

/// The API keeps conditions in the order of their first writing.
fn is_same(before: &EtcdClusterStatus, after: &EtcdClusterStatus) -> bool {
    let sorted = |status: &EtcdClusterStatus| {
        let mut status = status.clone();
        status
            .conditions
            .sort_by(|one, other| one.type_.cmp(&other.type_));
        status
    };
    sorted(before) == sorted(after)
}

/// When to look again.
pub fn outcome(observed: &Observed, action: &Action) -> Outcome {
    match action {
        Action::Done if is_filling(observed) => Outcome::waiting("nothing, but its database fills", FILLING),
        Action::Done => Outcome::Converged,
        Action::Wait { what, on } => {
            let retry = match on {
                Signal::Watch => WATCH_FALLBACK,
                Signal::Turn => TURN,
                Signal::Person => PERSON,
                Signal::Etcd if !observed.bootstrapped => ASK_AT_ONCE,
                Signal::Etcd if observed.intent.is_some() || is_under_way(observed) => ASK_SOON,
                Signal::Etcd => ASK_LATER,
            };
            Outcome::waiting(what.clone(), retry)
        }
        _ => Outcome::waiting("the next step", ASK_AT_ONCE),
    }
}

fn is_filling(observed: &Observed) -> bool {
    let members = observed.membership.iter().flat_map(|members| &members.members);
    let statuses = members.filter_map(|member| member.status.as_ref());
    let most = statuses.map(|status| status.database_bytes).max().unwrap_or(0);
    u64::try_from(most).unwrap_or(0) > observed.quota_bytes / 100 * FILLING_PERCENT
}

/// Whether the next step waits for nothing but time.
fn is_under_way(observed: &Observed) -> bool {
    let Some(members) = &observed.membership else {
        return false;
    };
    let is_growing = members.voter_count() < observed.desired;
    let is_full = members.has_alarm(AlarmKind::NoSpace);
    members.is_every_voter_healthy() && (is_growing || is_full || made_anew(observed).is_some())
}

#[cfg(test)]
mod tests;
