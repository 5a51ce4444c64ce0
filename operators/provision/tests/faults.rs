//! What a caller sees when the hub fails: a hub made of answers, each wrong in its own way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use serde_json::{Value, json};
use skep_provision::AppState;
use skep_provision::routes::router;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt, service_fn};

const TOKEN: &str = "a.b.c";
const CLUSTER: &str = "/v1/projects/shop/clusters/demo";
const SECRET_TEXT: &str = "etcdserver: mvcc: at 10.0.0.7";

/// What the hub does with a request that is no review.
type Behaviour = fn(&Method, &str) -> Reply;

enum Reply {
    Status(u16, &'static str),
    Object(Value),
    Never,
}

fn client(behaviour: Behaviour) -> Client {
    let answer = move |request: Request<kube::client::Body>| -> BoxFuture<'static, _> {
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let reply = match path.split('?').next().unwrap() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => Reply::Object(json!({"spec": {"token": TOKEN},
                "status": {"authenticated": true, "user": {"username": "ann"}}})),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                Reply::Object(json!({"spec": {}, "status": {"allowed": true}}))
            }
            _ => behaviour(&method, &path),
        };
        match reply {
            Reply::Never => futures::future::pending().boxed(),
            Reply::Object(value) => respond(200, &value),
            Reply::Status(code, reason) => respond(
                code,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                    "message": SECRET_TEXT}),
            ),
        }
    };
    Client::new(service_fn(answer), "default")
}

fn respond(code: u16, value: &Value) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    let response = Response::builder()
        .status(code)
        .body(Body::from(value.to_string()))
        .unwrap();
    async move { Ok(response) }.boxed()
}

async fn ask(behaviour: Behaviour, method: Method, path: &str, body: Option<Value>) -> (u16, Value, bool) {
    let state = AppState::new(client(behaviour), CancellationToken::new());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {TOKEN}"));
    let request = match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    let answer = router(state).oneshot(request.unwrap()).await.unwrap();
    let (status, has_retry) = (
        answer.status().as_u16(),
        answer.headers().contains_key("retry-after"),
    );
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(!text.contains("mvcc") && !text.contains("10.0.0.7"), "{text}");
    (status, serde_json::from_str(&text).unwrap(), has_retry)
}

#[tokio::test]
async fn a_hub_that_fails_is_a_503_that_says_when_to_come_back() {
    for behaviour in [
        (|_, _| Reply::Status(500, "InternalError")) as Behaviour,
        |_, _| Reply::Status(503, "ServiceUnavailable"),
        |_, _| Reply::Status(429, "TooManyRequests"),
        |_, _| Reply::Status(504, "Timeout"),
    ] {
        let (status, _, has_retry) = ask(behaviour, Method::GET, CLUSTER, None).await;
        assert_eq!((status, has_retry), (503, true));
    }
}

#[tokio::test]
async fn a_hub_that_refuses_this_server_is_a_500_without_its_words() {
    let (status, _, _) = ask(|_, _| Reply::Status(403, "Forbidden"), Method::GET, CLUSTER, None).await;
    assert_eq!(status, 500);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_hangs_is_a_503() {
    let (status, _, has_retry) = ask(|_, _| Reply::Never, Method::GET, CLUSTER, None).await;
    assert_eq!((status, has_retry), (503, true));
}

#[tokio::test]
async fn a_list_that_has_lapsed_says_to_begin_again() {
    let path = "/v1/projects/shop/clusters?continue=abc";
    let (status, body, _) = ask(|_, _| Reply::Status(410, "Expired"), Method::GET, path, None).await;
    assert_eq!(status, 400);
    assert!(body["type"].as_str().unwrap().ends_with("/expired"), "{body}");
}

fn placed() -> Value {
    json!({"apiVersion": "skep.dev/v1alpha1", "kind": "TenantCluster",
        "metadata": {"name": "demo", "namespace": "project-shop", "uid": "u", "resourceVersion": "1"},
        "spec": {}, "status": {"cell": "local", "cpid": "cabcdefghi", "endpoint": "api.x", "address": "h:443"}})
}

#[tokio::test]
async fn a_cluster_that_others_change_all_the_time_is_a_409() {
    let behaviour: Behaviour = |method, _| match *method {
        Method::DELETE => Reply::Status(409, "Conflict"),
        _ => Reply::Object(placed()),
    };
    let (status, body, _) = ask(behaviour, Method::DELETE, CLUSTER, None).await;
    assert_eq!(status, 409);
    assert_eq!(body["current"]["name"], "demo");
}

fn signing(method: &Method, path: &str, condition: Option<Value>) -> Reply {
    let request = json!({"apiVersion": "skep.dev/v1alpha1", "kind": "CertificateRequest",
        "metadata": {"name": "r", "namespace": "skep-cell-local", "resourceVersion": "1"},
        "spec": {"cpid": "cabcdefghi", "request": "x", "ttlSeconds": 600, "username": "u", "groups": []},
        "status": {"conditions": condition.into_iter().collect::<Vec<_>>()}});
    match (method, path) {
        (&Method::GET, path) if path.contains("watch=") => Reply::Never,
        (&Method::GET, path) if path.contains("certificaterequests") => Reply::Object(json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "CertificateRequestList", "metadata": {"resourceVersion": "1"},
            "items": [request]})),
        (&Method::POST, _) => Reply::Object(request),
        _ => Reply::Object(placed()),
    }
}

fn csr() -> Value {
    let (_, request) = skep_pki::new_request("ann", &[]).unwrap();
    json!({"csr": request.as_str()})
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_does_not_sign_is_a_504() {
    let path = format!("{CLUSTER}/kubeconfig");
    let (status, body, _) = ask(|m, p| signing(m, p, None), Method::POST, &path, Some(csr())).await;
    assert_eq!(status, 504, "{body}");
}

#[tokio::test]
async fn a_cell_that_refuses_to_sign_names_the_field() {
    let behaviour: Behaviour = |method, path| {
        let condition = json!({"type": "Issued", "status": "False", "reason": "Refused", "message": "weak key",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        signing(method, path, Some(condition))
    };
    let path = format!("{CLUSTER}/kubeconfig");
    let (status, body, _) = ask(behaviour, Method::POST, &path, Some(csr())).await;
    assert_eq!(status, 422);
    assert_eq!(body["errors"], json!([{"field": "csr", "message": "weak key"}]));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let never: Behaviour = |_, _| Reply::Never;
    assert_eq!(ask(never, Method::GET, "/v1/nothing", None).await.0, 404);
    assert_eq!(ask(never, Method::PUT, CLUSTER, None).await.0, 405);
    assert_eq!(
        ask(
            never,
            Method::POST,
            &format!("{CLUSTER}/upgrade"),
            Some(json!({}))
        )
        .await
        .0,
        404
    );
    assert_eq!(
        ask(never, Method::GET, "/v1/projects/%ff/clusters/x", None)
            .await
            .0,
        404
    );
    assert_eq!(
        ask(never, Method::GET, "/v1/projects/UPPER/clusters/x", None)
            .await
            .0,
        404
    );
}
