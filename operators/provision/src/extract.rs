//! Takes a request apart; whatever is wrong becomes a problem.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde_json::Value;
use skep_core::{ClusterName, ProjectName};

use crate::fields::Fields;
use crate::problem::{FieldError, Kind, Problem};
use crate::state::AppState;
use crate::telemetry::RequestContext;

/// The largest body that is taken, in bytes.
pub const LARGEST_BODY: usize = 64 * 1024;
/// Entries of a page where the request names no limit.
const DEFAULT_LIMIT: u32 = 100;
/// The most entries of a page.
const LARGEST_LIMIT: u32 = 500;

/// A JSON body, or what is wrong with it; told only after the caller's rights are known.
#[derive(Debug)]
pub struct JsonBody(Result<Value, Problem>);

impl JsonBody {
    /// The body as an object to read field by field.
    pub fn fields(self) -> Result<Fields, Problem> {
        Fields::of(self.0?)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        Ok(Self(read_json(request).await))
    }
}

async fn read_json(request: Request) -> Result<Value, Problem> {
    check_media_type(request.headers(), request.method() == axum::http::Method::PATCH)?;
    let too_large = || Kind::TooLarge.because(format!("a body has at most {} KiB", LARGEST_BODY / 1024));
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let length = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > LARGEST_BODY as u64) {
        return Err(too_large());
    }
    let bytes = match to_bytes(request.into_body(), LARGEST_BODY).await {
        Ok(bytes) => bytes,
        Err(error) if is_limit(&error) => return Err(too_large()),
        Err(_) => return Err(Kind::Malformed.because("the connection ended before the body was complete")),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Kind::Malformed.because(describe_json(&error, bytes.len())))
}

fn is_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// What is wrong with a JSON text, and where.
fn describe_json(error: &serde_json::Error, length: usize) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    if length == 0 {
        "the body is empty; a JSON object is wanted".to_owned()
    } else if error.is_eof() {
        format!("the JSON body ends too early, at {place}, after {length} bytes")
    } else {
        format!("the body is no JSON: {error}")
    }
}

fn check_media_type(headers: &HeaderMap, is_patch: bool) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = given
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "application/json" || (is_patch && essence == "application/merge-patch+json") {
        return Ok(());
    }
    let wanted = if is_patch {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let given = if given.is_empty() { "none" } else { "another one" };
    Err(Kind::MediaType.because(format!("the Content-Type must be {wanted}; {given} was given")))
}

/// The project of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPath(pub ProjectName);

impl FromRequestParts<AppState> for ProjectPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        parameter(parts, state, "project").await.map(Self)
    }
}

/// The project and the cluster of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPath {
    /// The project.
    pub project: ProjectName,
    /// The cluster.
    pub cluster: ClusterName,
}

impl FromRequestParts<AppState> for ClusterPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let project = parameter(parts, state, "project").await?;
        let cluster = parameter(parts, state, "cluster").await?;
        Ok(Self { project, cluster })
    }
}

/// The id at the end of a path, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPath(pub String);

impl FromRequestParts<AppState> for IdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        raw_parameter(parts, state, "id").await.map(Self)
    }
}

async fn parameter<T>(parts: &mut Parts, state: &AppState, name: &str) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = raw_parameter(parts, state, name).await?;
    // A name that cannot be is one that is not there.
    text.parse()
        .map_err(|error| Kind::NotFound.because(format!("there is no such {name}: {error}")))
}

async fn raw_parameter(parts: &mut Parts, state: &AppState, name: &str) -> Result<String, Problem> {
    let refuse = || Kind::NotFound.because(format!("there is no such {name}"));
    let parameters = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| refuse())?;
    parameters
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
        .ok_or_else(refuse)
}

/// Which page of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// The most entries.
    pub limit: u32,
    /// Where the last page ended; opaque.
    pub from: Option<String>,
}

