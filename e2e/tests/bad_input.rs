//! Bad input to the provisioning API: the documented status, a message that names the field, nothing lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use skep_e2e::Platform;

const CLUSTERS: &str = "/v1/projects/default/clusters";
const KUBECONFIG: &str = "/v1/projects/default/clusters/demo/kubeconfig";
const WEAK_KEY: &str = include_str!("../fixtures/weak-key.csr");

async fn problem(answer: reqwest::Response) -> (StatusCode, Value) {
    let status = answer.status();
    let kind = answer
        .headers()
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    let text = answer.text().await.unwrap();
    assert_eq!(
        kind.as_deref(),
        Some("application/problem+json"),
        "{status} {text}"
    );
    let body: Value = serde_json::from_str(&text).unwrap();
    for member in ["type", "title", "status", "detail"] {
        assert!(!body[member].is_null(), "{member} is missing in {body}");
    }
    assert_eq!(body["status"], status.as_u16(), "{body}");
    (status, body)
}

async fn post(path: &str, body: &Value) -> (StatusCode, Value) {
    let platform = Platform::connect().unwrap();
    problem(
        platform
            .request(Method::POST, path)
            .json(body)
            .send()
            .await
            .unwrap(),
    )
    .await
}

fn names_field(body: &Value, field: &str) -> bool {
    body["errors"].as_array().is_some_and(|errors| {
        errors
            .iter()
            .any(|e| e["field"] == field && e["message"].as_str().is_some_and(|m| m.len() > 5))
    })
}

