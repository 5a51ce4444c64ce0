//! Authorities and leaves: what rustls makes of them, and when they are made anew.

use crate::chain::{Role, at, is_valid_for, verify};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use skep_pki::{
    CertificateAuthority, CertificatePem, KeyPem, LEAF_VALIDITY, Leaf, LeafRequest, PkiError, ReissueReason,
    San, Usage, bundle, describe, fingerprint, renewal_due, renewal_time,
};

fn now() -> Timestamp {
    at("2026-11-21T12:00:00.5Z")
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("cluster-ca", now()).unwrap()
}

fn server() -> LeafRequest {
    let names = [
        "kubernetes.default.svc",
        "*.etcd-client.cp-c1.svc",
        "127.0.0.1",
        "fd00::1",
    ];
    LeafRequest::server("kube-apiserver", names.into_iter().map(San::parse).collect())
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

#[test]
fn a_server_verifies_for_its_names_only() {
    let ca = authority();
    let leaf = ca.issue(&server(), now()).unwrap();
    verify(&leaf.certificate, ca.certificate(), Role::Server, now()).unwrap();
    assert!(verify(&leaf.certificate, ca.certificate(), Role::Client, now()).is_err());
    assert!(verify(&leaf.certificate, authority().certificate(), Role::Server, now()).is_err());
    for name in [
        "kubernetes.default.svc",
        "a.etcd-client.cp-c1.svc",
        "127.0.0.1",
        "fd00::1",
    ] {
        assert!(is_valid_for(&leaf.certificate, name), "{name}");
    }
    for name in [
        "kubernetes.default",
        "etcd-client.cp-c1.svc",
        "127.0.0.2",
        "kube-apiserver",
    ] {
        assert!(!is_valid_for(&leaf.certificate, name), "{name}");
    }
}

#[test]
fn a_peer_is_both_and_a_client_only_one() {
    let ca = authority();
    let peer = ca
        .issue(&LeafRequest::peer("etcd", vec![San::parse("a")]), now())
        .unwrap();
    verify(&peer.certificate, ca.certificate(), Role::Server, now()).unwrap();
    verify(&peer.certificate, ca.certificate(), Role::Client, now()).unwrap();
    let client = ca.issue(&LeafRequest::client("u", &["g"]), now()).unwrap();
    verify(&client.certificate, ca.certificate(), Role::Client, now()).unwrap();
    assert!(verify(&client.certificate, ca.certificate(), Role::Server, now()).is_err());
}

#[test]
fn clocks_that_are_five_minutes_behind_accept_it_and_its_end_is_kept() {
    let ca = authority();
    let leaf = ca.issue(&server(), now()).unwrap();
    let verify_at = |time| verify(&leaf.certificate, ca.certificate(), Role::Server, time);
    verify_at(now() - 5.minutes()).unwrap();
    assert!(verify_at(now() - 6.minutes()).is_err());
    verify_at(now() + days(90) - 1.second()).unwrap();
    assert!(verify_at(now() + days(90) + 1.second()).is_err());
}

#[test]
fn several_organizations_stay_in_order() {
    let request = LeafRequest::client("kubernetes-admin", &["b", "a", "skep:tenant-admins"]);
    let leaf = authority().issue(&request, now()).unwrap();
    let description = describe(&leaf.certificate).unwrap();
    assert_eq!(description.organizations, ["b", "a", "skep:tenant-admins"]);
    assert_eq!(description.common_name.as_deref(), Some("kubernetes-admin"));
}

#[test]
fn a_description_says_what_was_asked() {
    let ca = authority();
    let leaf = ca.issue(&server(), now()).unwrap();
    let description = describe(&leaf.certificate).unwrap();
    assert_eq!(description.sans, server().sans);
    assert_eq!(description.usage, Some(Usage::Server));
    assert_eq!(description.issuer.as_deref(), Some("cluster-ca"));
    assert_eq!(description.not_before, at("2026-11-21T11:55:00Z"));
    assert_eq!(description.not_after, at("2027-02-19T12:00:00Z"));
    assert!(!description.is_authority);
    assert_eq!(description.fingerprint, fingerprint(&leaf.certificate).unwrap());
    assert_eq!(description.fingerprint.len(), 64);

    let description = describe(ca.certificate()).unwrap();
    assert!(description.is_authority);
    assert_eq!(
        description.not_after,
        now().round(jiff::Unit::Minute).unwrap() + days(3650)
    );
}

#[test]
fn renewal_is_due_at_two_thirds() {
    let leaf = authority().issue(&server(), now()).unwrap();
    let due = renewal_time(&leaf.certificate).unwrap();
    let life = days(90) + SignedDuration::from_mins(5);
    assert_eq!(due, at("2026-11-21T11:55:00Z") + life / 3 * 2);
    assert!(!renewal_due(&leaf.certificate, due - 1.second()).unwrap());
    assert!(renewal_due(&leaf.certificate, due).unwrap());
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let ca = authority();
    let late = ca.not_after() - 1.hour();
    let leaf = ca.issue(&server(), late).unwrap();
    assert_eq!(describe(&leaf.certificate).unwrap().not_after, ca.not_after());
    let error = ca.issue(&server(), ca.not_after() + 1.second()).unwrap_err();
    assert!(matches!(error, PkiError::AuthorityExpired), "{error:?}");
}

#[test]
fn one_key_has_another_serial_number_each_time() {
    let ca = authority();
    let (_, request) = skep_pki::new_request("u", &[]).unwrap();
    let subject = skep_pki::Subject {
        username: "u".into(),
        groups: vec![],
    };
    let serial = || {
        let signed = ca
            .sign_request(request.as_str(), &subject, SignedDuration::from_hours(1), now())
            .unwrap();
        describe(&signed).unwrap().serial
    };
    assert_ne!(serial(), serial());
}

#[test]
fn an_authority_is_read_back_whole_or_not_at_all() {
    let ca = authority();
    let read = CertificateAuthority::from_pem(ca.certificate().as_str(), ca.key().expose()).unwrap();
    assert_eq!(read, ca);
    let leaf = read.issue(&server(), now()).unwrap();
    verify(&leaf.certificate, ca.certificate(), Role::Server, now()).unwrap();

    let other = authority();
    let refused = |certificate: &CertificatePem, key: &KeyPem| {
        CertificateAuthority::from_pem(certificate.as_str(), key.expose()).unwrap_err()
    };
    assert!(matches!(
        refused(ca.certificate(), other.key()),
        PkiError::KeyMismatch
    ));
    assert!(matches!(
        refused(&leaf.certificate, &leaf.key),
        PkiError::NotAuthority
    ));
    let truncated = &ca.certificate().as_str()[..200];
    assert!(CertificateAuthority::from_pem(truncated, ca.key().expose()).is_err());
    let two = bundle([ca.certificate(), other.certificate()]);
    assert!(CertificateAuthority::from_pem(&two, ca.key().expose()).is_err());
}

#[test]
fn each_change_is_a_reason_to_reissue() {
    let (ca, other) = (authority(), authority());
    let request = LeafRequest {
        organizations: vec!["g".into()],
        ..server()
    };
    let leaf = ca.issue(&request, now()).unwrap();
    assert_eq!(leaf.reissue_reason(&ca, &request, now()), None);
    // The order of names says nothing.
    let reversed = LeafRequest {
        sans: request.sans.iter().rev().cloned().collect(),
        ..request.clone()
    };
    assert_eq!(leaf.reissue_reason(&ca, &reversed, now()), None);

    let changed = |request: LeafRequest| leaf.reissue_reason(&ca, &request, now());
    assert_eq!(
        changed(LeafRequest {
            common_name: "x".into(),
            ..request.clone()
        }),
        Some(ReissueReason::OtherSubject)
    );
    assert_eq!(
        changed(LeafRequest {
            organizations: vec![],
            ..request.clone()
        }),
        Some(ReissueReason::OtherSubject)
    );
    assert_eq!(
        changed(LeafRequest {
            sans: vec![],
            ..request.clone()
        }),
        Some(ReissueReason::OtherNames)
    );
    assert_eq!(
        changed(LeafRequest {
            usage: Usage::Peer,
            ..request.clone()
        }),
        Some(ReissueReason::OtherUsage)
    );
    assert_eq!(
        leaf.reissue_reason(&other, &request, now()),
        Some(ReissueReason::OtherAuthority)
    );
    assert_eq!(
        leaf.reissue_reason(&ca, &request, now() + days(61)),
        Some(ReissueReason::RenewalDue)
    );
    let mixed = Leaf {
        certificate: leaf.certificate.clone(),
        key: ca.issue(&request, now()).unwrap().key,
    };
    assert_eq!(
        mixed.reissue_reason(&ca, &request, now()),
        Some(ReissueReason::KeyMismatch)
    );
}

#[test]
fn keys_never_show() {
    let ca = authority();
    let leaf = ca.issue(&server(), now()).unwrap();
    let secret = |key: &KeyPem| key.expose().lines().nth(1).unwrap().to_owned();
    for text in [format!("{ca:?}"), format!("{leaf:?}")] {
        assert!(
            !text.contains(&secret(ca.key())) && !text.contains(&secret(&leaf.key)),
            "{text}"
        );
        assert!(text.contains("KeyPem(redacted)"));
    }
    let error =
        KeyPem::parse("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n").unwrap_err();
    assert!(!format!("{error:?}").contains("c2VjcmV0"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_valid_name_comes_back(name in "[^\\p{C}]{1,60}", groups in prop::collection::vec("[^\\p{C}]{1,60}", 0..5)) {
        let request = LeafRequest {
            common_name: name.clone(), organizations: groups.clone(), sans: vec![], usage: Usage::Client, ttl: LEAF_VALIDITY,
        };
        let ca = authority();
        let leaf = ca.issue(&request, now()).unwrap();
        let description = describe(&leaf.certificate).unwrap();
        prop_assert_eq!(description.common_name, Some(name));
        prop_assert_eq!(description.organizations, groups);
        verify(&leaf.certificate, ca.certificate(), Role::Client, now()).unwrap();
    }

    #[test]
    fn any_text_is_a_name_or_an_error(name in ".{0,300}", san in ".{0,80}") {
        let request = LeafRequest::server(&name, vec![San::parse(&san)]);
        if let Ok(leaf) = authority().issue(&request, now()) {
            prop_assert_eq!(describe(&leaf.certificate).unwrap().sans, request.sans);
        }
    }
}
