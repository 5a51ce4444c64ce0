//! Project tokens: `skep_<id>_<secret>`, where the id is `<project>-<8 characters>`.
//!
//! The Secret `skep-token-<8 characters>` in the project's namespace holds the SHA-256 of the secret part and
//! the time of expiry; the secret part itself is known to its bearer alone.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use sha2::{Digest, Sha256};
use skep_core::ProjectName;
use subtle::ConstantTimeEq;

use crate::problem::{Problem, from_hub};
use crate::state::{AppState, ask};

const PREFIX: &str = "skep_";
/// Characters of an id behind the project's name: 40 bits, enough to be unique within a project.
const SUFFIX: usize = 8;
/// Characters of the secret part: 256 bits, hexadecimal.
const SECRET: usize = 64;
const UNKNOWN: &str = "the token is not known, was revoked, or has expired";

/// The key of a token's Secret that holds the SHA-256 of the secret part, hexadecimal.
pub(crate) const DIGEST: &str = "sha256";
/// The key of a token's Secret that holds the time of expiry, RFC 3339.
pub(crate) const EXPIRES: &str = "expires";

/// The public part of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenId {
    /// The project that the token is good for.
    pub project: ProjectName,
    suffix: String,
}

impl TokenId {
    /// Parses an id; nothing when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (project, suffix) = text.rsplit_once('-')?;
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let project = project.parse().ok()?;
        (suffix.len() == SUFFIX && suffix.bytes().all(is_hex)).then(|| Self {
            project,
            suffix: suffix.to_owned(),
        })
    }

    /// The name of the Secret that holds the token.
    pub fn secret_name(&self) -> String {
        format!("skep-token-{}", self.suffix)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.project, self.suffix)
    }
}

/// A token as its bearer gives it; the secret part is held as its SHA-256 only.
#[derive(PartialEq, Eq)]
pub struct ProjectToken {
    /// The public part.
    pub id: TokenId,
    digest: [u8; 32],
}

impl fmt::Debug for ProjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl ProjectToken {
    /// Parses a token; nothing when it has not this form.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = TokenId::parse(id)?;
        (secret.len() == SECRET).then(|| Self {
            id,
            digest: Sha256::digest(secret.as_bytes()).into(),
        })
    }

    fn is_held_by(&self, secret: &Secret, now: Timestamp) -> bool {
        let entry = |key: &str| {
            let bytes = &secret.data.as_ref()?.get(key)?.0;
            std::str::from_utf8(bytes).ok()
        };
        let digest = entry(DIGEST)
            .and_then(|text| hex::decode(text).ok())
            .unwrap_or_default();
        let is_same = bool::from(digest.ct_eq(&self.digest));
        let is_fresh = entry(EXPIRES)
            .and_then(|text| text.parse::<Timestamp>().ok())
            .is_some_and(|expires| now < expires);
        is_same && is_fresh && secret.metadata.deletion_timestamp.is_none()
    }
}

/// Makes a token from chance: its id, its text, and the SHA-256 (hexadecimal) to keep.
pub fn mint(project: &ProjectName, chance: &[u8; 36]) -> (TokenId, String, String) {
    let id = TokenId {
        project: project.clone(),
        suffix: hex::encode(&chance[..4]),
    };
    let secret = hex::encode(&chance[4..]);
    let digest = hex::encode(Sha256::digest(secret.as_bytes()));
    let text = format!("{PREFIX}{id}_{secret}");
    (id, text, digest)
}

/// Checks a token against its Secret, or 401.
///
/// A live read on every request: a revoked token is refused by the next request on any replica.
pub(super) async fn check(state: &AppState, token: &ProjectToken) -> Result<TokenId, Problem> {
    let secrets: Api<Secret> = Api::namespaced(state.client.clone(), &token.id.project.namespace());
    let secret = match ask(secrets.get_opt(&token.id.secret_name())).await {
        Ok(secret) => secret,
        // Where no project is, this server has no rights either: nobody's token.
        Err(kube::Error::Api(status)) if status.code == 403 => None,
        Err(error) => return Err(from_hub(&error)),
    };
    match secret {
        Some(secret) if token.is_held_by(&secret, Timestamp::now()) => Ok(token.id.clone()),
        _ => Err(Problem::unauthenticated(UNKNOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn kept(digest: &str, expires: &str) -> Secret {
        let entries = [(DIGEST, digest), (EXPIRES, expires)];
        let data = entries.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_minted_token_parses_and_is_held_until_it_expires() {
        let project = "a-b".parse().unwrap();
        let (id, text, digest) = mint(&project, &[7; 36]);
        let token = ProjectToken::parse(&text).unwrap();
        assert_eq!(token.id, id);
        assert_eq!(id.project, project);
        let secret = kept(&digest, "2026-01-02T00:00:00Z");
        assert!(token.is_held_by(&secret, "2026-01-01T00:00:00Z".parse().unwrap()));
        assert!(!token.is_held_by(&secret, "2026-01-02T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn another_secret_part_or_a_broken_secret_is_refused() {
        let (_, text, digest) = mint(&"p".parse().unwrap(), &[7; 36]);
        let (_, _, other) = mint(&"p".parse().unwrap(), &[8; 36]);
        let token = ProjectToken::parse(&text).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for secret in [
            kept(&other, "2027-01-01T00:00:00Z"),
            kept("", "2027-01-01T00:00:00Z"),
            kept(&digest, ""),
            kept(&digest, "never"),
            Secret::default(),
        ] {
            assert!(!token.is_held_by(&secret, now));
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        let secret = "0".repeat(64);
        for bad in [
            "",
            "skep_",
            "skep_p_x",
            "skep_p-1234567_",
            &format!("skep_p-1234567g_{secret}"),
        ] {
            assert!(ProjectToken::parse(bad).is_none(), "{bad}");
        }
        assert!(ProjectToken::parse(&format!("skep_../x-12345678_{secret}")).is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let (_, text, digest) = mint(&"p".parse().unwrap(), &[7; 36]);
        let shown = format!("{:?}", ProjectToken::parse(&text).unwrap());
        assert!(
            !shown.contains(&text[16..]) && !shown.contains(&digest),
            "{shown}"
        );
    }
}
