//! What a status says of what was seen.

use std::collections::{BTreeMap, BTreeSet};

use skep_api::etcd_cluster::{MemberAction, MemberIntent, VolumePolicy};

use super::*;
use crate::fixtures::{three, valid};
use crate::observed::{Backups, Member, MemberStatus, PodState, Restore, Trust};

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn seen(voters: usize, silent: usize) -> Observed {
    let member = |index: usize| Member {
        id: index as u64 + 1,
        pod: Some(format!("etcd-{index}")),
        is_started: true,
        status: (index >= silent).then(|| MemberStatus {
            leader: Some(3),
            version: "3.7.3".into(),
            database_bytes: 20_000,
            ..MemberStatus::default()
        }),
        ..Member::default()
    };
    let pod = |index: usize| {
        (
            format!("etcd-{index}"),
            PodState {
                zone: Some(format!("z{index}")),
                revision: Some("r".into()),
                ..PodState::default()
            },
        )
    };
    Observed {
        desired: 3,
        release: valid(&three()).release,
        wanted: valid(&three()).release,
        revision: "r".into(),
        volume_policy: VolumePolicy::Delete,
        bootstrapped: true,
        intent: None,
        recorded: Vec::new(),
        pods: (0..voters).map(pod).collect::<BTreeMap<_, _>>(),
        claims: BTreeMap::new(),
        membership: Some(Membership {
            cluster_id: 255,
            leader: Some(3),
            members: (0..voters).map(member).collect(),
            alarms: Vec::new(),
        }),
        avoided_nodes: BTreeSet::new(),
        fills: None,
        quota_bytes: 1 << 30,
        freed: None,
        healthy_for: Duration::ZERO,
        trust: Trust::default(),
        backups: Backups::default(),
        drills: Drills::default(),
        restore: Restore::default(),
        alone: BTreeMap::new(),
        set_aside: BTreeMap::new(),
        fresh: "etcd-x".into(),
    }
}

fn formed() -> EtcdCluster {
    let mut object = three();
    object.status = Some(EtcdClusterStatus {
        bootstrapped: true,
        ..EtcdClusterStatus::default()
    });
    object
}

fn condition<'a>(status: &'a EtcdClusterStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn three_healthy_members_are_ready() {
    let status = build_status(&formed(), &seen(3, 0), &Action::Done, now());
    assert_eq!(
        condition(&status, "Ready"),
        ("True", "AsDesired", "3 of 3 members vote and serve")
    );
    assert_eq!(condition(&status, SERVING).0, "True");
    assert_eq!(
        (status.ready_members, status.leader.as_deref()),
        (3, Some("etcd-2"))
    );
    assert_eq!(
        (status.version.as_deref(), status.cluster_id.as_deref()),
        (Some("3.7.3"), Some("ff"))
    );
    assert_eq!(status.members[0].database_bytes, Some(SIZE_STEP));
    assert_eq!(status.members[0].zone.as_deref(), Some("z0"));
}

#[test]
fn a_first_member_on_a_node_is_told_to_start_until_it_fails() {
    let action = Action::Wait {
        what: "etcd-0: its pod is starting".into(),
        on: Signal::Etcd,
    };
    let reason = |change: &dyn Fn(&mut PodState)| {
        let mut observed = Observed {
            membership: None,
            bootstrapped: false,
            ..seen(1, 1)
        };
        change(observed.pods.get_mut("etcd-0").unwrap());
        let status = build_status(&three(), &observed, &action, now());
        condition(&status, SERVING).1.to_owned()
    };
    assert_eq!(reason(&|_| ()), "Waiting");
    assert_eq!(reason(&|pod| pod.node = Some("n".to_owned())), "Starting");
    let failed = |pod: &mut PodState| (pod.node, pod.restarts) = (Some("n".to_owned()), 1);
    assert_eq!(reason(&failed), "Waiting");
}

#[test]
fn one_of_three_serves_while_the_others_join() {
    let action = Action::Wait {
        what: "learner etcd-b: its pod is starting".into(),
        on: Signal::Etcd,
    };
    let status = build_status(&formed(), &seen(1, 0), &action, now());
    assert_eq!(
        condition(&status, SERVING),
        ("True", "AsDesired", "1 of 1 voting members serve, with a quorum")
    );
    assert_eq!(condition(&status, "Ready").1, "Waiting");
}

#[test]
fn without_a_quorum_members_are_kept_and_silent() {
    let mut object = formed();
    let before = build_status(&object, &seen(3, 0), &Action::Done, now());
    object.status = Some(EtcdClusterStatus {
        bootstrapped: true,
        ..before
    });
    let unseen = Observed {
        membership: None,
        ..seen(3, 3)
    };
    let action = Action::Wait {
        what: "a quorum".into(),
        on: Signal::Etcd,
    };
    let status = build_status(&object, &unseen, &action, now());
    assert_eq!(
        condition(&status, SERVING),
        ("False", "NoQuorum", "no quorum of members answers")
    );
    assert_eq!(status.members.len(), 3);
    assert!(status.members.iter().all(|member| !member.healthy));
    assert_eq!((status.ready_members, status.bootstrapped), (0, true));
}

#[test]
fn a_status_carries_what_was_recorded() {
    let mut object = formed();
    let intent = MemberIntent {
        action: MemberAction::Add,
        pod: "etcd-x".into(),
    };
    object.status.as_mut().unwrap().intent = Some(intent.clone());
    let status = build_status(&object, &seen(3, 0), &Action::Done, now());
    assert_eq!((status.intent, status.bootstrapped), (Some(intent), true));
    let failed = build_failed_status(&object, "broken", now());
    assert!(failed.bootstrapped && failed.intent.is_some());
    let deleting = build_deleting_status(&object, "pod a to end", now());
    assert!(deleting.bootstrapped);
    assert_eq!(
        condition(&deleting, "Ready"),
        ("False", "Deleting", "waiting for pod a to end")
    );
}

#[test]
fn an_invalid_spec_names_its_field() {
    let invalid = InvalidSpec {
        field: "version",
        why: "1 is no version".into(),
    };
    let status = build_invalid_status(&formed(), &invalid, now());
    assert_eq!(
        condition(&status, "Valid"),
        ("False", "InvalidSpec", "spec.version: 1 is no version")
    );
    assert_eq!(condition(&status, "Ready").1, "InvalidSpec");
}

#[test]
fn the_order_of_conditions_is_no_difference() {
    let status = build_status(&formed(), &seen(3, 0), &Action::Done, now());
    let mut turned = status.clone();
    turned.conditions.reverse();
    assert!(is_same(&status, &turned));
}

#[test]
fn etcd_is_asked_often_only_while_something_changes() {
    let etcd = Action::Wait {
        what: "x".into(),
        on: Signal::Etcd,
    };
    let retry = |observed: &Observed| match outcome(observed, &etcd) {
        Outcome::Waiting { retry, .. } => retry,
        other => panic!("{other:?}"),
    };
    assert_eq!(retry(&seen(3, 1)), ASK_LATER);
    assert_eq!(retry(&seen(1, 0)), ASK_SOON);
    assert_eq!(
        retry(&Observed {
            bootstrapped: false,
            ..seen(1, 0)
        }),
        ASK_AT_ONCE
    );
    assert_eq!(outcome(&seen(3, 0), &Action::Done), Outcome::Converged);
}
