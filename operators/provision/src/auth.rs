//! Who asks, and whether they may.
//!
//! Project tokens are checked against their Secret on every request, so that a revocation works at once;
//! everything else is for the hub's API server to judge (`TokenReview`, `SubjectAccessReview`). Tokens are held
//! no longer than the request and never printed.

mod access;
mod project_token;
mod review;

pub use access::{Access, Resource};
pub(crate) use project_token::{DIGEST, EXPIRES};
pub use project_token::{ProjectToken, TokenId, mint};
pub use review::{ReviewCache, User};

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};
use skep_core::ProjectName;
use tokio::time::Instant;

use crate::problem::{Kind, Problem};
use crate::state::AppState;
use crate::telemetry::RequestContext;

/// The longest token that is looked at, in bytes; JWTs of large OIDC providers have some 4 KiB.
const LONGEST_TOKEN: usize = 16 * 1024;
/// The longest identity that is put into a certificate, in bytes; `skep_api` allows 200 with the prefix.
const LONGEST_NAME: usize = 180;

/// A bearer token; its text is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(String);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(redacted)")
    }
}

impl Bearer {
    /// The token of a request, or 401 with what is missing.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            return Err(Problem::unauthenticated(
                "give a token: Authorization: Bearer TOKEN",
            ));
        };
        let refuse = || Problem::unauthenticated("the Authorization header is not of the form: Bearer TOKEN");
        if given.next().is_some() {
            return Err(refuse());
        }
        let (scheme, token) = value
            .to_str()
            .map_err(|_| refuse())?
            .split_once(' ')
            .ok_or_else(refuse)?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(refuse());
        }
        Ok(Self(token.to_owned()))
    }

    /// The token's text, for the check alone.
    fn text(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Caller {
    /// The bearer of a project's token.
    Project(TokenId),
    /// A user or service account that the hub's API server knows.
    User(User),
}

impl Caller {
    /// Finds out who the bearer of a token is.
    pub async fn authenticate(state: &AppState, bearer: &Bearer) -> Result<Self, Problem> {
        match ProjectToken::parse(bearer.text()) {
            Some(token) => Ok(Self::Project(project_token::check(state, &token).await?)),
            None => Ok(Self::User(state.reviews.check(&state.client, bearer).await?)),
        }
    }

    /// A stable name for logs, budgets and certificates.
    pub fn name(&self) -> String {
        match self {
            Self::Project(id) => format!("token:{id}"),
            Self::User(user) => user.name.clone(),
        }
    }

    /// The user that a certificate of this caller names.
    pub fn certificate_user(&self) -> String {
        let name = self.name();
        if name.len() <= LONGEST_NAME && name.chars().all(|c| !c.is_control()) {
            return format!("skep:user:{name}");
        }
        format!(
            "skep:user:sha256:{}",
            hex::encode(Sha256::digest(name.as_bytes()))
        )
    }

    /// Whether this caller may do that, or 403.
    pub async fn require(&self, state: &AppState, access: &Access<'_>) -> Result<(), Problem> {
        match self {
            Self::Project(id) => access.check_token(id),
            Self::User(user) => access.review(&state.client, user).await,
        }
    }

    /// Shorthand for rights on a project's clusters.
    pub async fn may(&self, state: &AppState, verb: &str, project: &ProjectName) -> Result<(), Problem> {
        self.require(
            state,
            &Access {
                verb,
                resource: Resource::Clusters,
                project: Some(project),
            },
        )
        .await
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let bearer = Bearer::of(&parts.headers)?;
        let caller = Self::authenticate(state, &bearer).await?;
        let name = caller.name();
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            state.writes.take(&name, Instant::now()).map_err(|wait| {
                let seconds = u32::try_from(wait.as_secs())
                    .unwrap_or(u32::MAX)
                    .saturating_add(1);
                Kind::Throttled
                    .because(format!("too many writes; go on in {seconds} s"))
                    .retry_after(seconds)
            })?;
        }
        if let Some(context) = parts.extensions.get::<RequestContext>() {
            context.identify(name);
        }
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        assert!(Bearer::of(&headers("Bearer abc")).is_ok());
        assert!(Bearer::of(&headers("bearer abc")).is_ok());
        for bad in [
            "Bearer",
            "Bearer ",
            "Basic abc",
            "abc",
            &format!("Bearer {}", "x".repeat(20_000)),
        ] {
            assert_eq!(Bearer::of(&headers(bad)).unwrap_err().status, 401, "{bad}");
        }
        assert_eq!(Bearer::of(&HeaderMap::new()).unwrap_err().status, 401);
    }

    #[test]
    fn a_token_is_not_printed() {
        let bearer = Bearer::of(&headers("Bearer hunter2")).unwrap();
        assert!(!format!("{bearer:?}").contains("hunter2"));
    }

    #[test]
    fn a_certificate_never_names_a_system_user() {
        let user = User {
            name: "system:admin".to_owned(),
            ..User::default()
        };
        assert_eq!(Caller::User(user).certificate_user(), "skep:user:system:admin");
        let long = User {
            name: "x".repeat(500),
            ..User::default()
        };
        assert!(Caller::User(long).certificate_user().len() <= 200);
    }
}
