//! How a formed cluster gets and keeps its members: one change at a time, each through a learner.
//!
//! Never a step that could take the quorum; never a volume of a member; never the leader first.

use skep_api::etcd_cluster::{MemberAction, MemberIntent, MemberRole, VolumePolicy};

use super::{
    Action, Signal, backups, clear_finished_pod, delete_pod, latch, prepare, restore, rolling, rotation,
    space, trouble, wait,
};
use crate::observed::{AlarmKind, Member, Membership, Observed, PodState, SETTLED, Start, quorum};

/// After so many restarts a member that never answers is given up, where the others can do without it.
pub(super) const HOPELESS_RESTARTS: i32 = 5;

/// Etcd does not answer: nothing but pods over the volumes of known members may be made.
pub(super) fn without_quorum(observed: &Observed) -> Action {
    if let Some(action) = clear_finished_pod(observed).or_else(|| rolling::without_quorum(observed)) {
        return action;
    }
    for member in &observed.recorded {
        let has_volume = observed
            .claims
            .get(&member.pod)
            .is_some_and(|claim| !claim.is_deleting);
        if has_volume && !observed.pods.contains_key(&member.pod) {
            return Action::StartMember {
                pod: member.pod.clone(),
                start: Start::Rejoin,
            };
        }
        // A learner that has never started must join, and for that it needs the others.
        let is_safe = |pod: &&PodState| member.role == MemberRole::Voter || pod.start == Some(Start::Rejoin);
        let held = observed
            .pods
            .get(&member.pod)
            .filter(|pod| pod.is_gated)
            .filter(is_safe);
        if let Some(action) = held.and_then(|pod| prepare(&member.pod, pod, &Start::Rejoin)) {
            return action;
        }
    }
    if let Some(lost) = observed
        .recorded
        .iter()
        .find(|member| !observed.claims.contains_key(&member.pod))
    {
        let text = format!(
            "a quorum; the volume of {} is gone, so the data may have to be restored",
            lost.pod
        );
        return wait(Signal::Etcd, text);
    }
    let silent = observed.recorded.iter().map(|member| &member.pod);
    let reasons: Vec<String> = silent
        .map(|pod| format!("{pod}: {}", trouble(observed, pod)))
        .take(3)
        .collect();
    wait(
        Signal::Etcd,
        format!("a quorum of members ({})", reasons.join("; ")),
    )
}

/// Etcd answers.
pub(super) fn with_quorum(observed: &Observed, members: &Membership) -> Action {
    if members.has_alarm(AlarmKind::Corrupt) {
        return wait(
            Signal::Person,
            "a person: etcd has raised the alarm CORRUPT, nothing is changed",
        );
    }
    if let Some(stranger) = members.members.iter().find(|member| member.pod.is_none()) {
        let text = format!(
            "a person: member {:x} at {} is none of ours",
            stranger.id, stranger.peer_url
        );
        return wait(Signal::Person, text);
    }
    let next = clear_finished_pod(observed)
        .or_else(|| keep_pods(observed, members))
        .or_else(|| keep_starts(observed, members))
        .or_else(|| rolling::mend(observed, members))
        .or_else(|| {
            observed
                .intent
                .as_ref()
                .map(|intent| go_on(observed, members, intent))
        })
        .or_else(|| begin(observed, members))
        .or_else(|| space::heal(observed, members))
        // Before what may have to wait for its turn.
        .or_else(|| backups::next(observed))
        .or_else(|| rolling::begin(observed, members))
        .or_else(|| space::too_full(observed, members))
        .or_else(|| space::defragment_next(observed, members))
        .or_else(|| rotation::next(observed, members))
        .or_else(|| backups::next_drill(observed))
        .unwrap_or_else(|| rest(observed, members));
    match next {
        Action::Wait { .. } => backups::next(observed).unwrap_or(next),
        next => next,
    }
}

