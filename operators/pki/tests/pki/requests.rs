//! Signing requests: the fixtures are made with OpenSSL 3 (`openssl req -new`), so that nothing of the
//! crate under test made what it judges.

use crate::chain::{Role, at, verify};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use skep_pki::{
    CertificateAuthority, KeyKind, LARGEST_REQUEST, RequestError, Subject, Usage, check_request, describe,
    new_request,
};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name, ".csr"))
    };
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:00Z")
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("cluster-ca", now()).unwrap()
}

fn ada() -> Subject {
    Subject {
        username: "skep:user:ada".into(),
        groups: vec!["skep:tenant-admins".into(), "second".into()],
    }
}

fn hour() -> SignedDuration {
    SignedDuration::from_hours(1)
}

/// Both ways to judge must refuse alike.
fn refused(request: &str) -> RequestError {
    let checked = check_request(request).unwrap_err();
    let signed = authority()
        .sign_request(request, &ada(), hour(), now())
        .unwrap_err();
    assert_eq!(checked.reason(), signed.reason());
    assert_eq!(checked.field(), Some("request"));
    assert!(checked.is_refusal());
    checked
}

#[test]
fn strong_keys_are_certified_as_the_given_subject() {
    let ca = authority();
    let cases = [
        (fixture!("rsa-2048"), KeyKind::Rsa { bits: 2048 }),
        (fixture!("p256"), KeyKind::P256),
        (fixture!("p256-sha512"), KeyKind::P256),
        (fixture!("p384"), KeyKind::P384),
        (fixture!("p521"), KeyKind::P521),
        (fixture!("ed25519"), KeyKind::Ed25519),
        (fixture!("empty-subject"), KeyKind::P256),
        (fixture!("harmless"), KeyKind::P256),
    ];
    for (request, kind) in cases {
        let summary = check_request(request).unwrap();
        assert_eq!(summary.key, kind);
        assert_eq!(summary.key_fingerprint.len(), 64);
        let certificate = ca.sign_request(request, &ada(), hour(), now()).unwrap();
        let description = describe(&certificate).unwrap();
        assert_eq!(description.common_name.as_deref(), Some("skep:user:ada"));
        assert_eq!(description.organizations, ["skep:tenant-admins", "second"]);
        assert_eq!(description.usage, Some(Usage::Client));
        assert!(!description.is_authority && description.sans.is_empty());
        verify(&certificate, ca.certificate(), Role::Client, now()).unwrap();
    }
    assert_eq!(
        check_request(fixture!("p256")).unwrap().organizations,
        ["developers"]
    );
}

#[test]
fn the_certified_key_is_the_requests() {
    let (key, request) = new_request("ada", &["developers"]).unwrap();
    let certificate = authority()
        .sign_request(request.as_str(), &ada(), hour(), now())
        .unwrap();
    let leaf = skep_pki::Leaf { certificate, key };
    // A leaf whose key is another's would be a mismatch before anything else.
    let asked = skep_pki::LeafRequest::client("skep:user:ada", &["skep:tenant-admins", "second"]);
    assert_eq!(
        leaf.reissue_reason(&authority(), &asked, now()),
        Some(skep_pki::ReissueReason::OtherAuthority)
    );
}

