//! The side where the cells are wanted.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Certificate, Client, Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_builder::{CellProvider, Deletion, Described, Leak, Order, ProviderError, Quote, Stage, Token};

use crate::wire::Refusal;

/// A call starts work and does not wait for it; taking a cell's machines down is the longest.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A client that could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build the client of the provider: its authority is no PEM certificate")]
pub struct ClientError(#[source] reqwest::Error);

/// A provider that is reached over HTTPS.
pub struct RemoteProvider {
    http: Client,
    url: String,
    token: String,
}

impl RemoteProvider {
    /// The provider at `url`, whose certificate `authority` (PEM) has signed.
    pub fn new(url: &str, authority: &str, token: &str) -> Result<Self, ClientError> {
        skep_runtime::install_crypto();
        let authority = Certificate::from_pem(authority.as_bytes()).map_err(ClientError)?;
        let http = Client::builder()
            .tls_certs_only([authority])
            .timeout(TIMEOUT)
            .build()
            .map_err(ClientError)?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ProviderError> {
        let lost = |source: reqwest::Error| ProviderError::Transient {
            what: what.to_owned(),
            after: None,
            source: Box::new(source),
        };
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(lost)?;
        if response.status().is_success() {
            return response.json().await.map_err(lost);
        }
        Err(refusal(what, response).await)
    }
}

async fn refusal(what: &str, response: Response) -> ProviderError {
    let (status, url) = (response.status(), response.url().clone());
    let told = response.json::<Refusal>().await;
    match told {
        Ok(refusal) => refusal.into(),
        // A server that does not know us will not do so by itself; anything else may pass.
        Err(_) if status == StatusCode::UNAUTHORIZED => ProviderError::Refused {
            what: what.to_owned(),
            source: format!("{url} does not take the token of this platform's provider").into(),
        },
        Err(_) => ProviderError::Transient {
            what: what.to_owned(),
            after: None,
            source: format!("{url} answered {status}").into(),
        },
    }
}

const NOTHING: Option<&()> = None;

#[async_trait]
impl CellProvider for RemoteProvider {
    async fn quote(&self, order: &Order) -> Result<Quote, ProviderError> {
        self.ask("ask for a price", Method::POST, "/v1/quotes", Some(order))
            .await
    }

    async fn create(&self, order: &Order) -> Result<Stage, ProviderError> {
        self.ask("order the cell", Method::POST, "/v1/cells", Some(order))
            .await
    }

    async fn describe(&self, token: &Token) -> Result<Option<Described>, ProviderError> {
        let path = format!("/v1/cells/{token}");
        self.ask("look at the cell", Method::GET, &path, NOTHING).await
    }

    async fn delete(&self, token: &Token) -> Result<Deletion, ProviderError> {
        let path = format!("/v1/cells/{token}");
        self.ask("remove the cell", Method::DELETE, &path, NOTHING).await
    }

    async fn leaks(&self, known: &BTreeSet<Token>) -> Result<Vec<Leak>, ProviderError> {
        self.ask("look for leaks", Method::POST, "/v1/leaks", Some(known))
            .await
    }
}
