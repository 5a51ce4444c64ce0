//! What is read out of pods, and what is remembered.

use super::*;
use crate::observed::{Member, MemberStatus, Membership};

fn pod_of(text: &str) -> PodState {
    pod_state(&serde_saphyr::from_str::<Pod>(text).unwrap())
}

#[test]
fn a_new_pod_is_gated_and_has_no_address() {
    let state = pod_of(
        "
metadata: {name: etcd-a, uid: u, resourceVersion: '7', annotations: {
  skep.dev/etcd-initial-cluster-state: existing, skep.dev/etcd-initial-cluster: 'etcd-a=https://a:2380'}}
spec: {containers: [], schedulingGates: [{name: skep.dev/etcd}]}
status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', message: gated}]}",
    );
    assert!(state.is_gated && state.address.is_none());
    assert_eq!(state.start, Some(crate::observed::Start::Rejoin));
    assert_eq!(state.trouble.as_deref(), Some("its pod is not scheduled: gated"));
    assert_eq!(state.version, "7");
}

#[test]
fn a_failing_pod_says_why() {
    let state = pod_of(
        "
metadata: {name: etcd-a, uid: u, labels: {topology.kubernetes.io/zone: b}}
spec: {containers: []}
status: {phase: Running, podIP: 10.0.0.1, containerStatuses: [{name: etcd, image: i, imageID: i, ready: false,
  restartCount: 6, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}",
    );
    assert_eq!(
        (state.restarts, state.is_out_of_memory, state.zone.as_deref()),
        (6, true, Some("b"))
    );
    assert_eq!(
        state.trouble.as_deref(),
        Some("its container is in CrashLoopBackOff")
    );
    assert_eq!(state.address.as_deref(), Some("10.0.0.1"));
}

#[test]
fn an_evicted_pod_is_finished() {
    let state =
        pod_of("{metadata: {name: a}, spec: {containers: []}, status: {phase: Failed, podIP: 10.0.0.1}}");
    assert!(state.is_finished && state.address.is_none());
}

fn members(ids: &[u64], silent: &[u64]) -> Membership {
    let member = |id: &u64| Member {
        id: *id,
        status: (!silent.contains(id)).then(|| MemberStatus {
            leader: Some(1),
            ..MemberStatus::default()
        }),
        ..Member::default()
    };
    Membership {
        members: ids.iter().map(member).collect(),
        ..Membership::default()
    }
}

#[test]
fn health_is_counted_from_when_exactly_these_voters_were_healthy() {
    let memory = Memory::default();
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let three = members(&[1, 2, 3], &[]);
    assert_eq!(memory.healthy_for("u", Some(&three), at(0)), Duration::ZERO);
    assert_eq!(
        memory.healthy_for("u", Some(&three), at(6)),
        Duration::from_secs(6)
    );
    assert_eq!(memory.healthy_for("v", Some(&three), at(6)), Duration::ZERO);
    assert_eq!(
        memory.healthy_for("u", Some(&members(&[1, 2, 3], &[2])), at(7)),
        Duration::ZERO
    );
    assert_eq!(memory.healthy_for("u", Some(&three), at(8)), Duration::ZERO);
    assert_eq!(
        memory.healthy_for("u", Some(&members(&[1, 2], &[])), at(20)),
        Duration::ZERO
    );
    assert_eq!(memory.healthy_for("u", None, at(21)), Duration::ZERO);
}
