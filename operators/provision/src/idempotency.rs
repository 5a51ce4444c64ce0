//! `Idempotency-Key`: the same request twice makes one object.
//!
//! The object itself remembers: a label to find it by key, annotations with the SHA-256 of key and body. So every
//! replica knows, a restart forgets nothing, and the memory goes with the object.

use std::collections::BTreeMap;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use kube::core::ObjectMeta;
use serde::Serialize;
use sha2::{Digest, Sha256};
use skep_core::labels;

use crate::problem::{Kind, Problem};
use crate::state::AppState;

/// The label by which the object of a key is found: the first 16 hexadecimal characters of the key's SHA-256.
pub const LABEL: &str = "skep.dev/idempotency";
/// The longest key that is taken, in bytes.
const LONGEST_KEY: usize = 255;

/// The SHA-256 of a request's key; absent when the request carries none.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(Option<String>);

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdempotencyKey")
            .field(&self.0.as_deref().map(|digest| &digest[..16]))
            .finish()
    }
}

impl IdempotencyKey {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = headers.get_all("idempotency-key").iter();
        let Some(value) = given.next() else {
            return Ok(Self(None));
        };
        let refuse = |what: &str| Err(Kind::Malformed.because(format!("the Idempotency-Key {what}")));
        if given.next().is_some() {
            return refuse("is given more than once");
        }
        if value.is_empty() || value.len() > LONGEST_KEY {
            return refuse("must have 1 to 255 characters");
        }
        Ok(Self(Some(hex::encode(Sha256::digest(value.as_bytes())))))
    }

    /// Binds the key to the body of its request; the body counts by its meaning, not by its white space.
    pub fn bind<T: Serialize>(self, body: &T) -> Option<Binding> {
        let text = serde_json::to_vec(body).unwrap_or_default();
        self.0.map(|key| Binding {
            key,
            body: hex::encode(Sha256::digest(text)),
        })
    }
}

impl FromRequestParts<AppState> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

/// A key and the body that it was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    key: String,
    body: String,
}

/// How a request relates to an object that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The object was made by this very request.
    Same,
    /// The object was made with the key of this request, but by another request.
    OtherBody,
    /// The object has nothing to do with the key.
    Unrelated,
}

impl Binding {
    /// The selector that finds the object of this key.
    pub fn selector(&self) -> String {
        format!("{LABEL}={}", self.label())
    }

    /// The first 16 characters of the key's SHA-256.
    pub fn label(&self) -> &str {
        &self.key[..16]
    }

    /// Writes key and body onto an object that is about to be made.
    pub fn mark(&self, meta: &mut ObjectMeta) {
        meta.labels
            .get_or_insert_default()
            .insert(LABEL.to_owned(), self.label().to_owned());
        let notes: &mut BTreeMap<_, _> = meta.annotations.get_or_insert_default();
        notes.insert(labels::IDEMPOTENCY_KEY.to_owned(), self.key.clone());
        notes.insert(labels::IDEMPOTENCY_BODY.to_owned(), self.body.clone());
    }

    /// Compares with an object that stands.
    pub fn relation(&self, meta: &ObjectMeta) -> Relation {
        let note = |name: &str| meta.annotations.as_ref().and_then(|notes| notes.get(name));
        if note(labels::IDEMPOTENCY_KEY) != Some(&self.key) {
            Relation::Unrelated
        } else if note(labels::IDEMPOTENCY_BODY) == Some(&self.body) {
            Relation::Same
        } else {
            Relation::OtherBody
        }
    }
}

/// 422 for a key that was used for another request.
pub fn reused() -> Problem {
    Kind::KeyReused.because(
        "this Idempotency-Key was used for a request with another body; use a new key for a new request",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(text: &str) -> Result<IdempotencyKey, Problem> {
        IdempotencyKey::of(&HeaderMap::from_iter([(
            "idempotency-key".parse().unwrap(),
            text.parse().unwrap(),
        )]))
    }

    #[test]
    fn an_object_knows_the_request_that_made_it() {
        let one = key("k1").unwrap().bind(&json!({"name": "a"})).unwrap();
        let mut meta = ObjectMeta::default();
        one.mark(&mut meta);
        assert_eq!(one.relation(&meta), Relation::Same);
        assert_eq!(
            key("k1")
                .unwrap()
                .bind(&json!({"name": "b"}))
                .unwrap()
                .relation(&meta),
            Relation::OtherBody
        );
        assert_eq!(
            key("k2")
                .unwrap()
                .bind(&json!({"name": "a"}))
                .unwrap()
                .relation(&meta),
            Relation::Unrelated
        );
        assert_eq!(one.selector().len(), LABEL.len() + 17);
    }

    #[test]
    fn keys_have_bounds() {
        assert!(key(&"x".repeat(255)).is_ok());
        assert_eq!(key(&"x".repeat(256)).unwrap_err().status, 400);
        assert_eq!(key("").unwrap_err().status, 400);
        assert!(IdempotencyKey::of(&HeaderMap::new()).unwrap().bind(&1).is_none());
    }
}