impl Paging {
    fn of(query: &str) -> Result<Self, Problem> {
        let mut paging = Self {
            limit: DEFAULT_LIMIT,
            from: None,
        };
        let mut errors = Vec::new();
        for (name, value) in query_pairs(query) {
            match name.as_str() {
                "limit" => match value
                    .parse::<u32>()
                    .ok()
                    .filter(|limit| (1..=LARGEST_LIMIT).contains(limit))
                {
                    Some(limit) => paging.limit = limit,
                    None => errors.push(FieldError::new("limit", format!("must be 1 to {LARGEST_LIMIT}"))),
                },
                "continue" if value.is_empty() => {}
                "continue" if value.len() > 4096 => {
                    errors.push(FieldError::new("continue", "is none of this server's"));
                }
                "continue" => paging.from = Some(value),
                other => {
                    let name: String = other.chars().take(60).collect();
                    errors.push(FieldError::new(
                        name,
                        "is unknown here; the parameters are limit, continue",
                    ));
                }
            }
        }
        if errors.is_empty() {
            return Ok(paging);
        }
        Err(Kind::Malformed
            .because("the query has parameters that are wrong")
            .with_errors(errors))
    }

    /// The parameters of the list at the hub.
    pub fn params(&self) -> kube::api::ListParams {
        let params = kube::api::ListParams::default().limit(self.limit);
        match &self.from {
            Some(token) => params.continue_token(token),
            None => params,
        }
    }

    /// Turns the hub's refusal of a list into what the caller can do about it.
    pub fn problem(&self, error: &kube::Error) -> Problem {
        match crate::state::hub_code(error) {
            Some(400) if self.from.is_some() => {
                let errors = vec![FieldError::new(
                    "continue",
                    "is none of this server's; list from the start",
                )];
                Kind::Malformed
                    .because("the continue token is not understood")
                    .with_errors(errors)
            }
            _ => crate::problem::from_hub(error),
        }
    }
}

impl FromRequestParts<AppState> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Self::of(parts.uri.query().unwrap_or_default())
    }
}

fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode(&text.replace('+', " "));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let hex = bytes
            .get(place + 1..place + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = hex
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .filter(|_| bytes[place] == b'%');
        decoded.push(escaped.unwrap_or(bytes[place]));
        place += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The context of the request, for what it creates.
#[derive(Debug, Clone)]
pub struct Context(pub RequestContext);

impl<S: Send + Sync> FromRequestParts<S> for Context {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let known = parts.extensions.get::<RequestContext>().cloned();
        Ok(Self(known.unwrap_or_else(|| RequestContext::of(&parts.headers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_is_checked() {
        assert_eq!(
            Paging::of("").unwrap(),
            Paging {
                limit: 100,
                from: None
            }
        );
        let paging = Paging::of("limit=5&continue=a%3D%3d").unwrap();
        assert_eq!(
            paging,
            Paging {
                limit: 5,
                from: Some("a==".to_owned())
            }
        );
        for bad in ["limit=0", "limit=501", "limit=-1", "limit=x", "limit=", "sort=up"] {
            assert_eq!(Paging::of(bad).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(Paging::of("limit=0&x=1&y=2").unwrap_err().errors.len(), 3);
        assert_eq!(percent_decode("%"), "%");
        assert_eq!(percent_decode("%zz%c3%a9"), "%zzé");
    }

    #[tokio::test]
    async fn bodies_that_are_wrong_say_where() {
        let read = |kind: &'static str, body: Vec<u8>| async move {
            let request = Request::post("/")
                .header("content-type", kind)
                .body(body.into())
                .unwrap();
            read_json(request).await
        };
        let cut = read("application/json", b"{\"name\": \"de".to_vec())
            .await
            .unwrap_err();
        assert_eq!(
            (cut.status, cut.detail.as_str()),
            (
                400,
                "the JSON body ends too early, at line 1, column 12, after 12 bytes"
            )
        );
        assert_eq!(
            read("application/json", b"{a".to_vec()).await.unwrap_err().status,
            400
        );
        assert_eq!(
            read("application/json", Vec::new()).await.unwrap_err().status,
            400
        );
        assert_eq!(
            read("application/json", vec![b' '; LARGEST_BODY + 1])
                .await
                .unwrap_err()
                .status,
            413
        );
        assert_eq!(read("text/plain", b"{}".to_vec()).await.unwrap_err().status, 415);
        assert_eq!(
            read("application/merge-patch+json", b"{}".to_vec())
                .await
                .unwrap_err()
                .status,
            415
        );
        assert!(
            read("application/json; charset=utf-8", b"{}".to_vec())
                .await
                .is_ok()
        );
        assert_eq!(
            read("application/json", vec![b'['; 5000])
                .await
                .unwrap_err()
                .status,
            400
        );
    }
}
