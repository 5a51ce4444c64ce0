//! What probes and tools ask: health, metrics, the API's own description. Open to all, and silent about tenants.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::problem::{Kind, Problem};
use crate::state::{AppState, ask};

/// Whether the process lives.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Whether the hub's API server answers and the server is not about to end.
pub(crate) async fn ready(State(state): State<AppState>) -> Result<&'static str, Problem> {
    if state.shutdown.is_cancelled() {
        return Err(Kind::Unavailable.because("the server is ending").retry_after(1));
    }
    ask(state.client.apiserver_version()).await.map_err(|error| {
        tracing::warn!(
            error = skep_runtime::error::chain(&error),
            "the hub's API server does not answer"
        );
        Problem::hub_unavailable()
    })?;
    Ok("ok\n")
}

/// The process's metrics in Prometheus' text format.
pub(crate) async fn metrics() -> Result<Response, Problem> {
    let text = skep_runtime::metrics::text().map_err(|error| {
        tracing::error!(%error, "cannot gather metrics");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// The API's own description.
pub(crate) async fn openapi() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        crate::openapi::text(),
    )
        .into_response()
}
