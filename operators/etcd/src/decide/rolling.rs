//! How members come to what the spec says: one pod after the other is made anew over its volume.
//!
//! What is sick goes first and the leader last; never a healthy member while another is not; never a version that the data
//! cannot be read by. Rules of etcd's upgrade guides.

use skep_api::etcd_backup::BackupReason;
use skep_api::etcd_cluster::MemberAction;

use super::membership::{HOPELESS_RESTARTS, is_gone_for_good, unsettled};
use super::{Action, Signal, backups, delete_pod, latch, trouble, wait};
use crate::observed::{Member, Membership, Observed, PodState, quorum};
use crate::version::{EtcdVersion, Line};

/// Without a quorum only what does not run is made anew: a wrong image must not last for ever.
pub(super) fn without_quorum(observed: &Observed) -> Option<Action> {
    let is_same_line = observed.wanted.version.line() == observed.release.version.line();
    if observed.wanted != observed.release && is_same_line {
        return Some(Action::Adopt(observed.wanted.clone()));
    }
    let is_dead = |pod: &PodState| pod.address.is_none() || pod.restarts >= HOPELESS_RESTARTS;
    let mut recorded = observed.recorded.iter();
    recorded.find_map(|member| {
        let pod = observed.pods.get(&member.pod)?;
        (observed.is_stale(pod) && is_dead(pod) && !pod.is_deleting).then(|| delete_pod(&member.pod, pod))
    })
}

/// What may be needed to end whatever is under way: another release of a line whose data all members read, and members that
/// are down and may run with what the spec says now.
pub(super) fn mend(observed: &Observed, members: &Membership) -> Option<Action> {
    let wanted = observed.wanted.version.line();
    // As long as one member is of the line before, the cluster speaks and writes as that line does.
    let is_way_back = || {
        let mut healthy = members.voters().filter(|member| member.is_healthy());
        healthy.any(|member| version(member).is_some_and(|version| version.line() == wanted))
    };
    let is_readable = wanted == observed.release.version.line()
        || (wanted < observed.release.version.line() && is_way_back());
    // Where nothing is to be mended it can wait for a snapshot.
    let is_whole = || members.members.iter().all(Member::is_healthy);
    let can_wait = || is_whole() && backups::first(observed, BackupReason::BeforeUpgrade).is_some();
    if observed.wanted != observed.release && is_readable && !can_wait() {
        return Some(Action::Adopt(observed.wanted.clone()));
    }
    let is_mendable = |member: &&Member| {
        if member.is_learner {
            member.status.is_none()
        } else {
            !member.is_healthy() && untimely(observed, members, member).is_none()
        }
    };
    let mut down = members.members.iter().filter(is_mendable);
    down.find_map(|member| {
        let name = member.pod.as_deref()?;
        let pod = observed.pods.get(name)?;
        (observed.is_stale(pod) && !pod.is_deleting).then(|| delete_pod(name, pod))
    })
}

/// Takes over what the spec asks for, and begins with the next member.
pub(super) fn begin(observed: &Observed, members: &Membership) -> Option<Action> {
    if observed.wanted != observed.release {
        let action = forbidden(observed)
            .or_else(|| unsettled(observed, members))
            .or_else(|| backups::first(observed, BackupReason::BeforeUpgrade));
        return Some(action.unwrap_or_else(|| Action::Adopt(observed.wanted.clone())));
    }
    let stale = |member: &&Member| {
        let pod = member.pod.as_deref().and_then(|pod| observed.pods.get(pod));
        pod.is_some_and(|pod| observed.is_stale(pod) && !pod.is_deleting)
    };
    let serves = |member: &Member| member.is_healthy() && unready(observed, [member].into_iter()).is_none();
    let order = |member: &&Member| (serves(member), members.leader == Some(member.id));
    if let Some(next) = members.voters().filter(stale).min_by_key(order) {
        let pod = next.pod.as_deref()?;
        return Some(untimely(observed, members, next).unwrap_or_else(|| latch(MemberAction::Restart, pod)));
    }
    wrong_image(observed, members)
}

