//! Errors as they leave the server: `application/problem+json` (RFC 9457), whatever went wrong.
//!
//! It must never carry a text that another server, a library or the operating system made: those go to the log.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use skep_runtime::error::chain;
use utoipa::ToSchema;

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// Where problem types are named; a URI that identifies and need not resolve (RFC 9457, section 3.1.1).
const TYPE_BASE: &str = "https://skep.dev/problems/";
/// Seconds after which a client may ask again when the hub does not answer.
const HUB_RETRY_SECONDS: u32 = 2;

/// What went wrong, in a form for people and programs (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "https://skep.dev/problems/invalid", "title": "The request has invalid fields", "status": 422,
    "detail": "1 field of the cluster is invalid",
    "errors": [{"field": "version", "message": "a version looks like 1.36.3; \"latest\" does not"}]
}))]
pub struct Problem {
    /// A URI that names the kind of problem and never changes.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What is wrong this time and what to do about it.
    pub detail: String,
    /// What is wrong, field by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// With 409: what stands in the way, as its own endpoint shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub current: Option<Box<serde_json::Value>>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The field, with dots between levels: `network.pods`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    /// An error of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// The kinds of problem; each has its status, its type and its title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is no JSON, or a header or parameter is malformed.
    Malformed,
    /// A continue token has lapsed.
    Expired,
    /// No credentials, or none that are known.
    Unauthenticated,
    /// The credentials do not reach so far.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path exists and the method does not.
    MethodNotAllowed,
    /// The request contradicts what stands.
    Conflict,
    /// The body is larger than is taken.
    TooLarge,
    /// The body is not of a media type that is taken.
    MediaType,
    /// Fields are wrong.
    Invalid,
    /// The `Idempotency-Key` was used for another request.
    KeyReused,
    /// Too many requests of one identity.
    Throttled,
    /// An error of this server.
    Internal,
    /// The hub's API server cannot be reached or does not answer.
    Unavailable,
    /// Something that was waited for did not come in time.
    TimedOut,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request is malformed"),
            Self::Expired => (StatusCode::BAD_REQUEST, "expired", "The list has moved on"),
            Self::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "The request has no valid credentials",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "The credentials do not allow this",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                "conflict",
                "The request contradicts what stands",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "The body is too large",
            ),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media-type",
                "The media type is not supported",
            ),
            Self::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "The request has invalid fields",
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key belongs to another request",
            ),
            Self::Throttled => (StatusCode::TOO_MANY_REQUESTS, "throttled", "Too many requests"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The platform does not answer right now",
            ),
            Self::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "timed-out",
                "It did not happen in time",
            ),
        }
    }

    /// A problem of this kind.
    pub fn because(self, detail: impl Into<String>) -> Problem {
        let (status, name, title) = self.parts();
        Problem {
            kind: format!("{TYPE_BASE}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            current: None,
            retry_after: None,
        }
    }
}

impl Problem {
    /// 401, with the challenge that RFC 6750 asks for.
    pub fn unauthenticated(detail: &str) -> Self {
        Kind::Unauthenticated.because(detail)
    }

    /// 422 with every field that is wrong.
    pub fn invalid(what: &str, errors: Vec<FieldError>) -> Self {
        let fields = if errors.len() == 1 {
            "1 field".to_owned()
        } else {
            format!("{} fields", errors.len())
        };
        let verb = if errors.len() == 1 { "is" } else { "are" };
        Self {
            errors,
            ..Kind::Invalid.because(format!("{fields} of the {what} {verb} invalid"))
        }
    }

    /// 429 or 503 with the time after which to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Adds what stands in the way.
    #[must_use]
    pub fn with_current<T: Serialize>(mut self, current: &T) -> Self {
        self.current = serde_json::to_value(current).ok().map(Box::new);
        self
    }

    /// Adds fields that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// 503 for a hub that does not answer.
    pub fn hub_unavailable() -> Self {
        let detail =
            "the platform's API server does not answer; clusters that run are not affected; try again";
        Kind::Unavailable.because(detail).retry_after(HUB_RETRY_SECONDS)
    }

    /// 500; what happened is in the log only.
    pub fn internal() -> Self {
        Kind::Internal
            .because("an error of the platform, which is in its log; try again or tell its operators")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"skep\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Turns an error of the hub's API server into the problem that the caller may see.
pub fn from_hub(error: &kube::Error) -> Problem {
    let kube::Error::Api(status) = error else {
        tracing::warn!(error = chain(error), "the hub's API server cannot be reached");
        return Problem::hub_unavailable();
    };
    match (status.code, status.reason.as_str()) {
        (422, _) => invalid_from_hub(status),
        (410, _) | (_, "Expired") => {
            Kind::Expired.because("the continue token has lapsed; list again from the start")
        }
        (404, _) => Kind::NotFound.because("it does not exist, or no longer"),
        (409, _) => {
            Kind::Conflict.because("it was changed by another request meanwhile; read it and try again")
        }
        (429 | 500 | 502 | 503 | 504, _) => {
            tracing::warn!(error = chain(error), "the hub's API server does not serve");
            let seconds = status
                .details
                .as_ref()
                .map_or(0, |details| details.retry_after_seconds);
            Problem::hub_unavailable().retry_after(seconds.max(HUB_RETRY_SECONDS))
        }
        _ => {
            tracing::error!(error = chain(error), "the hub's API server refused a request");
            Problem::internal()
        }
    }
}

/// Admission's findings by field; its messages are ours, from the schemas of the kinds.
fn invalid_from_hub(status: &kube::core::Status) -> Problem {
    let causes = status
        .details
        .as_ref()
        .map(|details| details.causes.as_slice())
        .unwrap_or_default();
    let errors: Vec<_> = causes
        .iter()
        .map(|cause| {
            let field = cause.field.trim_start_matches("spec.");
            let field = if field.is_empty() || field == "metadata.name" {
                "name"
            } else {
                field
            };
            FieldError::new(field, cause.message.clone())
        })
        .collect();
    if errors.is_empty() {
        tracing::warn!(
            message = status.message,
            "the hub refused an object without naming a field"
        );
    }
    Problem::invalid("request", errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(
            kube::core::Status::failure("etcdserver: secret text", reason)
                .with_code(code)
                .boxed(),
        )
    }

    #[test]
    fn texts_of_the_hub_do_not_leak() {
        for code in [400, 401, 403, 404, 409, 410, 418, 429, 500, 503, 504] {
            let problem = from_hub(&api(code, ""));
            let text = serde_json::to_string(&problem).unwrap();
            assert!(!text.contains("secret text"), "{text}");
        }
        assert_eq!(from_hub(&api(503, "")).status, 503);
        assert_eq!(from_hub(&api(403, "Forbidden")).status, 500);
        assert_eq!(from_hub(&api(410, "Expired")).status, 400);
    }

    #[test]
    fn a_problem_is_problem_json_with_its_headers() {
        let response = Problem::unauthenticated("no token").into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["content-type"], MEDIA_TYPE);
        assert!(response.headers().contains_key("www-authenticate"));
    }
}
