//! Members that have to leave their nodes.

use super::super::decide;
use super::super::model::{five, three};
use super::*;

/// Has a member leave its node; returns its pod.
fn leaves(observed: &mut Observed, index: usize) -> String {
    let pod = pod_of(observed, index);
    let node = observed.node_of(&pod).expect("a node").to_owned();
    observed.avoided_nodes.insert(node);
    pod
}

fn pod_of(observed: &Observed, index: usize) -> String {
    let members = observed.membership.as_ref().expect("members");
    members.members[index].pod.clone().expect("a pod")
}

fn member(observed: &mut Observed, index: usize) -> &mut Member {
    let members = observed.membership.as_mut().expect("members");
    &mut members.members[index]
}

fn is_removed(action: &Action, pod: &str) -> bool {
    *action == latch(MemberAction::Remove, pod)
}

#[test]
fn a_member_that_has_to_leave_gets_a_successor_first() {
    let mut observed = three();
    leaves(&mut observed, 0);
    assert_eq!(decide(&observed), latch(MemberAction::Add, &observed.fresh));
}

#[test]
fn a_learner_whose_node_is_gone_is_given_up_once_it_has_to_leave() {
    let mut observed = three();
    let pod = pod_of(&observed, 2);
    member(&mut observed, 2).is_learner = true;
    member(&mut observed, 2).status = None;
    observed.intent = Some(MemberIntent {
        action: MemberAction::Add,
        pod: pod.clone(),
    });
    assert!(matches!(decide(&observed), Action::Wait { .. }));
    leaves(&mut observed, 2);
    assert!(is_removed(&decide(&observed), &pod), "{:?}", decide(&observed));
}

#[test]
fn two_of_five_that_are_lost_with_their_nodes_are_replaced() {
    let mut observed = five();
    let lost: Vec<String> = [3, 4].map(|index| leaves(&mut observed, index)).to_vec();
    for index in [3, 4] {
        member(&mut observed, index).status = None;
    }
    let action = decide(&observed);
    assert!(lost.iter().any(|pod| is_removed(&action, pod)), "{action:?}");
}

#[test]
fn who_has_to_leave_goes_before_who_is_only_silent() {
    let mut observed = five();
    observed.desired = 3;
    let pod = leaves(&mut observed, 1);
    member(&mut observed, 2).status = None;
    assert!(is_removed(&decide(&observed), &pod), "{:?}", decide(&observed));
}

#[test]
fn a_full_database_does_not_wait_for_a_successor_without_a_node() {
    let mut observed = five();
    observed.desired = 3;
    let pod = pod_of(&observed, 4);
    member(&mut observed, 4).is_learner = true;
    member(&mut observed, 4).is_started = false;
    member(&mut observed, 4).status = None;
    observed.intent = Some(MemberIntent {
        action: MemberAction::Add,
        pod: pod.clone(),
    });
    leaves(&mut observed, 0);
    observed.desired = 4;
    assert!(matches!(
        decide(&observed),
        Action::Wait { .. } | Action::SetStart { .. }
    ));
    let members = observed.membership.as_mut().expect("members");
    members.alarms.push(crate::observed::Alarm {
        member: 1,
        kind: AlarmKind::NoSpace,
    });
    if let Action::SetStart { pod, start, .. } = decide(&observed) {
        observed.pods.get_mut(&pod).expect("its pod").start = Some(start);
    }
    assert!(is_removed(&decide(&observed), &pod), "{:?}", decide(&observed));
}