async fn nothing_was_made(name: &str) {
    let platform = Platform::connect().unwrap();
    let answer = platform
        .request(Method::GET, &format!("{CLUSTERS}/{name}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn each_wrong_field_of_a_cluster_is_named() {
    let long = "x".repeat(41);
    let cases = [
        ("version", json!({"name": "bad", "version": "9.9.9"})),
        ("version", json!({"name": "bad", "version": "1.37.0"})),
        ("version", json!({"name": "bad", "version": "newest"})),
        ("profile", json!({"name": "bad", "profile": "nonsense"})),
        ("class", json!({"name": "bad", "class": "gigantic"})),
        ("region", json!({"name": "bad", "region": "atlantis"})),
        (
            "availability",
            json!({"name": "bad", "availability": "Sometimes"}),
        ),
        (
            "network.pods",
            json!({"name": "bad", "network": {"pods": "198.19.0.0/33", "services": "198.19.128.0/20"}}),
        ),
        (
            "network.pods",
            json!({"name": "bad", "network": {"pods": "198.19.0.1/17", "services": "198.19.128.0/20"}}),
        ),
        (
            "network.services",
            json!({"name": "bad", "network": {"pods": "198.19.0.0/17", "services": "198.19.64.0/20"}}),
        ),
        (
            "network.pods",
            json!({"name": "bad", "network": {"pods": "198.18.0.0/16", "services": "198.19.128.0/20"}}),
        ),
        ("name", json!({"name": long})),
        ("name", json!({"name": "No_Label"})),
        ("name", json!({"name": ""})),
        ("name", json!({})),
        ("colour", json!({"name": "bad", "colour": "red"})),
    ];
    for (field, body) in cases {
        let (status, problem) = post(CLUSTERS, &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {problem}");
        assert!(names_field(&problem, field), "{body}: {problem}");
    }
    nothing_was_made("bad").await;
}

#[tokio::test]
async fn all_wrong_fields_are_told_at_once() {
    let body = json!({"name": "bad", "version": "9.9.9", "profile": "nonsense", "region": "atlantis"});
    let (_, problem) = post(CLUSTERS, &body).await;
    for field in ["version", "profile", "region"] {
        assert!(names_field(&problem, field), "{field}: {problem}");
    }
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_that_carries_what_stands() {
    let (status, problem) = post(CLUSTERS, &json!({"name": "demo"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(problem.to_string().contains("demo"), "{problem}");
}

#[tokio::test]
async fn a_project_or_cluster_that_is_not_there_is_not_found() {
    let (status, problem) = post("/v1/projects/nowhere/clusters", &json!({"name": "lost"})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    assert!(
        problem["detail"].as_str().unwrap().contains("nowhere"),
        "{problem}"
    );
    let platform = Platform::connect().unwrap();
    let answer = platform
        .request(Method::GET, &format!("{CLUSTERS}/nobody"))
        .send()
        .await
        .unwrap();
    assert_eq!(problem_status(answer).await, StatusCode::NOT_FOUND);
}

async fn problem_status(answer: reqwest::Response) -> StatusCode {
    problem(answer).await.0
}

#[tokio::test]
async fn no_token_and_a_wrong_one_are_unauthorized() {
    let platform = Platform::connect().unwrap();
    let none = platform.anonymous(Method::GET, CLUSTERS).send().await.unwrap();
    assert!(none.headers().contains_key("www-authenticate"));
    assert_eq!(problem_status(none).await, StatusCode::UNAUTHORIZED);
    for token in ["nonsense", "skep_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbb", "a.b.c"] {
        let wrong = platform
            .anonymous(Method::GET, CLUSTERS)
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        assert_eq!(problem_status(wrong).await, StatusCode::UNAUTHORIZED, "{token}");
    }
}

#[tokio::test]
async fn another_projects_token_is_forbidden_and_a_revoked_one_is_worthless() {
    let platform = Platform::connect().unwrap();
    platform
        .skep(&["project", "create", "others"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let create = [
        "token",
        "create",
        "--project",
        "others",
        "--ttl",
        "10m",
        "-o",
        "json",
    ];
    let token = platform.skep(&create).await.unwrap().json().unwrap();
    let (id, secret) = (token["id"].as_str().unwrap(), token["token"].as_str().unwrap());
    let get = async |path: &str| {
        platform
            .anonymous(Method::GET, path)
            .bearer_auth(secret)
            .send()
            .await
            .unwrap()
    };
    let own = get("/v1/projects/others/clusters").await;
    assert_eq!(own.status(), StatusCode::OK, "{}", own.text().await.unwrap());
    assert_eq!(problem_status(get(CLUSTERS).await).await, StatusCode::FORBIDDEN);
    assert_eq!(
        problem_status(get("/v1/projects/others/tokens").await).await,
        StatusCode::FORBIDDEN
    );
    platform
        .skep(&["token", "revoke", id, "--project", "others"])
        .await
        .unwrap()
        .success()
        .unwrap();
    skep_e2e::platform::eventually("the revoked token is refused", || async {
        let status = get("/v1/projects/others/clusters").await.status();
        anyhow::ensure!(status == StatusCode::UNAUTHORIZED, "{status}");
        Ok(())
    })
    .await
    .unwrap();
    platform
        .skep(&["project", "delete", "others"])
        .await
        .unwrap()
        .success()
        .unwrap();
}

fn request_for(name: &str, organization: Option<&str>) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    if let Some(organization) = organization {
        parameters
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organization);
    }
    parameters.serialize_request(&key).unwrap().pem().unwrap()
}

#[tokio::test]
async fn a_bad_signing_request_is_refused_by_field() {
    let good = request_for("me", None);
    let truncated = &good[..good.len() / 2];
    let cases = [
        ("csr", json!({"csr": "nonsense"})),
        ("csr", json!({"csr": truncated})),
        ("csr", json!({"csr": request_for("me", Some("system:masters"))})),
        ("csr", json!({"csr": WEAK_KEY})),
        ("csr", json!({})),
        ("ttl", json!({"csr": good, "ttl": "one eternity"})),
        ("ttl", json!({"csr": good, "ttl": "48h"})),
        ("ttl", json!({"csr": good, "ttl": "1s"})),
    ];
    for (field, body) in cases {
        let (status, problem) = post(KUBECONFIG, &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {problem}");
        assert!(names_field(&problem, field), "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_certificate_lives_an_hour_or_less_and_its_key_never_left() {
    let platform = Platform::connect().unwrap();
    let body = json!({"csr": request_for("me", None)});
    let answer = platform
        .request(Method::POST, KUBECONFIG)
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let text = answer.text().await.unwrap();
    assert!(!text.contains("PRIVATE KEY"));
    let answer: Value = serde_json::from_str(&text).unwrap();
    let path = platform.home.join("e2e/certificate.pem");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, answer["certificate"].as_str().unwrap()).unwrap();
    let check = |seconds: &'static str| {
        let path = path.clone();
        async move {
            let mut command = tokio::process::Command::new("openssl");
            command
                .arg("x509")
                .arg("-in")
                .arg(path)
                .args(["-noout", "-checkend", seconds]);
            skep_e2e::platform::run(&mut command, None).await.unwrap().status
        }
    };
    assert_eq!(check("3000").await, 0, "it is valid for most of an hour");
    assert_ne!(check("3601").await, 0, "it is not valid for longer than an hour");
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn the_same_idempotency_key_makes_one_cluster_and_another_body_is_refused() {
    let platform = Platform::connect().unwrap();
    let body = json!({"name": "once", "availability": "Single"});
    let send = async |path: &str, key: &str, body: &Value| {
        let request = platform
            .request(Method::POST, path)
            .header("Idempotency-Key", key);
        request.json(body).send().await.unwrap()
    };
    let first = send(CLUSTERS, "key-of-once", &body).await;
    assert_eq!(
        first.status(),
        StatusCode::ACCEPTED,
        "{}",
        first.text().await.unwrap()
    );
    let again = send(CLUSTERS, "key-of-once", &body).await;
    assert_eq!(
        again.status(),
        StatusCode::ACCEPTED,
        "{}",
        again.text().await.unwrap()
    );
    let first: Value = first.json().await.unwrap();
    let again: Value = again.json().await.unwrap();
    assert_eq!(first["uid"], again["uid"]);
    assert!(first["uid"].is_string(), "{first}");
    for other in [
        json!({"name": "once"}),
        json!({"name": "twice", "availability": "Single"}),
    ] {
        let (status, problem) = problem(send(CLUSTERS, "key-of-once", &other).await).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .to_lowercase()
                .contains("idempotency"),
            "{problem}"
        );
    }
    nothing_was_made("twice").await;
    let delete = ["cluster", "delete", "once", "--wait", "--timeout", "5m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
}

#[tokio::test]
async fn bodies_that_are_too_large_cut_short_or_of_another_kind_are_refused() {
    let platform = Platform::connect().unwrap();
    let send = async |kind: &str, body: String| {
        let request = platform
            .request(Method::POST, CLUSTERS)
            .header("content-type", kind.to_owned());
        problem(request.body(body).send().await.unwrap()).await
    };
    let large = json!({"name": "x".repeat(100_000)}).to_string();
    assert_eq!(
        send("application/json", large).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let (status, cut) = send("application/json", r#"{"name": "ha"#.into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(cut["detail"].as_str().unwrap().contains("column"), "{cut}");
    assert_eq!(
        send("text/plain", "name=demo".into()).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_a_problem_too() {
    let platform = Platform::connect().unwrap();
    let missing = platform.request(Method::GET, "/v1/nothing").send().await.unwrap();
    assert_eq!(problem_status(missing).await, StatusCode::NOT_FOUND);
    let method = platform.request(Method::PUT, CLUSTERS).send().await.unwrap();
    assert_eq!(problem_status(method).await, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn deletion_while_creating_ends_with_nothing_left() {
    let platform = Platform::connect().unwrap();
    platform
        .skep(&["cluster", "create", "brief"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let delete = ["cluster", "delete", "brief", "--wait", "--timeout", "5m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    nothing_was_made("brief").await;
    let left = platform
        .kubectl(&["get", "deploymentrecords,controlplanes", "-A", "-o", "json"])
        .await
        .unwrap();
    assert!(!left.json().unwrap().to_string().contains("\"brief\""));
}
