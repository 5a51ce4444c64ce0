//! Tokens that the hub's API server knows: service accounts and OIDC users, by `TokenReview`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use super::Bearer;
use crate::problem::{Problem, from_hub};
use crate::state::ask;

/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Answers that are kept; all are forgotten beyond it, which costs a review each.
const KEPT: usize = 4096;

/// A user as the hub's API server knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's unique id.
    pub uid: Option<String>,
    /// The user's groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The answers of the last seconds, by the SHA-256 of the token.
#[derive(Debug, Default)]
pub struct ReviewCache {
    answers: Mutex<HashMap<[u8; 32], Answer>>,
}

/// Who a token's bearer is, if anyone, and when that was asked.
#[derive(Debug, Clone)]
struct Answer {
    at: Instant,
    user: Option<User>,
}

impl ReviewCache {
    /// Asks who the bearer is, or 401.
    pub(super) async fn check(&self, client: &Client, bearer: &Bearer) -> Result<User, Problem> {
        let digest = bearer.digest();
        let answer = match self.recall(&digest, Instant::now()) {
            Some(answer) => answer.user,
            None => self.ask(client, bearer, digest).await?,
        };
        answer.ok_or_else(|| Problem::unauthenticated("the token is not known or has expired"))
    }

    async fn ask(&self, client: &Client, bearer: &Bearer, digest: [u8; 32]) -> Result<Option<User>, Problem> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: bearer.text().to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(client.clone());
        let answer = ask(reviews.create(&PostParams::default(), &review)).await;
        let user = user_of(answer.map_err(|error| from_hub(&error))?);
        self.remember(digest, Instant::now(), user.clone());
        Ok(user)
    }

    fn recall(&self, digest: &[u8; 32], now: Instant) -> Option<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .get(digest)
            .filter(|answer| now.saturating_duration_since(answer.at) < BELIEVED)
            .cloned()
    }

    fn remember(&self, digest: [u8; 32], now: Instant, user: Option<User>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= KEPT {
            answers.clear();
        }
        answers.insert(digest, Answer { at: now, user });
    }
}

fn user_of(review: TokenReview) -> Option<User> {
    let status = review
        .status
        .filter(|status| status.authenticated == Some(true))?;
    let user = status.user?;
    let name = user.username.filter(|name| !name.is_empty())?;
    let extra = user.extra.unwrap_or_default();
    Some(User {
        name,
        uid: user.uid,
        groups: user.groups.unwrap_or_default(),
        extra,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_for_ten_seconds() {
        let cache = ReviewCache::default();
        let start = Instant::now();
        cache.remember([1; 32], start, Some(User::default()));
        assert!(cache.recall(&[1; 32], start + Duration::from_secs(9)).is_some());
        assert!(cache.recall(&[1; 32], start + Duration::from_secs(10)).is_none());
        assert!(cache.recall(&[2; 32], start).is_none());
    }
}
