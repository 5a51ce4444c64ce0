//! The plain HTTP endpoints of every process: `/metrics`, `/healthz`, `/readyz`.
//!
//! They tell nothing of tenants and take no input.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Named flags that all must be up before the process counts as ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

impl Readiness {
    /// Adds a flag that is down.
    #[must_use]
    pub fn flag(&self, name: &'static str) -> ReadinessFlag {
        self.set(name, false);
        ReadinessFlag {
            readiness: self.clone(),
            name,
        }
    }

    /// The flags that are down; ready when there are none.
    pub fn missing(&self) -> Vec<&'static str> {
        let flags = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        flags
            .iter()
            .filter(|(_, up)| !**up)
            .map(|(name, _)| *name)
            .collect()
    }

    fn set(&self, name: &'static str, up: bool) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, up);
    }
}

/// One part of readiness, held by what it speaks for.
#[derive(Clone, Debug)]
pub struct ReadinessFlag {
    readiness: Readiness,
    name: &'static str,
}

impl ReadinessFlag {
    /// Puts the flag up.
    pub fn up(&self) {
        self.readiness.set(self.name, true);
    }

    /// Takes the flag down.
    pub fn down(&self) {
        self.readiness.set(self.name, false);
    }
}

/// A bound server; binding first lets a process fail early when the port is taken.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    readiness: Readiness,
}

impl Server {
    /// Binds the address.
    pub async fn bind(address: SocketAddr, readiness: Readiness) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            readiness,
        })
    }

    /// The bound address, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> std::io::Result<()> {
        axum::serve(self.listener, router(self.readiness))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    }
}

/// The three routes, for a process that serves them with others.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(readiness)
}

async fn metrics() -> Response {
    match crate::metrics::text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "cannot gather metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("waiting for {}\n", missing.join(", ")),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn serves_health_readiness_and_metrics() {
        let readiness = Readiness::default();
        let cache = readiness.flag("cache");
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), readiness)
            .await
            .unwrap();
        let address = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));

        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = fetch(address, "/readyz").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting for cache"),
            "{waiting}"
        );
        cache.up();
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        crate::metrics::LEADING.with_label_values(&["serve-test"]).set(1);
        assert!(
            fetch(address, "/metrics")
                .await
                .contains("skep_leader{lease=\"serve-test\"} 1")
        );
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }
}
