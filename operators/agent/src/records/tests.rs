use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::ControlPlaneStatus;

use super::*;

const UID: &str = "00000000-0000-4000-8000-000000000020";

fn cell() -> CellName {
    "local".parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn record() -> DeploymentRecord {
    serde_saphyr::from_str(include_str!("../../tests/fixtures/record.yaml")).unwrap()
}

fn deleting() -> DeploymentRecord {
    let mut record = record();
    record.metadata.deletion_timestamp = Some(Time(now()));
    record
}

/// The control plane as the API returns it after the agent wrote it.
fn plane() -> ControlPlane {
    let mut plane = build_control_plane(&cell(), &record(), None);
    plane.metadata.uid = Some(UID.to_owned());
    plane.metadata.generation = Some(7);
    plane
}

fn going() -> ControlPlane {
    let mut plane = plane();
    plane.metadata.deletion_timestamp = Some(Time(now()));
    plane
}

fn anothers() -> ControlPlane {
    let mut plane = plane();
    "another".clone_into(&mut plane.spec.tenant.uid);
    plane
}

/// The control plane with what its operator says of `generation`.
fn said(generation: i64, ready: ConditionStatus, reason: &str, message: &str) -> ControlPlane {
    let mut plane = plane();
    plane.status = Some(ControlPlaneStatus {
        observed_generation: Some(generation),
        version: Some("1.36.3".to_owned()),
        endpoint: None,
        certificate_authority: Some("the certificate".to_owned()),
        conditions: Conditions::new(&[], Some(generation), now())
            .set(
                "DatastoreReady",
                ConditionStatus::True,
                "AsDesired",
                "1 of 1 members",
            )
            .set("Ready", ready, reason, message)
            .build(),
    });
    plane
}

fn ready() -> ControlPlane {
    said(7, ConditionStatus::True, "AsDesired", "the control plane serves")
}

fn check(name: &str, value: &impl serde::Serialize) {
    insta::with_settings!({snapshot_path => "../../tests/golden", prepend_module_to_snapshot => false}, {
        insta::assert_yaml_snapshot!(name, value);
    });
}

#[test]
fn a_record_becomes_a_control_plane() {
    let Decision::Apply(built) = decide(&cell(), &record(), None) else {
        panic!("nothing is written")
    };
    check("control-plane", &*built);
}

#[test]
fn a_record_that_is_written_is_not_written_again() {
    assert_eq!(decide(&cell(), &record(), Some(&plane())), Decision::Keep);
    let mut others = plane();
    others.labels_mut().insert("somebody".into(), "else".into());
    assert_eq!(decide(&cell(), &record(), Some(&others)), Decision::Keep);
}

#[test]
fn whatever_differs_is_written_onto_that_very_object() {
    let mut record = record();
    "fedcba9876543210".clone_into(&mut record.spec.revision);
    let mut unlabelled = plane();
    unlabelled.labels_mut().clear();
    let mut drifted = plane();
    drifted.spec.api_server.replicas = 9;
    for (record, plane) in [
        (record, plane()),
        (self::record(), unlabelled),
        (self::record(), drifted),
    ] {
        let Decision::Apply(built) = decide(&cell(), &record, Some(&plane)) else {
            panic!("nothing is written")
        };
        assert_eq!(built.metadata.uid.as_deref(), Some(UID));
        assert_eq!(built.annotations()[REVISION], record.spec.revision);
    }
}

#[test]
fn only_what_the_record_made_is_deleted() {
    assert_eq!(decide(&cell(), &deleting(), Some(&plane())), Decision::Delete);
    assert_eq!(decide(&cell(), &deleting(), Some(&going())), Decision::Await);
    assert_eq!(decide(&cell(), &deleting(), None), Decision::Gone);
    assert_eq!(decide(&cell(), &deleting(), Some(&anothers())), Decision::Gone);
}

#[test]
fn a_predecessor_is_never_written_to() {
    assert_eq!(decide(&cell(), &record(), Some(&going())), Decision::Await);
    let refusal = "the control plane of this cpid is another tenant's";
    assert_eq!(
        decide(&cell(), &record(), Some(&anothers())),
        Decision::Refuse(refusal)
    );
    let mut anothers = anothers();
    anothers.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(decide(&cell(), &record(), Some(&anothers)), Decision::Await);
}

#[test]
fn a_record_that_contradicts_itself_is_refused_and_can_be_deleted() {
    let mut misnamed = record();
    misnamed.metadata.name = Some("cbbbbbbbbb".to_owned());
    let mut foreign = record();
    "another".clone_into(&mut foreign.spec.control_plane.tenant.uid);
    for mut record in [misnamed, foreign] {
        assert!(matches!(decide(&cell(), &record, None), Decision::Refuse(_)));
        record.metadata.deletion_timestamp = Some(Time(now()));
        assert_eq!(decide(&cell(), &record, None), Decision::Gone);
    }
}

#[test]
fn a_control_plane_that_says_nothing_is_waited_for() {
    check(
        "status-waiting",
        &build_status(&record(), Finding::Standing(&plane()), now()),
    );
}

#[test]
fn what_a_control_plane_says_goes_up() {
    let wait = "waiting for etcd";
    let coming = said(7, ConditionStatus::False, "Waiting", wait);
    check(
        "status-coming-up",
        &build_status(&record(), Finding::Standing(&coming), now()),
    );
    check(
        "status-ready",
        &build_status(&record(), Finding::Standing(&ready()), now()),
    );
}

#[test]
fn what_is_said_of_an_earlier_spec_is_not_said_of_this_one() {
    let mut later = ready();
    later.metadata.generation = Some(8);
    let status = build_status(&record(), Finding::Standing(&later), now());
    assert_eq!(status.observed_revision, None);
    assert_eq!(status.conditions[0].reason, reasons::WAITING);

    let mut record = record();
    "fedcba9876543210".clone_into(&mut record.spec.revision);
    let status = build_status(&record, Finding::Standing(&ready()), now());
    assert_eq!(status.observed_revision.as_deref(), Some("0123456789abcdef"));
    assert_eq!(status.conditions[0].reason, reasons::WAITING);
}

#[test]
fn a_revision_once_made_true_stays_until_the_next_is() {
    let mut record = record();
    record.status = Some(build_status(&record, Finding::Standing(&ready()), now()));
    let failing = said(7, ConditionStatus::False, "NoQuorum", "1 of 3 members");
    let status = build_status(&record, Finding::Standing(&failing), now());
    assert_eq!(status.observed_revision.as_deref(), Some("0123456789abcdef"));
    assert_eq!(status.conditions[0].reason, "NoQuorum");
}

#[test]
fn a_removal_is_told_step_by_step() {
    let mut plane = said(
        7,
        ConditionStatus::False,
        "Deleting",
        "left to remove: pod etcd-abcde",
    );
    plane.metadata.deletion_timestamp = Some(Time(now()));
    check(
        "status-removing",
        &build_status(&deleting(), Finding::Removing(&plane), now()),
    );
    check("status-gone", &build_status(&deleting(), Finding::Gone, now()));
}

#[test]
fn a_refusal_keeps_what_was_known() {
    let mut record = record();
    record.status = Some(build_status(&record, Finding::Standing(&ready()), now()));
    let status = build_status(&record, Finding::Refused("network is immutable"), now());
    check("status-refused", &status);
}

#[test]
fn the_same_finding_gives_the_same_status() {
    let later: Timestamp = "2026-11-01T11:00:00Z".parse().unwrap();
    let (plane, ready) = (plane(), ready());
    for finding in [
        Finding::Standing(&plane),
        Finding::Standing(&ready),
        Finding::Removing(&plane),
        Finding::Gone,
        Finding::Refused("why"),
    ] {
        let mut record = record();
        record.status = Some(build_status(&record, finding, now()));
        assert_eq!(
            record.status,
            Some(build_status(&record, finding, later)),
            "{finding:?}"
        );
    }
}