/// Goes on with a member whose turn it is.
pub(super) fn restart(observed: &Observed, members: &Membership, member: &Member, pod: &str) -> Action {
    let Some(state) = observed.pods.get(pod).filter(|state| !state.is_deleting) else {
        let is_gone = is_gone_for_good(observed, members, member);
        return if is_gone {
            Action::ClearIntent
        } else {
            wait(Signal::Watch, format!("pod {pod} to end"))
        };
    };
    if !observed.is_stale(state) {
        return if is_gone_for_good(observed, members, member) {
            Action::ClearIntent
        } else if member.is_healthy() {
            unready(observed, [member].into_iter()).unwrap_or(Action::ClearIntent)
        } else {
            wait(Signal::Etcd, format!("member {pod}: {}", trouble(observed, pod)))
        };
    }
    if untimely(observed, members, member).is_some() {
        return Action::ClearIntent;
    }
    let follower = members.voters().find(|other| other.id != member.id);
    match follower {
        Some(follower) if members.leader == Some(member.id) => Action::MoveLeader { to: follower.id },
        _ => delete_pod(pod, state),
    }
}

/// Why a member's pod may not be made anew now.
fn untimely(observed: &Observed, members: &Membership, member: &Member) -> Option<Action> {
    if member.is_healthy() || members.voter_count() == 1 {
        let others = members.voters().filter(|other| other.id != member.id);
        let why = unsettled(observed, members).or_else(|| unready(observed, others));
        return why.filter(|_| member.is_healthy());
    }
    // It may be slow rather than dead.
    let others = members.voters().filter(|other| other.id != member.id);
    let healthy = others.filter(|other| other.is_healthy()).count();
    let is_safe = healthy >= quorum(members.voter_count());
    (!is_safe).then(|| wait(Signal::Etcd, "a quorum of healthy members"))
}

/// Etcd says that these are healthy; what speaks to them through Services waits until their nodes say so too.
fn unready<'a>(observed: &Observed, mut members: impl Iterator<Item = &'a Member>) -> Option<Action> {
    let unready = members.find_map(|member| {
        let name = member.pod.as_deref()?;
        let pod = observed.pods.get(name)?;
        (!pod.is_ready).then_some(name)
    })?;
    Some(wait(Signal::Watch, format!("pod {unready} to be ready")))
}

/// Why the release that the spec asks for can never be taken over from this one.
fn forbidden(observed: &Observed) -> Option<Action> {
    let (from, to) = (observed.release.version, observed.wanted.version);
    let why = if to.line() < from.line() {
        format!(
            "data of {} are not read by {}; restore a snapshot into a new cluster",
            from.line(),
            to.line()
        )
    } else if to.line() > from.line().next() {
        format!("one minor version at a time: first to {}", from.line().next())
    } else {
        return None;
    };
    let text = format!("a person: spec.version {to} cannot follow {from}: {why}");
    Some(wait(Signal::Person, text))
}

/// A member that was made anew and still runs another version.
fn wrong_image(observed: &Observed, members: &Membership) -> Option<Action> {
    let wanted: (EtcdVersion, Line) = (observed.release.version, observed.release.version.line());
    let other = members.voters().find_map(|member| {
        let version = version(member).filter(|version| *version != wanted.0)?;
        Some((member.pod.as_deref()?, version))
    })?;
    let text = format!(
        "a person: {} runs {}, so spec.image {} does not hold spec.version {}",
        other.0, other.1, observed.release.image, wanted.0
    );
    Some(wait(Signal::Person, text))
}

fn version(member: &Member) -> Option<EtcdVersion> {
    EtcdVersion::parse(&member.status.as_ref()?.version).ok()
}

#[cfg(test)]
mod tests;