/// A member without a pod gets one over its own volume; one that never started gets its first volume.
///
/// A pod that was made on a view of yesterday may have lost its claim since: it can never run.
fn keep_pods(observed: &Observed, members: &Membership) -> Option<Action> {
    let removing = removed_pod(observed);
    members.members.iter().find_map(|member| {
        let name = member.pod.as_deref().filter(|name| removing != Some(*name))?;
        let claim = observed.claims.get(name);
        match observed.pods.get(name) {
            Some(pod) if claim.is_some() || pod.is_deleting || pod.address.is_some() => return None,
            Some(pod) if member.is_started => return Some(delete_pod(name, pod)),
            _ => {}
        }
        let may_start = match claim {
            Some(claim) => !claim.is_deleting,
            None => !member.is_started,
        };
        may_start.then(|| Action::StartMember {
            pod: name.to_owned(),
            start: wanted_start(member, members),
        })
    })
}

/// A member that has started may never again start with an empty volume; one that has not joins today's members.
///
/// A pod that is held back and was made on a view of yesterday is not let go.
fn keep_starts(observed: &Observed, members: &Membership) -> Option<Action> {
    members.members.iter().find_map(|member| {
        let name = member.pod.as_deref()?;
        let pod = observed.pods.get(name)?;
        if pod.is_gated && observed.is_stale(pod) && !pod.is_deleting {
            return Some(delete_pod(name, pod));
        }
        prepare(name, pod, &wanted_start(member, members))
    })
}

fn wanted_start(member: &Member, members: &Membership) -> Start {
    if member.is_started {
        Start::Rejoin
    } else {
        Start::Join(members.join_list())
    }
}

fn removed_pod(observed: &Observed) -> Option<&str> {
    let intent = observed.intent.as_ref()?;
    (intent.action == MemberAction::Remove).then_some(intent.pod.as_str())
}

/// Goes on with what was begun.
fn go_on(observed: &Observed, members: &Membership, intent: &MemberIntent) -> Action {
    let member = members.of_pod(&intent.pod);
    match (intent.action, member) {
        (MemberAction::Add, None) => add(observed, members, &intent.pod),
        (MemberAction::Add, Some(member)) if member.is_learner => {
            promote(observed, members, member, &intent.pod)
        }
        (MemberAction::Remove, Some(member)) => remove(observed, members, member, &intent.pod),
        (MemberAction::Remove, None) => clean_up(observed, &intent.pod),
        (MemberAction::Restart, Some(member)) => rolling::restart(observed, members, member, &intent.pod),
        (MemberAction::Defragment, Some(member)) => space::defragment(observed, members, member, &intent.pod),
        (MemberAction::Bootstrap, _)
        | (MemberAction::Add, Some(_))
        | (MemberAction::Restart | MemberAction::Defragment, None) => Action::ClearIntent,
    }
}

fn add(observed: &Observed, members: &Membership, pod: &str) -> Action {
    let is_used = observed.pods.contains_key(pod) || observed.claims.contains_key(pod);
    if members.voter_count() >= wanted_voters(observed, members) || is_used {
        return latch(MemberAction::Remove, pod);
    }
    if let Some(gone) = gone_pod(observed, members) {
        return latch(MemberAction::Remove, gone);
    }
    if let Some(other) = members.learner().and_then(|learner| learner.pod.as_deref()) {
        return latch(MemberAction::Add, other);
    }
    match unsettled(observed, members) {
        Some(reason) => reason,
        None => Action::AddLearner { pod: pod.to_owned() },
    }
}

/// Why no member may be added or made anew now.
pub(super) fn unsettled(observed: &Observed, members: &Membership) -> Option<Action> {
    if let Some(silent) = members.silent_voter().and_then(|member| member.pod.as_deref()) {
        return Some(wait(
            Signal::Etcd,
            format!("member {silent}: {}", trouble(observed, silent)),
        ));
    }
    if members.members.iter().any(|member| !member.is_started) {
        return Some(wait(Signal::Etcd, "a member that has not started"));
    }
    // A single voter is its own quorum, and etcd asks nothing more of it.
    if members.voter_count() > 1 && observed.healthy_for <= SETTLED {
        return Some(wait(
            Signal::Etcd,
            "all members to be healthy for 5 s before the next change",
        ));
    }
    None
}

