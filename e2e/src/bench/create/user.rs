//! What a user with a fast client does: asks for a cluster, has a key certified, lists the namespaces.
//!
//! Everything goes through the provisioning API and the gateway, from one process, with nothing prepared.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Certificate, Client, Identity, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::Platform;

/// The project that the benchmark's clusters are in.
pub const PROJECT: &str = "bench";
/// The pause between two tries of a user alone.
pub const PERIOD: Duration = Duration::from_millis(20);
/// How long one try may hang before another takes its place.
const TRY: Duration = Duration::from_secs(1);
/// How long a cluster may take before it counts as not ready.
pub const PATIENCE: Duration = Duration::from_mins(10);

/// What a kubeconfig holds beside the key.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    certificate: String,
    /// The CA that serves the cluster's API, PEM.
    pub certificate_authority: String,
    server: String,
    /// The name that the server's certificate carries.
    pub tls_server_name: String,
}

/// A cluster that answered, and when what was there.
#[derive(Debug, Clone)]
pub struct Creation {
    /// The identity of the control plane.
    pub cpid: String,
    /// Just before the first request.
    pub begun: Instant,
    /// The same moment by the clock that spans carry.
    pub begun_at: SystemTime,
    /// Until the wish was accepted.
    pub accepted: Duration,
    /// Until the certificate came.
    pub certified: Duration,
    /// Until the namespaces were listed.
    pub answered: Duration,
    /// How often the list was tried.
    pub tries: u32,
    /// How many of these tries hung.
    pub hung: u32,
    /// What the user was given.
    pub credentials: Credentials,
}

/// Makes the project where it is missing.
pub async fn make_project(platform: &Platform) -> Result<()> {
    let request = platform.request(Method::POST, "/v1/projects");
    let status = request.json(&json!({"name": PROJECT})).send().await?.status();
    ensure!(
        status.is_success() || status == StatusCode::CONFLICT,
        "cannot make project {PROJECT}: {status}"
    );
    Ok(())
}

/// Removes the project with every cluster in it.
pub async fn delete_project(platform: &Platform) -> Result<()> {
    for name in cluster_names(platform, PROJECT).await? {
        delete(platform, &name).await?;
    }
    let path = format!("/v1/projects/{PROJECT}");
    let status = platform.request(Method::DELETE, &path).send().await?.status();
    ensure!(
        status.is_success() || status == StatusCode::NOT_FOUND,
        "cannot delete project {PROJECT}: {status}"
    );
    Ok(())
}

/// The clusters of a project.
pub async fn cluster_names(platform: &Platform, project: &str) -> Result<Vec<String>> {
    let path = format!("/v1/projects/{project}/clusters?limit=500");
    let answer = platform.request(Method::GET, &path).send().await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    let page: Value = answer.error_for_status()?.json().await?;
    let items = page["items"].as_array().cloned().unwrap_or_default();
    Ok(items
        .iter()
        .filter_map(|item| Some(item["name"].as_str()?.to_owned()))
        .collect())
}

/// Creates a cluster and lists its namespaces as soon as it can, with a pause of `period` between two tries;
/// `traceparent` goes with the first request.
pub async fn create(name: &str, traceparent: Option<&str>, period: Duration) -> Result<Creation> {
    let (begun, begun_at) = (Instant::now(), SystemTime::now());
    let platform = Platform::connect()?;
    let body = json!({"name": name, "availability": "Single"});
    let mut request = platform.request(Method::POST, &clusters());
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let answer = request.json(&body).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(
        status == StatusCode::ACCEPTED,
        "cluster {name} was not accepted: {status} {text}"
    );
    let accepted = begun.elapsed();
    let way = async {
        let cpid = placed(&platform, name, &serde_json::from_str(&text)?).await?;
        let (key, credentials) = certify(&platform, name).await?;
        let certified = begun.elapsed();
        let (tries, hung) = list_namespaces(&key, &credentials, period).await?;
        Ok(Creation {
            cpid,
            begun,
            begun_at,
            accepted,
            certified,
            answered: begun.elapsed(),
            tries,
            hung,
            credentials,
        })
    };
    timeout(PATIENCE, way)
        .await
        .with_context(|| format!("cluster {name} did not answer within {} s", PATIENCE.as_secs()))?
}

/// Asks for a cluster's deletion.
pub async fn delete(platform: &Platform, name: &str) -> Result<()> {
    let answer = platform.request(Method::DELETE, &path(name)).send().await?;
    let status = answer.status();
    ensure!(
        status.is_success() || status == StatusCode::NOT_FOUND,
        "cluster {name} cannot be deleted: {status} {}",
        answer.text().await?
    );
    Ok(())
}

