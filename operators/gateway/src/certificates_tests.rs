//! Which certificates are used and which are made anew.

use super::*;

const NAMESPACE: &str = "skep-system";

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn later(days: i64) -> Timestamp {
    now() + k8s_openapi::jiff::SignedDuration::from_hours(24 * days)
}

fn secret(parts: &[(&str, &str)]) -> Secret {
    let data = parts
        .iter()
        .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
    Secret {
        data: Some(data.collect()),
        ..Secret::default()
    }
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("skep-gateway", now()).unwrap()
}

fn authority_secret(authority: &CertificateAuthority) -> Secret {
    secret(&[
        (CERTIFICATE, authority.certificate().as_str()),
        (KEY, authority.key().expose()),
    ])
}

fn leaf_secret(leaf: &Leaf, authority: &CertificateAuthority) -> Secret {
    secret(&[
        (CERTIFICATE, leaf.certificate.as_str()),
        (KEY, leaf.key.expose()),
        (AUTHORITY_CERTIFICATE, authority.certificate().as_str()),
    ])
}

#[test]
fn an_authority_is_kept_until_two_thirds_of_its_life_and_never_when_broken() {
    let known = authority();
    let stored = authority_secret(&known);
    assert!(usable_authority(&stored, now()).is_some());
    assert!(usable_authority(&stored, later(6 * 365)).is_some());
    assert!(usable_authority(&stored, later(7 * 365)).is_none());
    let mixed = secret(&[
        (CERTIFICATE, known.certificate().as_str()),
        (KEY, authority().key().expose()),
    ]);
    assert!(usable_authority(&mixed, now()).is_none());
    assert!(usable_authority(&Secret::default(), now()).is_none());
}

#[test]
fn a_leaf_is_kept_until_two_thirds_of_its_life() {
    let known = authority();
    let [server, _] = leaves(NAMESPACE);
    let stored = leaf_secret(&known.issue(&server, now()).unwrap(), &known);
    assert!(usable_leaf(&stored, &server, &known, later(59)).is_some());
    assert!(usable_leaf(&stored, &server, &known, later(61)).is_none());
}

#[test]
fn a_leaf_of_another_authority_name_or_use_is_made_anew() {
    let known = authority();
    let [server, client] = leaves(NAMESPACE);
    let stored = leaf_secret(&known.issue(&server, now()).unwrap(), &known);
    assert!(usable_leaf(&stored, &server, &authority(), now()).is_none());
    assert!(usable_leaf(&stored, &client, &known, now()).is_none());
    let [elsewhere, _] = leaves("elsewhere");
    assert!(usable_leaf(&stored, &elsewhere, &known, now()).is_none());
    let without_authority = secret(&[(CERTIFICATE, &text(&stored, CERTIFICATE).unwrap())]);
    assert!(usable_leaf(&without_authority, &server, &known, now()).is_none());
}

#[test]
fn a_made_leaf_serves() {
    let known = authority();
    let [server, _] = leaves(NAMESPACE);
    let server = known.issue(&server, now()).unwrap();
    let certificates = Certificates {
        authority: known.certificate().as_str().to_owned(),
        server,
    };
    assert_eq!(certificates.server_config().unwrap().alpn_protocols, [b"h2"]);
}