fn promote(observed: &Observed, members: &Membership, learner: &Member, pod: &str) -> Action {
    let is_given_up = learner.status.is_none() && is_leaving(observed, learner);
    let will_never_vote = is_lost(observed, learner) || is_hopeless(observed, learner) || is_given_up;
    if members.voter_count() >= wanted_voters(observed, members) || will_never_vote {
        return latch(MemberAction::Remove, pod);
    }
    // What else is wrong does not wait for a pod that may find no node.
    if !learner.is_started {
        if members.has_alarm(AlarmKind::NoSpace) && members.voter_count() >= observed.desired {
            return latch(MemberAction::Remove, pod);
        }
        if let Some(gone) = gone_pod(observed, members).filter(|gone| *gone != pod) {
            return latch(MemberAction::Remove, gone);
        }
    }
    if learner.is_healthy() {
        return Action::Promote {
            id: learner.id,
            pod: pod.to_owned(),
        };
    }
    wait(Signal::Etcd, format!("learner {pod}: {}", trouble(observed, pod)))
}

fn remove(observed: &Observed, members: &Membership, member: &Member, pod: &str) -> Action {
    if member.is_learner {
        return Action::RemoveMember {
            id: member.id,
            pod: pod.to_owned(),
        };
    }
    let others = members.voter_count() - 1;
    let healthy = members
        .voters()
        .filter(|other| other.id != member.id && other.is_healthy())
        .count();
    if others == 0 {
        return Action::ClearIntent;
    }
    if !is_gone_for_good(observed, members, member) && members.voter_count() <= observed.desired {
        return Action::ClearIntent;
    }
    // What will not come back goes first: the others would be waited for in vain.
    if !is_gone_for_good(observed, members, member)
        && let Some(gone) = gone_pod(observed, members).filter(|gone| *gone != pod)
    {
        return latch(MemberAction::Remove, gone);
    }
    let needed = if member.is_healthy() {
        others
    } else {
        quorum(others)
    };
    if healthy < needed {
        return wait(
            Signal::Etcd,
            format!("the other members to be healthy before {pod} is removed"),
        );
    }
    if members.leader == Some(member.id) {
        let next = members
            .voters()
            .find(|other| other.id != member.id && other.is_healthy());
        return match next {
            Some(next) => Action::MoveLeader { to: next.id },
            None => wait(Signal::Etcd, "another member that can lead"),
        };
    }
    Action::RemoveMember {
        id: member.id,
        pod: pod.to_owned(),
    }
}

/// The member is out: its pod goes, and its volume where the policy says so.
fn clean_up(observed: &Observed, pod: &str) -> Action {
    match observed.pods.get(pod) {
        // On a node that is given up for good its pod never ends; it is no member any more.
        Some(state) if state.is_deleting && observed.is_leaving(pod) => {}
        Some(state) if state.is_deleting => return wait(Signal::Watch, format!("pod {pod} to end")),
        Some(state) => return delete_pod(pod, state),
        None => {}
    }
    match observed.claims.get(pod) {
        Some(claim) if observed.volume_policy == VolumePolicy::Delete && !claim.is_deleting => {
            Action::DeleteClaim {
                pod: pod.to_owned(),
                uid: claim.uid.clone(),
            }
        }
        _ => Action::ClearIntent,
    }
}

/// Begins what is needed next.
fn begin(observed: &Observed, members: &Membership) -> Option<Action> {
    if let Some(learner) = members.learner().and_then(|learner| learner.pod.as_deref()) {
        return Some(latch(MemberAction::Add, learner));
    }
    if let Some(pod) = gone_pod(observed, members) {
        return Some(latch(MemberAction::Remove, pod));
    }
    if let Some(pod) = stray_pod(observed, members) {
        return Some(pod);
    }
    if members.voter_count() < observed.desired {
        return Some(
            unsettled(observed, members).unwrap_or_else(|| latch(MemberAction::Add, &observed.fresh)),
        );
    }
    if members.voter_count() > observed.desired {
        return victim(observed, members).map(|pod| latch(MemberAction::Remove, pod));
    }
    let has_room = !members.has_alarm(AlarmKind::NoSpace);
    let is_one_leaving = has_room && wanted_voters(observed, members) > observed.desired;
    is_one_leaving
        .then(|| unsettled(observed, members).unwrap_or_else(|| latch(MemberAction::Add, &observed.fresh)))
}

/// One more than the spec asks for while a member has to leave its node: its successor joins first.
fn wanted_voters(observed: &Observed, members: &Membership) -> usize {
    let is_one_leaving = members.voters().any(|member| is_leaving(observed, member));
    observed.desired + usize::from(is_one_leaving)
}

fn is_leaving(observed: &Observed, member: &Member) -> bool {
    member.pod.as_deref().is_some_and(|pod| observed.is_leaving(pod))
}