/// Waits until the provisioning API calls a cluster ready.
pub async fn await_ready(platform: &Platform, name: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = platform.request(Method::GET, &path(name)).send().await?;
        let cluster: Value = answer.error_for_status()?.json().await?;
        let ready = &cluster["conditions"][0];
        if ready["type"] == "Ready" && ready["status"] == "True" {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "cluster {name} is not ready: {}",
            ready["message"]
        );
        sleep(Duration::from_millis(250)).await;
    }
}

/// Whether the provisioning API still knows a cluster.
pub async fn exists(platform: &Platform, name: &str) -> Result<bool> {
    let answer = platform.request(Method::GET, &path(name)).send().await?;
    Ok(answer.status() != StatusCode::NOT_FOUND)
}

fn clusters() -> String {
    format!("/v1/projects/{PROJECT}/clusters")
}

fn path(name: &str) -> String {
    format!("{}/{name}", clusters())
}

/// Follows the cluster's events until it has a cell and an address; returns its control plane's identity.
async fn placed(platform: &Platform, name: &str, first: &Value) -> Result<String> {
    if let Some(cpid) = place_of(first) {
        return Ok(cpid);
    }
    loop {
        let request = platform.request(Method::GET, &format!("{}/events", path(name)));
        let answer = request.timeout(PATIENCE).send().await?.error_for_status()?;
        let mut events = std::pin::pin!(answer.bytes_stream().eventsource());
        while let Some(Ok(event)) = events.next().await {
            if event.event != "cluster" {
                continue;
            }
            if let Some(cpid) = place_of(&serde_json::from_str(&event.data)?) {
                return Ok(cpid);
            }
        }
        sleep(PERIOD).await;
    }
}

fn place_of(cluster: &Value) -> Option<String> {
    let state = &cluster["state"];
    let has = |field: &str| state[field].is_string();
    let is_placed = has("cell") && has("endpoint") && has("address");
    is_placed
        .then(|| state["cpid"].as_str().map(str::to_owned))
        .flatten()
}

/// Makes a key and has it certified; the key is returned as PEM.
async fn certify(platform: &Platform, name: &str) -> Result<(String, Credentials)> {
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let body = json!({"csr": request, "ttl": "1h"});
    loop {
        let post = platform.request(Method::POST, &format!("{}/kubeconfig", path(name)));
        let answer = post.json(&body).send().await?;
        match answer.status() {
            status if status.is_success() => return Ok((key.serialize_pem(), answer.json().await?)),
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => {}
            status if status.is_server_error() => {}
            status => bail!("no certificate for {name}: {status} {}", answer.text().await?),
        }
        sleep(PERIOD).await;
    }
}

/// Lists the namespaces until it works; returns how often that was tried and how often a try hung.
async fn list_namespaces(key: &str, credentials: &Credentials, period: Duration) -> Result<(u32, u32)> {
    let address: SocketAddr = credentials
        .server
        .strip_prefix("https://")
        .context("the cluster's API is not at an https address")?
        .parse()?;
    let name = &credentials.tls_server_name;
    let identity = format!("{}{key}", credentials.certificate);
    let ca = Certificate::from_pem(credentials.certificate_authority.as_bytes())?;
    let client = Client::builder()
        .tls_certs_only([ca])
        .identity(Identity::from_pem(identity.as_bytes())?)
        .resolve(name, address)
        .build()?;
    let url = format!("https://{name}:{}/api/v1/namespaces", address.port());
    let (mut tries, mut hung) = (0, 0);
    loop {
        tries += 1;
        match timeout(TRY, is_listed(&client, &url)).await {
            Ok(true) => return Ok((tries, hung)),
            Ok(false) => {}
            Err(_) => hung += 1,
        }
        sleep(period).await;
    }
}

async fn is_listed(client: &Client, url: &str) -> bool {
    let Ok(answer) = client.get(url).send().await else {
        return false;
    };
    answer.status().is_success()
        && answer
            .json::<Value>()
            .await
            .is_ok_and(|list| list["kind"] == "NamespaceList")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_a_place_once_all_of_it_is_known() {
        let mut cluster = json!({"state": {"cpid": "cabcdefghi", "cell": "local", "endpoint": "api.x"}});
        assert_eq!(place_of(&cluster), None);
        cluster["state"]["address"] = json!("198.18.0.2:443");
        assert_eq!(place_of(&cluster).as_deref(), Some("cabcdefghi"));
    }
}
