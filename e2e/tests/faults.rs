//! Operators and agent killed at random moments of a creation and a deletion: it always converges.
//!
//! Each seed is a whole cluster. `SEEDS` says how many: 20, which is the promise. The seed is printed, and `SEED` repeats one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_api::TenantCluster;
use skep_e2e::Platform;
use skep_e2e::platform::eventually;

const OPERATORS: [&str; 3] = ["skep-hub", "skep-agent", "skep-cell"];

/// Kills one operator's pod with no grace, as a dying node would.
async fn kill(client: &Client, operator: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "skep-system");
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={operator}"));
    for pod in pods.list(&selector).await.unwrap() {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        // It may be gone already: two kills can fall into one restart.
        drop(pods.delete(&pod.name_any(), &now).await);
    }
}

async fn strike(client: &Client, chance: &mut StdRng) {
    for _ in 0..chance.random_range(1..=2) {
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..6_000))).await;
        kill(client, OPERATORS[chance.random_range(0..OPERATORS.len())]).await;
    }
}

/// A request that is repeated while the API restarts, with the key that makes it one request.
async fn post(platform: &Platform, name: &str) {
    let body = serde_json::json!({"name": name, "availability": "Single"});
    eventually("the API takes the request", || async {
        let request = platform.request(reqwest::Method::POST, "/v1/projects/default/clusters");
        let answer = request.header("Idempotency-Key", name).json(&body).send().await?;
        anyhow::ensure!(answer.status() == 202, "{}", answer.text().await?);
        Ok(())
    })
    .await
    .unwrap();
}

async fn converges(platform: &Platform, client: &Client, seed: u64) {
    println!("seed {seed}: repeat with SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let name = format!("fault-{seed}");
    let clusters: Api<TenantCluster> = Api::namespaced(client.clone(), "project-default");
    post(platform, &name).await;
    let dies_while_young = chance.random_bool(0.3);
    if dies_while_young {
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..8_000))).await;
    } else {
        strike(client, &mut chance).await;
        eventually("the cluster is ready", || async {
            let conditions = clusters.get(&name).await?.status.unwrap_or_default().conditions;
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
            anyhow::ensure!(ready.is_some_and(|ready| ready.status == "True"), "{ready:?}");
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    }
    let cpid = clusters
        .get(&name)
        .await
        .unwrap()
        .status
        .and_then(|status| status.cpid);
    clusters.delete(&name, &DeleteParams::default()).await.unwrap();
    strike(client, &mut chance).await;
    eventually("nothing is left", || async {
        anyhow::ensure!(clusters.get_opt(&name).await?.is_none(), "{name} is still there");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if let Some(cpid) = &cpid {
            anyhow::ensure!(
                namespaces.get_opt(&format!("cp-{cpid}")).await?.is_none(),
                "cp-{cpid} is still there"
            );
        }
        Ok(())
    })
    .await
    .unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

#[tokio::test]
async fn killed_operators_always_converge() {
    let platform = Platform::connect().unwrap();
    let client = platform.hub().await.unwrap();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SEEDS").unwrap_or(20)).collect::<Vec<u64>>(),
    };
    // Two at a time: as many as two cores start without being what fails.
    for batch in seeds.chunks(2) {
        futures::future::join_all(batch.iter().map(|seed| converges(&platform, &client, *seed))).await;
    }
}
