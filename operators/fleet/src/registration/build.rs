//! What stands of a token, and its Secret: pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use rand::Rng;
use skep_api::RegistrationToken;
use skep_core::{REGISTERING, labels, reasons};

/// Where the API server looks for bootstrap tokens.
pub(crate) const NAMESPACE: &str = "kube-system";
/// The characters of a bootstrap token.
const CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Whether a token still buys a registration, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Usable,
    Revoked,
    Expired,
    UsedUp,
}

impl Standing {
    /// The standing of a token at a time; revocation comes first, as it is for good.
    pub(crate) fn of(token: &RegistrationToken, now: Timestamp) -> Self {
        let used = token.status.as_ref().map_or(0, |status| status.used);
        if token.spec.revoked || token.metadata.deletion_timestamp.is_some() {
            Self::Revoked
        } else if now >= expiry(token, now) {
            Self::Expired
        } else if used >= token.spec.uses {
            Self::UsedUp
        } else {
            Self::Usable
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Usable => reasons::AS_DESIRED,
            Self::Revoked => reasons::REVOKED,
            Self::Expired => reasons::EXPIRED,
            Self::UsedUp => reasons::USED_UP,
        }
    }

    pub(crate) fn message(self, token: &RegistrationToken) -> String {
        match self {
            Self::Usable => "cells of its scope may register with it".to_owned(),
            Self::Revoked => "it was taken back: make another token to register more cells".to_owned(),
            Self::Expired => "its time is over: make another token to register more cells".to_owned(),
            Self::UsedUp => format!(
                "all {} of its uses were taken: make another token to register more cells",
                token.spec.uses
            ),
        }
    }
}

/// When a token expires, counted from its creation.
pub(crate) fn expiry(token: &RegistrationToken, now: Timestamp) -> Timestamp {
    let created = token
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    created
        .checked_add(SignedDuration::from_secs(token.spec.ttl_seconds))
        .unwrap_or(Timestamp::MAX)
}

/// The name of the Secret of a bootstrap token.
pub(crate) fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// So many characters by chance.
pub(crate) fn draw(length: usize, chance: &mut impl Rng) -> String {
    (0..length)
        .map(|_| char::from(CHARACTERS[chance.random_range(0..CHARACTERS.len())]))
        .collect()
}

/// The Secret by which the API server knows the bootstrap token `id`.`secret` until `end`.
pub(crate) fn build_secret(token: &RegistrationToken, id: &str, secret: &str, end: Timestamp) -> Secret {
    let owner = OwnerReference {
        api_version: RegistrationToken::api_version(&()).into_owned(),
        kind: RegistrationToken::kind(&()).into_owned(),
        name: token.name_any(),
        uid: token.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let data = [
        ("token-id", id.to_owned()),
        ("token-secret", secret.to_owned()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("auth-extra-groups", REGISTERING.to_owned()),
        ("expiration", end.to_string()),
        (
            "description",
            format!("Registers cells, by the token {}.", token.name_any()),
        ),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(id)),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(
                labels::APP_PART_OF.to_owned(),
                "skep".to_owned(),
            )])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("bootstrap.kubernetes.io/token".to_owned()),
        string_data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..Secret::default()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
