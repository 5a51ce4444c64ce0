//! The side where the machines are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use serde::Serialize;
use skep_builder::{CellProvider, Order, ProviderError, Token};
use skep_pki::{CertificateAuthority, LeafRequest, PkiError, San};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::wire::Refusal;

/// Time for requests that are under way to be answered at the end.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the server's certificate is made anew: it lasts many times as long.
const RENEWAL: Duration = Duration::from_hours(24);

/// What the server shows, and what it asks for.
pub struct Identity {
    /// Signs the server's certificates; clients pin its certificate.
    pub authority: CertificateAuthority,
    /// The addresses under which clients reach the server.
    pub names: Vec<San>,
    /// The bearer token that clients must have.
    pub token: String,
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It has no certificate.
    #[error("the provider's server has no certificate")]
    Certificate(#[source] PkiError),
    /// Its certificate cannot be used.
    #[error("the certificate of the provider's server cannot be used")]
    Load(#[source] std::io::Error),
    /// It cannot listen, or the socket failed.
    #[error("the provider's server cannot serve on {address}")]
    Serve {
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Serves a provider until `shutdown`.
pub async fn serve(
    provider: Arc<dyn CellProvider>,
    address: SocketAddr,
    identity: Identity,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (certificate, key) = issue(&identity).map_err(ServeError::Certificate)?;
    let config = RustlsConfig::from_pem(certificate, key)
        .await
        .map_err(ServeError::Load)?;
    let handle = Handle::new();
    let service = router(provider, &identity.token).into_make_service();
    let served = axum_server::bind_rustls(address, config.clone())
        .handle(handle.clone())
        .serve(service);
    let ending = async {
        shutdown.cancelled().await;
        handle.graceful_shutdown(Some(DRAIN));
        std::future::pending::<()>().await;
    };
    tracing::info!(%address, "the provider of cells serves");
    tokio::select! {
        result = served => result.map_err(|source| ServeError::Serve { address, source }),
        () = renew(&identity, &config) => Ok(()),
        () = ending => Ok(()),
    }
}

fn issue(identity: &Identity) -> Result<(Vec<u8>, Vec<u8>), PkiError> {
    let request = LeafRequest::server("skep-provider", identity.names.clone());
    let leaf = identity.authority.issue(&request, Timestamp::now())?;
    Ok((
        leaf.certificate.as_bytes().to_vec(),
        leaf.key.expose().as_bytes().to_vec(),
    ))
}

/// Makes the certificate anew for as long as it is polled; connections that stand are not touched.
async fn renew(identity: &Identity, config: &RustlsConfig) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        match issue(identity) {
            Ok((certificate, key)) => {
                if let Err(error) = config.reload_from_pem(certificate, key).await {
                    tracing::error!(%error, "a new certificate cannot be used");
                }
            }
            Err(error) => tracing::error!(%error, "no new certificate"),
        }
    }
}

type Provider = Arc<dyn CellProvider>;

fn router(provider: Provider, token: &str) -> Router {
    let expected: Arc<str> = format!("Bearer {token}").into();
    Router::new()
        .route("/v1/quotes", post(quote))
        .route("/v1/cells", post(create))
        .route("/v1/cells/{token}", get(describe).delete(delete))
        .route("/v1/leaks", post(leaks))
        .with_state(provider)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let expected = expected.clone();
            async move { admit(&expected, request, next).await }
        }))
}

async fn admit(expected: &str, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.map(HeaderValue::as_bytes).unwrap_or_default();
    if bool::from(given.ct_eq(expected.as_bytes())) {
        return next.run(request).await;
    }
    StatusCode::UNAUTHORIZED.into_response()
}

async fn quote(State(provider): State<Provider>, Json(order): Json<Order>) -> Response {
    answer(provider.quote(&order).await)
}

async fn create(State(provider): State<Provider>, Json(order): Json<Order>) -> Response {
    answer(provider.create(&order).await)
}

async fn describe(State(provider): State<Provider>, Path(token): Path<Token>) -> Response {
    answer(provider.describe(&token).await)
}

async fn delete(State(provider): State<Provider>, Path(token): Path<Token>) -> Response {
    answer(provider.delete(&token).await)
}

async fn leaks(State(provider): State<Provider>, Json(known): Json<BTreeSet<Token>>) -> Response {
    answer(provider.leaks(&known).await)
}

fn answer<T: Serialize>(result: Result<T, ProviderError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match &error {
                ProviderError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
                ProviderError::Exhausted { .. } => StatusCode::INSUFFICIENT_STORAGE,
                ProviderError::Transient { .. } => StatusCode::SERVICE_UNAVAILABLE,
                ProviderError::Refused { .. } => StatusCode::CONFLICT,
            };
            (status, Json(Refusal::from(error))).into_response()
        }
    }
}