fn rest(observed: &Observed, members: &Membership) -> Action {
    match members.silent_voter().and_then(|member| member.pod.as_deref()) {
        Some(pod) => wait(Signal::Etcd, format!("member {pod}: {}", trouble(observed, pod))),
        None => restore::clean_up(observed).unwrap_or(Action::Done),
    }
}

/// A member that will not come back while others remain: its data are gone, or it fails again and again.
fn gone_pod<'a>(observed: &Observed, members: &'a Membership) -> Option<&'a str> {
    let is_replaceable = |member: &&Member| member.is_learner || members.voter_count() > 1;
    let lost = members
        .members
        .iter()
        .filter(is_replaceable)
        .find(|member| is_lost(observed, member));
    let gone = lost.or_else(|| {
        members
            .voters()
            .find(|member| is_given_up(observed, members, member))
    })?;
    gone.pod.as_deref()
}

fn is_lost(observed: &Observed, member: &Member) -> bool {
    let Some(pod) = member.pod.as_deref() else {
        return false;
    };
    let is_volume_gone = observed.claims.get(pod).is_none_or(|claim| claim.is_deleting);
    member.is_started && is_volume_gone && !observed.pods.contains_key(pod)
}

/// It has restarted again and again and does not answer, and not for want of memory.
fn is_hopeless(observed: &Observed, member: &Member) -> bool {
    let pod = member.pod.as_deref().and_then(|pod| observed.pods.get(pod));
    let is_failing = pod.is_some_and(|pod| pod.restarts >= HOPELESS_RESTARTS && !pod.is_out_of_memory);
    is_failing && member.status.is_none()
}

/// The others can do without it, and it does not come back: it fails again and again, or is silent on a node that no member
/// may be on, as others may be too that were lost with it.
fn is_given_up(observed: &Observed, members: &Membership, member: &Member) -> bool {
    let others = members.voter_count() - 1;
    let all = members.voters().filter(|other| other.id != member.id);
    let healthy = all.filter(|other| other.is_healthy()).count();
    let is_silent =
        || member.status.is_none() && is_leaving(observed, member) && !is_made_anew(observed, member);
    others > 1
        && ((healthy == others && is_hopeless(observed, member))
            || (healthy >= quorum(others) && is_silent()))
}

fn is_made_anew(observed: &Observed, member: &Member) -> bool {
    let intent = observed.intent.as_ref();
    intent.is_some_and(|intent| {
        intent.action == MemberAction::Restart && member.pod.as_deref() == Some(&intent.pod)
    })
}

pub(super) fn is_gone_for_good(observed: &Observed, members: &Membership, member: &Member) -> bool {
    is_lost(observed, member) || is_given_up(observed, members, member)
}

/// A pod of this cluster that is no member.
fn stray_pod(observed: &Observed, members: &Membership) -> Option<Action> {
    let is_stray = |name: &str| members.of_pod(name).is_none();
    let (name, pod) = observed
        .pods
        .iter()
        .find(|(name, pod)| is_stray(name) && !pod.is_deleting)?;
    Some(delete_pod(name, pod))
}

/// Which voter goes first when there are too many: one that has to leave its node, then an unhealthy one, then one whose
/// zone has another; the leader only where it has to leave.
fn victim<'a>(observed: &Observed, members: &'a Membership) -> Option<&'a str> {
    let zone = |pod: &str| observed.pods.get(pod).and_then(|state| state.zone.as_deref());
    let shares_zone = |member: &Member| {
        let own = member.pod.as_deref().and_then(zone);
        let others = members.voters().filter(|other| other.id != member.id);
        own.is_some()
            && others
                .filter_map(|other| other.pod.as_deref())
                .any(|pod| zone(pod) == own)
    };
    let leads = |member: &Member| members.leader == Some(member.id);
    let able = members
        .voters()
        .filter(|member| !leads(member) || is_leaving(observed, member));
    let first = able.min_by_key(|member| {
        let stays = !is_leaving(observed, member);
        let pod = member.pod.as_deref();
        (
            stays,
            member.is_healthy(),
            leads(member),
            !shares_zone(member),
            pod,
        )
    });
    first.and_then(|member| member.pod.as_deref())
}

#[cfg(test)]
mod tests;
