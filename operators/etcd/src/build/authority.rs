//! The Secret of one authority: who signs, whom one trusts, and how the next takes its place.
//!
//! An authority is never thrown away while something that it signed may still be shown: each step is one write over the
//! Secret that was read.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skep_api::etcd_cluster::TrustPhase;
use skep_pki::{AUTHORITY_VALIDITY, CertificateAuthority, CertificatePem, PkiError, bundle};

use super::certificates::{CERTIFICATE, KEY, text};
use crate::observed::RotationStep;

/// The annotation that counts how often an authority was replaced on somebody's word; absent until it was.
const ROTATION: &str = "skep.dev/authority-rotation";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";

/// An authority, and the one that comes after it or was before it.
#[derive(Debug)]
pub struct Authority {
    signer: CertificateAuthority,
    next: Option<CertificateAuthority>,
    previous: Option<CertificatePem>,
    rotation: Option<i64>,
}

impl Authority {
    /// One that was made just now.
    pub fn new(signer: CertificateAuthority) -> Self {
        Self {
            signer,
            next: None,
            previous: None,
            rotation: None,
        }
    }

    /// Reads it back.
    pub fn read(secret: &Secret) -> Result<Self, PkiError> {
        let of = |key| text(secret, key).unwrap_or_default();
        let has = |key| text(secret, key).is_some();
        let next = || CertificateAuthority::from_pem(of(NEXT_CERTIFICATE), of(NEXT_KEY));
        let previous = || CertificatePem::parse(of(PREVIOUS_CERTIFICATE));
        let rotation = secret.annotations().get(ROTATION);
        Ok(Self {
            signer: CertificateAuthority::from_pem(of(CERTIFICATE), of(KEY))?,
            next: has(NEXT_CERTIFICATE).then(next).transpose()?,
            previous: has(PREVIOUS_CERTIFICATE).then(previous).transpose()?,
            rotation: rotation.map(|number| number.parse().unwrap_or_default()),
        })
    }

    /// Who signs now.
    pub fn signer(&self) -> &CertificateAuthority {
        &self.signer
    }

    /// Whom one has to trust now, as PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(CertificateAuthority::certificate);
        let others = next.into_iter().chain(&self.previous);
        bundle([self.signer.certificate()].into_iter().chain(others))
    }

    /// A name for who signs and whom one has to trust; none until an authority was replaced.
    pub fn revision(&self) -> Option<String> {
        self.rotation?;
        // Who signs comes first in the bundle.
        Some(hex::encode(&Sha256::digest(self.bundle().as_bytes())[..5]))
    }

    /// How far a replacement has come.
    pub fn phase(&self) -> TrustPhase {
        match (&self.next, &self.previous) {
            (Some(_), _) => TrustPhase::Introduced,
            (None, Some(_)) => TrustPhase::Signing,
            (None, None) => TrustPhase::Settled,
        }
    }

    /// The step that is due, where `rotation` replacements were asked for by now.
    pub fn pending(&self, rotation: i64, now: Timestamp) -> Option<RotationStep> {
        match self.phase() {
            TrustPhase::Introduced => Some(RotationStep::Sign),
            TrustPhase::Signing => Some(RotationStep::Retire),
            TrustPhase::Settled => {
                let is_old = self.signer.not_after().duration_since(now) < LAST_THIRD;
                (rotation > self.rotation.unwrap_or(0) || is_old).then_some(RotationStep::Introduce)
            }
        }
    }
}

/// Two thirds of an authority's life are over when only this is left of it.
const LAST_THIRD: SignedDuration = SignedDuration::from_secs(AUTHORITY_VALIDITY.as_secs() / 3);

/// The Secret of an authority after a step; nothing where the step is not due any more.
///
/// # Errors
/// An authority that cannot be read or made.
pub fn advance(
    secret: &Secret,
    step: RotationStep,
    rotation: i64,
    now: Timestamp,
) -> Result<Option<Secret>, PkiError> {
    let found = Authority::read(secret)?;
    if found.pending(rotation, now) != Some(step) {
        return Ok(None);
    }
    let mut after = secret.clone();
    let data = after.data.get_or_insert_default();
    match step {
        RotationStep::Introduce => {
            let made = CertificateAuthority::create(&common_name(secret), now)?;
            data.insert(NEXT_CERTIFICATE.to_owned(), bytes(made.certificate().as_str()));
            data.insert(NEXT_KEY.to_owned(), bytes(made.key().expose()));
            let annotations = after.metadata.annotations.get_or_insert_default();
            annotations.insert(ROTATION.to_owned(), rotation.to_string());
        }
        RotationStep::Sign => {
            let moves = [(NEXT_CERTIFICATE, CERTIFICATE), (NEXT_KEY, KEY)];
            let before = found.signer.certificate().as_str();
            data.insert(PREVIOUS_CERTIFICATE.to_owned(), bytes(before));
            for (from, to) in moves {
                if let Some(value) = data.remove(from) {
                    data.insert(to.to_owned(), value);
                }
            }
        }
        RotationStep::Retire => drop(data.remove(PREVIOUS_CERTIFICATE)),
    }
    Ok(Some(after))
}

/// The change that makes `after` of the Secret that was read, and of no other.
pub fn build_patch(before: &Secret, after: &Secret) -> Value {
    let mut patch = json!({
        "metadata": {
            "resourceVersion": before.metadata.resource_version,
            "annotations": after.metadata.annotations,
        },
        "data": after.data,
    });
    let kept = after.data.as_ref();
    for gone in before.data.iter().flat_map(BTreeMap::keys) {
        if kept.is_none_or(|kept| !kept.contains_key(gone)) {
            patch["data"][gone] = Value::Null;
        }
    }
    patch
}

/// The name of the authority of a Secret.
fn common_name(secret: &Secret) -> String {
    format!("{}.{}", secret.name_any(), secret.namespace().unwrap_or_default())
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}
