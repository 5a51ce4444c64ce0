use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::CertificateRequestSpec;
use skep_api::certificate_request::BoundedGroup;
use skep_runtime::{ConditionStatus, Conditions};

use super::*;

fn cell() -> CellName {
    "local".parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn request() -> CertificateRequest {
    CertificateRequest {
        metadata: ObjectMeta {
            name: Some("kubeconfig-1".into()),
            namespace: Some("skep-cell-local".into()),
            uid: Some("00000000-0000-4000-8000-000000000030".into()),
            creation_timestamp: Some(Time(now())),
            annotations: Some(BTreeMap::from([(
                labels::TRACEPARENT.to_owned(),
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        spec: CertificateRequestSpec {
            cpid: "cabcdefghi".into(),
            request: "a request".into(),
            ttl_seconds: 3600,
            username: "skep:user:me".into(),
            groups: vec![BoundedGroup("skep:tenant-admins".into())],
        },
        status: None,
    }
}

fn copy() -> CertificateRequest {
    build_copy(&cell(), &request())
}

fn answer(issued: ConditionStatus) -> CertificateRequestStatus {
    CertificateRequestStatus {
        certificate: (issued == ConditionStatus::True).then(|| "a certificate".to_owned()),
        certificate_authority: None,
        conditions: Conditions::new(&[], None, now())
            .set(reasons::ISSUED, issued, "Reason", "")
            .build(),
    }
}

fn answered(issued: ConditionStatus) -> CertificateRequest {
    CertificateRequest {
        status: Some(answer(issued)),
        ..copy()
    }
}

fn plane() -> ControlPlane {
    let record: skep_api::DeploymentRecord =
        serde_saphyr::from_str(include_str!("../../tests/fixtures/record.yaml")).unwrap();
    crate::records::build_control_plane(&cell(), &record, None)
}

fn judged(request: Option<&CertificateRequest>, copy: Option<&CertificateRequest>) -> Decision {
    decide(&cell(), request, copy, Some(&plane()), now())
}

#[test]
fn a_request_goes_down_as_it_is() {
    let Decision::Copy(built) = judged(Some(&request()), None) else {
        panic!("nothing is written")
    };
    assert!(is_copy(&built));
    insta::with_settings!({snapshot_path => "../../tests/golden", prepend_module_to_snapshot => false}, {
        insta::assert_yaml_snapshot!("request-copy", &*built);
    });
}

#[test]
fn it_waits_for_its_control_plane() {
    let mut going = plane();
    going.metadata.deletion_timestamp = Some(Time(now()));
    for plane in [None, Some(&going)] {
        assert_eq!(
            decide(&cell(), Some(&request()), None, plane, now()),
            Decision::NoControlPlane
        );
    }
}

#[test]
fn an_answer_goes_up_once() {
    assert_eq!(judged(Some(&request()), Some(&copy())), Decision::Nothing);
    let unknown = answered(ConditionStatus::Unknown);
    assert_eq!(judged(Some(&request()), Some(&unknown)), Decision::Nothing);
    for issued in [ConditionStatus::True, ConditionStatus::False] {
        let copy = answered(issued);
        assert_eq!(
            judged(Some(&request()), Some(&copy)),
            Decision::Answer(answer(issued))
        );
        let told = CertificateRequest {
            status: Some(answer(issued)),
            ..request()
        };
        assert_eq!(judged(Some(&told), Some(&copy)), Decision::Nothing);
    }
}

#[test]
fn a_copy_goes_with_its_request_and_never_comes_again() {
    assert_eq!(judged(None, Some(&copy())), Decision::Remove);
    let mut going = request();
    going.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(judged(Some(&going), Some(&copy())), Decision::Remove);
    assert_eq!(judged(Some(&going), None), Decision::Nothing);
    let mut removed = copy();
    removed.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(judged(None, Some(&removed)), Decision::Nothing);
    let told = CertificateRequest {
        status: Some(answer(ConditionStatus::True)),
        ..request()
    };
    assert_eq!(judged(Some(&told), None), Decision::Nothing);
    let late: Timestamp = "2026-11-01T10:10:00Z".parse().unwrap();
    assert_eq!(
        decide(&cell(), Some(&request()), None, Some(&plane()), late),
        Decision::Nothing
    );
}

#[test]
fn a_namesake_is_another_request() {
    let mut namesake = request();
    namesake.metadata.uid = Some("another".into());
    assert_eq!(
        judged(Some(&namesake), Some(&answered(ConditionStatus::True))),
        Decision::Remove
    );
}

#[test]
fn the_hubs_own_objects_are_no_copies() {
    assert!(!is_copy(&request()));
    let mut labelled = copy();
    labelled.metadata.namespace = Some("skep-cell-local".into());
    assert!(!is_copy(&labelled));
    let mut nameless = copy();
    nameless.metadata.annotations = None;
    assert!(!is_copy(&nameless));
}