#[test]
fn weak_keys_are_named() {
    for (request, key) in [
        (fixture!("rsa-1024"), "RSA of 1024 bits"),
        (fixture!("secp256k1"), "ECDSA on curve 1.3.132.0.10"),
        (fixture!("p224"), "ECDSA on curve 1.3.132.0.33"),
        (fixture!("p256-explicit"), "ECDSA on a curve without a name"),
    ] {
        match refused(request) {
            RequestError::WeakKey { key: found } => assert_eq!(found, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    assert_eq!(refused(fixture!("rsa-pss")).reason(), "UnsupportedKey");
    assert_eq!(
        refused(fixture!("rsa-2048-sha1")).reason(),
        "UnsupportedSignature"
    );
}

#[test]
fn reserved_names_are_refused_wherever_they_stand() {
    for (request, attribute, value) in [
        (fixture!("masters"), "organization", "system:masters"),
        (fixture!("masters-second"), "organization", "system:masters"),
        (
            fixture!("system-user"),
            "common name",
            "system:kube-controller-manager",
        ),
    ] {
        match refused(request) {
            RequestError::ReservedName {
                attribute: found,
                value: text,
            } => {
                assert_eq!((found, text.as_str()), (attribute, value));
            }
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn more_than_a_users_certificate_is_refused() {
    assert_eq!(refused(fixture!("names")).reason(), "NamesRequested");
    assert_eq!(refused(fixture!("authority")).reason(), "AuthorityRequested");
}

#[test]
fn what_is_no_request_is_refused_as_what_it_is() {
    let good = fixture!("p256");
    let certificate = authority().certificate().to_string();
    for (case, request, reason) in [
        ("nothing", String::new(), "NotPem"),
        ("garbage", "hello".repeat(50), "NotPem"),
        ("truncated", good[..good.len() / 2].to_owned(), "NotPem"),
        ("a certificate", certificate, "NotCertificateRequest"),
        ("two requests", format!("{good}{good}"), "NotPem"),
        ("text after it", format!("{good}more"), "NotPem"),
        (
            "too large",
            format!("{good}{}", " ".repeat(LARGEST_REQUEST)),
            "RequestTooLarge",
        ),
        (
            "no DER",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".into(),
            "MalformedRequest",
        ),
    ] {
        assert_eq!(refused(&request).reason(), reason, "{case}");
    }
}

#[test]
fn a_changed_request_breaks_its_signature() {
    // "ada" in the subject becomes "adb": still a request, no longer its key's.
    let der = |text: &str| {
        x509_parser::pem::parse_x509_pem(text.as_bytes())
            .unwrap()
            .1
            .contents
    };
    let mut bytes = der(fixture!("p256"));
    let position = bytes.windows(3).position(|window| window == b"ada").unwrap();
    bytes[position + 2] = b'b';
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    let changed =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}\n-----END CERTIFICATE REQUEST-----\n");
    assert_eq!(refused(&changed).reason(), "BadSignature");
}

#[test]
fn the_subject_is_judged_too() {
    let refused = |username: &str, group: &str| {
        let subject = Subject {
            username: username.into(),
            groups: vec![group.into()],
        };
        authority()
            .sign_request(fixture!("p256"), &subject, hour(), now())
            .unwrap_err()
    };
    for (username, group, field, reason) in [
        ("ada", "system:masters", "groups", "ReservedName"),
        ("ada", " System:masters", "groups", "ReservedName"),
        ("system:admin", "g", "username", "ReservedName"),
        ("", "g", "username", "InvalidSubject"),
        ("ada", "", "groups", "InvalidSubject"),
        ("ada\n", "g", "username", "InvalidSubject"),
    ] {
        let error = refused(username, group);
        assert_eq!(
            (error.field(), error.reason()),
            (Some(field), reason),
            "{username:?} {group:?}"
        );
    }
}

#[test]
fn lifetimes_are_bounded() {
    let ca = authority();
    let life = |asked: SignedDuration, time: Timestamp| {
        let certificate = ca.sign_request(fixture!("p256"), &ada(), asked, time).unwrap();
        time.duration_until(describe(&certificate).unwrap().not_after)
    };
    assert_eq!(life(hour(), now()), hour());
    assert_eq!(life(SignedDuration::ZERO, now()), SignedDuration::from_mins(10));
    assert_eq!(
        life(SignedDuration::from_hours(-5), now()),
        SignedDuration::from_mins(10)
    );
    assert_eq!(life(SignedDuration::MAX, now()), SignedDuration::from_hours(24));
    assert_eq!(
        life(hour(), ca.not_after() - 5.minutes()),
        SignedDuration::from_mins(5)
    );
    let error = ca
        .sign_request(fixture!("p256"), &ada(), hour(), ca.not_after())
        .unwrap_err();
    assert!(!error.is_refusal() && error.field().is_none(), "{error:?}");
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,400}") {
        prop_assert!(check_request(&text).is_err());
    }

    #[test]
    fn no_changed_octet_panics_or_is_signed_as_another(position in 0_usize..1000, octet in any::<u8>()) {
        let mut bytes = fixture!("p256").as_bytes().to_vec();
        let position = position % bytes.len();
        bytes[position] = octet;
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(summary) = check_request(&text)
        {
            prop_assert_eq!(summary, check_request(fixture!("p256")).unwrap());
        }
    }
}
