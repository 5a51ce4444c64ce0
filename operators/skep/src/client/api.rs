//! The HTTP client of the provisioning API: addresses, credentials, retries and errors.
//!
//! It repeats only what is safe to repeat: reads, deletions, and POSTs that carry an `Idempotency-Key`.

use std::path::Path;
use std::time::Duration;

use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_provision::model::Page;
use skep_provision::problem::{Kind, Problem};

use super::Failure;
use crate::platform::home::Home;

/// One request; waiting for a signed certificate is the longest that a server takes over one.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A hub that changes its leader is back within half a minute: eight repetitions bridge it.
const ATTEMPTS: usize = 8;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Entries of a page when a whole list is wanted.
const PAGE: &str = "500";

/// A client with its credentials.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    token: Token,
}

#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl Api {
    /// Reads address, token and CA from `SKEP_API_URL`, `SKEP_API_TOKEN` and `SKEP_API_CA` (a file), else
    /// from the state directory.
    pub fn connect(home: &Home) -> Result<Self, Failure> {
        skep_runtime::install_crypto();
        let url = setting("SKEP_API_URL", &home.api_url())?;
        let token = setting("SKEP_API_TOKEN", &home.api_token())?;
        let ca = std::env::var_os("SKEP_API_CA").map_or_else(|| home.api_ca(), Into::into);
        let ca = std::fs::read(&ca)
            .map_err(|error| Failure::Other(format!("cannot read the API's CA {}: {error}", ca.display())))?;
        let ca = Certificate::from_pem_bundle(&ca).map_err(Failure::from_error)?;
        let http = reqwest::Client::builder()
            .tls_certs_only(ca)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("skep/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Failure::from_error)?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            token: Token(token),
        })
    }

    /// Reads one thing.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.repeat(|| self.request(Method::GET, path)).await
    }

    /// Reads all pages of a list.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let query: Vec<(&str, &str)> = [("limit", PAGE)]
                .into_iter()
                .chain(next.as_deref().map(|token| ("continue", token)))
                .collect();
            let page: Page<T> = self
                .repeat(|| self.request(Method::GET, path).query(&query))
                .await?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
    }

    /// Makes something; repeated with the same key when the connection is lost, so it is made once.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Failure> {
        let key = format!("{:032x}", rand::random::<u128>());
        self.repeat(|| {
            self.request(Method::POST, path)
                .header("Idempotency-Key", &key)
                .json(body)
        })
        .await
    }

    /// Waits until the API answers at all: after a crash the cluster says of its pods for a while what they were.
    pub async fn await_answer(&self, limit: Duration) -> Result<(), Failure> {
        let ask = || async { self.get::<serde_json::Value>("/v1/regions").await.map(drop) };
        let patience = ConstantBuilder::default()
            .with_delay(Duration::from_secs(1))
            .without_max_times();
        let asking = ask.retry(patience).when(is_worth_repeating);
        tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| {
            let text = format!(
                "the provisioning API at {} did not answer within {} s",
                self.url,
                limit.as_secs()
            );
            Err(Failure::Other(format!("{text}; see `skep status`")))
        })
    }

    /// Deletes something; the answer is what is being deleted, where there is one.
    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        let response = self.send(|| self.request(Method::DELETE, path)).await?;
        accept(response).await.map(drop)
    }

    /// Opens a stream of server-sent events; not repeated.
    pub async fn events(&self, path: &str) -> Result<Response, Failure> {
        let url = format!("{}{path}", self.url);
        let response = self.http.get(url).bearer_auth(&self.token.0).send().await;
        accept(response.map_err(|error| self.unreachable(&error))?).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(&self.token.0).timeout(REQUEST_TIMEOUT)
    }

    async fn repeat<T: DeserializeOwned>(&self, build: impl Fn() -> RequestBuilder) -> Result<T, Failure> {
        let response = accept(self.send(build).await?).await?;
        response.json().await.map_err(Failure::from_error)
    }

    /// Sends until there is an answer that is not 429, 502, 503 or 504, a few times.
    async fn send(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        let attempt = || async {
            let response = build().send().await.map_err(|error| self.unreachable(&error))?;
            if is_passing(response.status()) {
                Err(Failure::Problem(Box::new(problem(response).await)))
            } else {
                Ok(response)
            }
        };
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(200));
        let backoff = backoff.with_max_delay(LONGEST_PAUSE).with_max_times(ATTEMPTS);
        attempt.retry(backoff).when(is_worth_repeating).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = if error.is_timeout() {
            "no answer in time"
        } else {
            "no connection"
        };
        Failure::Other(format!(
            "{cause} from the provisioning API at {}; see `skep status`",
            self.url
        ))
    }
}

fn setting(variable: &str, file: &Path) -> Result<String, Failure> {
    if let Some(value) = std::env::var(variable).ok().filter(|value| !value.is_empty()) {
        return Ok(value);
    }
    let read = std::fs::read_to_string(file);
    read.map(|text| text.trim().to_owned()).map_err(|_| {
        let file = file.display();
        Failure::Other(format!(
            "no platform here: {file} cannot be read; run `skep up`, or set {variable}"
        ))
    })
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503)
}

fn is_worth_repeating(failure: &Failure) -> bool {
    match failure {
        Failure::Problem(problem) => matches!(problem.status, 429 | 502 | 503),
        Failure::Other(_) => true,
        _ => false,
    }
}

async fn accept(response: Response) -> Result<Response, Failure> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Failure::Problem(Box::new(problem(response).await)))
}

/// The problem in an answer; one of our own where something between us and the server answered.
async fn problem(response: Response) -> Problem {
    let status = response.status();
    let url = response.url().path().to_owned();
    if let Ok(problem) = response.json::<Problem>().await {
        problem
    } else {
        let mut problem = Kind::Unavailable.because(format!("{status} from {url} without an explanation"));
        problem.status = status.as_u16();
        problem
    }
}
