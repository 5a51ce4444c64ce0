//! What a release may follow, and who is made anew first.

use skep_api::etcd_cluster::{MemberAction, MemberIntent};

use super::super::model::three;
use super::super::{Action, Signal, decide};
use crate::observed::{Alarm, AlarmKind, Observed};
use crate::version::{EtcdVersion, Release};

fn release(version: &str) -> Release {
    Release {
        version: EtcdVersion::parse(version).unwrap(),
        image: format!("localhost/etcd:{version}"),
    }
}

/// Three healthy members of a version, of which the spec wants another.
fn from_to(from: &str, to: &str) -> Observed {
    let mut observed = three();
    observed.release = release(from);
    observed.wanted = release(to);
    for member in &mut observed.membership.as_mut().unwrap().members {
        member.status.as_mut().unwrap().version = from.to_owned();
    }
    observed
}

#[test]
fn a_release_that_cannot_follow_is_told_with_the_reason() {
    for (from, to, why) in [
        ("3.7.3", "3.6.14", "data of 3.7 are not read by 3.6"),
        ("3.5.33", "3.7.3", "first to 3.6"),
    ] {
        let Action::Wait {
            what,
            on: Signal::Person,
        } = decide(&from_to(from, to))
        else {
            panic!("{from} to {to} is taken over");
        };
        assert!(what.contains(why), "{what}");
    }
    for (from, to) in [("3.6.14", "3.7.3"), ("3.7.3", "3.7.4"), ("3.7.3", "3.7.2")] {
        assert_eq!(decide(&from_to(from, to)), Action::Adopt(release(to)));
    }
}

#[test]
fn a_minor_version_goes_back_only_while_a_member_still_runs_it() {
    let mut observed = from_to("3.7.3", "3.6.14");
    let members = &mut observed.membership.as_mut().unwrap().members;
    members[0].status.as_mut().unwrap().version = "3.6.14".to_owned();
    assert_eq!(decide(&observed), Action::Adopt(release("3.6.14")));
}

#[test]
fn another_minor_version_waits_for_every_member() {
    let mut observed = from_to("3.6.14", "3.7.3");
    observed.membership.as_mut().unwrap().members[1].status = None;
    let Action::Wait {
        what,
        on: Signal::Etcd,
    } = decide(&observed)
    else {
        panic!("it does not wait");
    };
    assert!(what.contains("m-"), "{what}");
}

#[test]
fn an_image_that_does_not_hold_the_version_is_told() {
    let mut observed = from_to("3.6.14", "3.6.14");
    observed.release = release("3.7.3");
    observed.wanted = release("3.7.3");
    let Action::Wait {
        what,
        on: Signal::Person,
    } = decide(&observed)
    else {
        panic!("nobody is told");
    };
    assert!(
        what.contains("runs 3.6.14") && what.contains("localhost/etcd:3.7.3"),
        "{what}"
    );
}

#[test]
fn a_member_that_is_down_gets_what_the_spec_says_now_even_while_the_database_is_full() {
    let mut observed = from_to("3.7.3", "3.7.3");
    let members = observed.membership.as_mut().unwrap();
    let down = members
        .members
        .iter_mut()
        .find(|member| Some(member.id) != members.leader)
        .unwrap();
    down.status = None;
    let pod = down.pod.clone().unwrap();
    members.alarms.push(Alarm {
        member: 1,
        kind: AlarmKind::NoSpace,
    });
    assert!(matches!(decide(&observed), Action::Compact { .. }));
    observed.pods.get_mut(&pod).unwrap().revision = Some("of a smaller limit".to_owned());
    assert!(matches!(decide(&observed), Action::DeletePod { pod: anew, .. } if anew == pod));
}

#[test]
fn no_member_is_made_anew_while_another_is_not_ready_for_its_node() {
    let mut observed = from_to("3.7.3", "3.7.3");
    let names: Vec<String> = observed.pods.keys().cloned().collect();
    for pod in observed.pods.values_mut() {
        pod.revision = Some("of yesterday".to_owned());
    }
    assert!(matches!(decide(&observed), Action::Latch(_)));
    observed.pods.get_mut(&names[1]).unwrap().is_ready = false;
    // It goes first itself.
    match decide(&observed) {
        Action::Latch(intent) => assert_eq!(intent.pod, names[1]),
        other => panic!("{other:?}"),
    }
    observed.pods.get_mut(&names[1]).unwrap().revision = Some(observed.revision.clone());
    match decide(&observed) {
        Action::Wait { what, .. } => assert_eq!(what, format!("pod {} to be ready", names[1])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_member_that_was_made_anew_is_waited_for_until_its_node_says_that_it_is_ready() {
    let mut observed = from_to("3.7.3", "3.7.3");
    let pod = observed.pods.keys().next().unwrap().clone();
    observed.intent = Some(MemberIntent {
        action: MemberAction::Restart,
        pod: pod.clone(),
    });
    assert_eq!(decide(&observed), Action::ClearIntent);
    observed.pods.get_mut(&pod).unwrap().is_ready = false;
    match decide(&observed) {
        Action::Wait { what, .. } => assert_eq!(what, format!("pod {pod} to be ready")),
        other => panic!("{other:?}"),
    }
}
