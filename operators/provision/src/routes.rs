//! The endpoints, one file for each thing that they are about, and the layers around them all.

pub(crate) mod catalog;
pub(crate) mod changes;
pub(crate) mod clusters;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod kubeconfig;
pub(crate) mod projects;
pub(crate) mod tokens;

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;

use crate::problem::{Kind, Problem};
use crate::state::AppState;
use crate::telemetry::observe;

/// Time for a request to be answered; event streams begin within it and then go on.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Says that an answer tells of an earlier request with the same `Idempotency-Key`.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Every endpoint of the server.
pub fn router(state: AppState) -> Router {
    let v1 = Router::new()
        .route("/projects", post(projects::create).get(projects::list))
        .route("/projects/{project}", get(projects::get).delete(projects::delete))
        .route(
            "/projects/{project}/tokens",
            post(tokens::create).get(tokens::list),
        )
        .route("/projects/{project}/tokens/{id}", delete(tokens::revoke))
        .route(
            "/projects/{project}/clusters",
            post(clusters::create).get(clusters::list),
        )
        .route(
            "/projects/{project}/clusters/{cluster}",
            get(clusters::get).patch(changes::patch).delete(changes::delete),
        )
        .route(
            "/projects/{project}/clusters/{cluster}/kubeconfig",
            post(kubeconfig::create),
        )
        .route(
            "/projects/{project}/clusters/{cluster}/events",
            get(events::stream),
        )
        .route("/profiles", get(catalog::profiles))
        .route("/versions", get(catalog::versions))
        .route("/classes", get(catalog::classes))
        .route("/regions", get(catalog::regions));
    Router::new()
        .nest("/v1", v1)
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(health::openapi))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn(bound_time))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(from_fn(protect))
        .layer(from_fn(observe))
        .with_state(state)
}

async fn unknown_route(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    Kind::NotFound.because(format!("there is no endpoint {path}; see /openapi.json"))
}

async fn unknown_method(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(200).collect();
    let method: String = request.method().as_str().chars().take(20).collect();
    Kind::MethodNotAllowed.because(format!("{path} does not take {method}; see /openapi.json"))
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Kind::TimedOut
            .because("the request was not answered within 60 s; try again")
            .into_response(),
    }
}

fn answer_panic(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request ended in a panic");
    Problem::internal().into_response()
}

/// Adds the headers that keep browsers and caches from doing anything clever.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether an answer tells of something new or of an earlier request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This request did it.
    Done,
    /// An earlier request with the same `Idempotency-Key` did it.
    Replayed,
}

/// An answer with a body, its place, and whether it is a replay.
pub(crate) fn answer<T: Serialize>(
    status: StatusCode,
    body: &T,
    place: Option<&str>,
    outcome: Outcome,
) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(place) = place.and_then(|place| HeaderValue::from_str(place).ok()) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    if outcome == Outcome::Replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The field manager of everything that this server writes.
pub(crate) fn field_manager() -> String {
    skep_core::labels::field_manager("provision")
}

/// Parameters of a creation.
pub(crate) fn post_params() -> kube::api::PostParams {
    kube::api::PostParams {
        field_manager: Some(field_manager()),
        ..kube::api::PostParams::default()
    }
}
