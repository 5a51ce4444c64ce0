//! Room in the database: a full one is healed, and one with holes is written anew.
//!
//! A member that writes its database anew answers nothing: one at a time, the leader last, all others healthy.

use skep_api::etcd_cluster::MemberAction;

use super::membership::unsettled;
use super::{Action, Signal, latch, wait};
use crate::observed::{AlarmKind, Member, Membership, Observed, PodState};

/// From how many percent of holes on a database is written anew.
const HOLES_PERCENT: i64 = 45;
/// Fewer bytes of holes are not worth it.
const HOLES_BYTES: i64 = 100 << 20;
/// Above so many percent of its quota a database is full again at once.
const FULL_PERCENT: u64 = 95;

/// A full database is never left so: history goes, then the holes, then the alarm, unless the data themselves are too many.
pub(super) fn heal(observed: &Observed, members: &Membership) -> Option<Action> {
    let mut alarms = members.alarms.iter();
    let alarm = alarms.find(|alarm| alarm.kind == AlarmKind::NoSpace)?;
    let Some(revision) = members.revision() else {
        return Some(wait(Signal::Etcd, "a leader that answers"));
    };
    let Some(freed) = &observed.freed else {
        return Some(Action::Compact { revision });
    };
    if let Some(action) = defragment_next(observed, members) {
        return Some(action);
    }
    if too_many(observed, members).is_some() {
        // What was deleted since is history too.
        return (revision > freed.revision).then_some(Action::Compact { revision });
    }
    // With a larger quota members are made anew first: with the old one the alarm would be raised again.
    let is_stale = |pod: &PodState| observed.is_stale(pod);
    (!observed.pods.values().any(is_stale)).then_some(Action::Disarm(*alarm))
}

/// Waits for a person where the data alone are more than the quota.
pub(super) fn too_full(observed: &Observed, members: &Membership) -> Option<Action> {
    members.has_alarm(AlarmKind::NoSpace).then_some(())?;
    let bytes = too_many(observed, members)?;
    let text = format!(
        "a person: the data take {} MiB of spec.quotaBytes, {} MiB: delete some, or raise it",
        bytes >> 20,
        observed.quota_bytes >> 20
    );
    Some(wait(Signal::Person, text))
}

/// The bytes of the largest database without holes, where they leave no room.
fn too_many(observed: &Observed, members: &Membership) -> Option<u64> {
    let statuses = members.members.iter().filter_map(|member| member.status.as_ref());
    let most = statuses.map(|status| status.database_bytes).max()?;
    let most = u64::try_from(most).ok()?;
    (most > observed.quota_bytes / 100 * FULL_PERCENT).then_some(most)
}

/// Begins with the next database that has holes.
pub(super) fn defragment_next(observed: &Observed, members: &Membership) -> Option<Action> {
    let order = |member: &&Member| members.leader == Some(member.id);
    let next = members
        .voters()
        .filter(|member| has_holes(observed, members, member))
        .min_by_key(order)?;
    let pod = next.pod.as_deref()?;
    Some(unsettled(observed, members).unwrap_or_else(|| latch(MemberAction::Defragment, pod)))
}

/// Goes on with a member whose turn it is.
pub(super) fn defragment(observed: &Observed, members: &Membership, member: &Member, pod: &str) -> Action {
    if !has_holes(observed, members, member) || unsettled(observed, members).is_some() {
        return Action::ClearIntent;
    }
    let follower = members.voters().find(|other| other.id != member.id);
    match follower {
        Some(follower) if members.leader == Some(member.id) => Action::MoveLeader { to: follower.id },
        _ => Action::Defragment { pod: pod.to_owned() },
    }
}

fn has_holes(observed: &Observed, members: &Membership, member: &Member) -> bool {
    if members.has_alarm(AlarmKind::NoSpace) {
        let freed = observed.freed.as_ref();
        return freed.is_some_and(|freed| !freed.members.contains(&member.id));
    }
    let Some(status) = &member.status else {
        return false;
    };
    let holes = status.database_bytes - status.used_bytes;
    let percent = holes.saturating_mul(100) / status.database_bytes.max(1);
    percent >= HOLES_PERCENT && holes >= HOLES_BYTES
}
