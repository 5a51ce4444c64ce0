//! What is signed, what is refused and with which field, and what is left alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::certificate_request::BoundedGroup;
use skep_pki::{CertificatePem, describe, new_request};

use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn request() -> CertificateRequest {
    let (_, pem) = new_request("anybody", &["anything"]).unwrap();
    let spec = CertificateRequestSpec {
        cpid: "cabcdefghi".into(),
        request: pem.as_str().into(),
        ttl_seconds: 3600,
        username: "skep:user:ada".into(),
        groups: vec![BoundedGroup(TENANT_ADMINS.into())],
    };
    let mut request = CertificateRequest::new("r", spec);
    request.metadata.namespace = Some("cp-cabcdefghi".into());
    request.metadata.creation_timestamp = Some(Time(now()));
    request
}

fn status_of(spec: &CertificateRequestSpec) -> CertificateRequestStatus {
    let authority = CertificateAuthority::create("test", now()).unwrap();
    answer(spec, &authority, Some(1), now()).unwrap()
}

#[test]
fn the_subject_comes_from_the_spec() {
    let status = status_of(&request().spec);
    assert!(conditions::is_true(&status.conditions, reasons::ISSUED));
    let certificate = CertificatePem::parse(&status.certificate.unwrap()).unwrap();
    let description = describe(&certificate).unwrap();
    assert_eq!(description.common_name.as_deref(), Some("skep:user:ada"));
    assert_eq!(description.organizations, [TENANT_ADMINS]);
    assert!(description.not_after <= now() + SignedDuration::from_secs(3600));
    assert!(!description.is_authority);
}

#[test]
fn a_refusal_names_its_field() {
    type Change = fn(&mut CertificateRequestSpec);
    let cases: &[(&str, Change)] = &[
        ("spec.username", |s| s.username = "system:admin".into()),
        ("spec.username", |s| s.username = "kubernetes-admin".into()),
        ("spec.username", |s| s.username = "skep:user:".into()),
        ("spec.username", |s| s.username = "skep:user:a\nb".into()),
        ("spec.groups", |s| {
            s.groups.push(BoundedGroup("system:masters".into()));
        }),
        ("spec.groups", |s| s.groups.push(BoundedGroup("ops".into()))),
        ("spec.ttlSeconds", |s| s.ttl_seconds = 86_401),
        ("spec.ttlSeconds", |s| s.ttl_seconds = 0),
        ("spec.request", |s| s.request = "nonsense".into()),
    ];
    for (field, change) in cases {
        let mut spec = request().spec;
        change(&mut spec);
        let status = status_of(&spec);
        let condition = conditions::find(&status.conditions, reasons::ISSUED).unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("False", reasons::REFUSED)
        );
        assert!(condition.message.starts_with(field), "{}", condition.message);
        assert!(status.certificate.is_none());
    }
}

#[test]
fn a_request_is_answered_once_and_removed_after_ten_minutes() {
    let mut one = request();
    assert!(matches!(decide(&one, now()), Decision::Answer(_)));
    one.status = Some(status_of(&one.spec));
    let later = now() + SignedDuration::from_secs(60);
    assert_eq!(decide(&one, later), Decision::Answered(Duration::from_mins(9)));
    assert_eq!(
        decide(&one, now() + SignedDuration::from_secs(600)),
        Decision::Remove
    );
}

#[test]
fn copies_elsewhere_are_left_alone() {
    let mut one = request();
    for namespace in ["skep-cell-local", "cp-cabcdefgh2", "default"] {
        one.metadata.namespace = Some(namespace.into());
        assert_eq!(decide(&one, now()), Decision::Foreign);
        assert_eq!(
            decide(&one, now() + SignedDuration::from_secs(6000)),
            Decision::Foreign
        );
    }
}
