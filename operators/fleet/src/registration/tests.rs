//! Standing, expiry and Secret of a token.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn token(used: i32) -> RegistrationToken {
    let mut token: RegistrationToken = serde_json::from_value(json!({
        "apiVersion": "skep.dev/v1alpha1", "kind": "RegistrationToken",
        "metadata": {"name": "t", "uid": "u"},
        "spec": {"ttlSeconds": 60, "uses": 2, "scope": {"pool": "eu"}},
        "status": {"used": used},
    }))
    .unwrap();
    token.metadata.creation_timestamp = Some(Time(at("2026-11-01T10:00:00Z")));
    token
}

#[test]
fn a_token_ends_by_time_uses_and_revocation() {
    let (early, late) = (at("2026-11-01T10:00:59Z"), at("2026-11-01T10:01:00Z"));
    assert_eq!(Standing::of(&token(1), early), Standing::Usable);
    assert_eq!(Standing::of(&token(2), early), Standing::UsedUp);
    assert_eq!(Standing::of(&token(1), late), Standing::Expired);
    let mut revoked = token(1);
    revoked.spec.revoked = true;
    assert_eq!(Standing::of(&revoked, late), Standing::Revoked);
}

#[test]
fn the_secret_is_a_bootstrap_token_with_the_tokens_end_and_owner() {
    let secret = build_secret(
        &token(0),
        "abcdef",
        "0123456789abcdef",
        at("2026-11-01T10:01:00Z"),
    );
    let data = secret.string_data.unwrap();
    assert_eq!(secret.metadata.name.unwrap(), "bootstrap-token-abcdef");
    assert_eq!(data["expiration"], "2026-11-01T10:01:00Z");
    assert_eq!(data["auth-extra-groups"], "system:bootstrappers:skep");
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "u");
}
