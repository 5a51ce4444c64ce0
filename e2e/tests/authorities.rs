//! The authorities of a tenant's datastore are replaced under a tenant that works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::{EtcdTrust, TrustPhase};
use skep_e2e::{Platform, Tenant};
use skep_runtime::client::{ClientUse, from_kubeconfig};
use tokio_util::sync::CancellationToken;

const OBJECT: &str = "clock";
/// Every member and every apiserver is made anew three times, one after the other.
const LONGEST: Duration = Duration::from_mins(8);
/// Between two requests of the tenant.
const PAUSE: Duration = Duration::from_millis(200);

/// What etcd says of a proposal that its leader did not take.
const DROPPED: &str = "raft proposal dropped";
/// One for each of the steps, in which the leader is made anew once.
const MOST_DROPPED: usize = 3;

/// What the tenant's requests came to.
#[derive(Debug, Default)]
struct Worked {
    answered: u64,
    /// How many of etcd's leaders did not take.
    dropped: usize,
    failed: Vec<String>,
    slowest: Duration,
}

/// Asks as a well-behaved client does: again after a second, up to ten times, where the server says that it ends, as Go's
/// client does; again at once where the server has closed the connection.
///
/// A server may close a connection just when a request is sent on it. Go's client sends it again on another one, where doing
/// so is safe; ours does not. An etcd that hands its leadership over takes no proposal until that is done, and says so; the
/// API server hands that on instead of asking again.
async fn ask<T>(dropped: &mut usize, asked: impl AsyncFn() -> kube::Result<T>) -> kube::Result<T> {
    let mut attempts = 0..10;
    loop {
        match asked().await {
            Err(error @ kube::Error::Service(_)) if attempts.next().is_some() => {
                if !format!("{error:?}").contains("IncompleteMessage") {
                    return Err(error);
                }
            }
            Err(kube::Error::Api(status)) if status.code == 429 && attempts.next().is_some() => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(kube::Error::Api(status))
                if status.message.contains(DROPPED) && attempts.next().is_some() =>
            {
                *dropped += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

/// Writes and reads until it is stopped; every answer that is no success is kept.
async fn work(objects: Api<ConfigMap>, stop: CancellationToken) -> Worked {
    let mut worked = Worked::default();
    let begun = Instant::now();
    while !stop.is_cancelled() {
        let number = worked.answered.to_string();
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": OBJECT}, "data": {"n": number}});
        let asked = Instant::now();
        let answer = async {
            let params = PatchParams::apply("e2e").force();
            let patch = Patch::Apply(object);
            ask(&mut worked.dropped, async || {
                objects.patch(OBJECT, &params, &patch).await
            })
            .await?;
            ask(&mut worked.dropped, async || objects.get(OBJECT).await).await
        };
        match answer.await {
            Ok(read) if read.data.as_ref().is_some_and(|data| data["n"] == number) => {}
            Ok(read) => worked
                .failed
                .push(format!("{number} was written, {:?} read", read.data)),
            Err(error) => worked
                .failed
                .push(format!("after {:?}: {error:?}", begun.elapsed())),
        }
        worked.answered += 1;
        worked.slowest = worked.slowest.max(asked.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    worked
}

/// Looks until the replacement is over; returns the phases that were seen.
async fn watch_replacement(datastores: &Api<EtcdCluster>) -> Result<Vec<TrustPhase>> {
    let mut phases: Vec<EtcdTrust> = Vec::new();
    loop {
        let found = datastores.get("etcd").await?;
        let status = found.status.context("no status")?;
        let mut ready = status
            .conditions
            .iter()
            .filter(|condition| condition.type_ == "Ready");
        let ready = ready.next().context("it is not said whether it is ready")?;
        if let Some(trust) = status.trust {
            if phases.last() != Some(&trust) {
                println!("{:?} {}: {}", trust.phase, trust.revision, ready.message);
                phases.push(trust.clone());
            }
            let is_told = found.spec.client_trust.as_ref() == Some(&trust.revision);
            if trust.phase == TrustPhase::Settled && is_told && ready.status == "True" {
                return Ok(phases.into_iter().map(|trust| trust.phase).collect());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A client that tries nothing a second time.
async fn client_of(tenant: &Tenant) -> Result<Client> {
    let kubeconfig = tenant.kubeconfig()?;
    Ok(from_kubeconfig(kubeconfig.as_bytes(), "e2e", ClientUse::Tenant).await?)
}

async fn authorities(secrets: &Api<Secret>) -> Result<[String; 2]> {
    let text = async |name: &str| -> Result<String> {
        let data = secrets.get(name).await?.data.context("no data")?;
        Ok(String::from_utf8(data["ca.crt"].0.clone())?)
    };
    Ok([text("etcd-peer").await?, text("etcd-client-apiserver").await?])
}

/// Members and apiservers are made anew three times each, which takes minutes.
#[tokio::test]
async fn the_authorities_of_a_datastore_are_replaced_and_its_tenant_goes_on() {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::create(&platform, "rotates", &[]).await.unwrap();
    let namespace = format!("cp-{}", platform.cpid("rotates").await.unwrap());
    let hub = platform.hub().await.unwrap();
    let datastores: Api<EtcdCluster> = Api::namespaced(hub.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(hub, &namespace);
    let before = authorities(&secrets).await.unwrap();

    let stop = CancellationToken::new();
    let objects = Api::namespaced(client_of(&tenant).await.unwrap(), "default");
    let replace = async {
        let rotate = Patch::Merge(json!({"spec": {"authorityRotation": 1}}));
        datastores
            .patch("etcd", &PatchParams::default(), &rotate)
            .await
            .unwrap();
        let phases = tokio::time::timeout(LONGEST, watch_replacement(&datastores)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.cancel();
        phases.expect("the authorities are not replaced in time").unwrap()
    };
    let (worked, phases) = tokio::join!(work(objects, stop.clone()), replace);
    println!(
        "{} writes and reads, {} of them asked again as a leader did not take them, the slowest took {:?}",
        worked.answered, worked.dropped, worked.slowest
    );
    assert!(
        worked.failed.is_empty(),
        "{:#?} of {}",
        worked.failed,
        worked.answered
    );
    assert!(worked.dropped <= MOST_DROPPED, "{} were dropped", worked.dropped);
    assert!(worked.answered > 100, "{} requests", worked.answered);
    assert_eq!(
        phases,
        [TrustPhase::Introduced, TrustPhase::Signing, TrustPhase::Settled]
    );
    let after = authorities(&secrets).await.unwrap();
    for (old, new) in before.iter().zip(&after) {
        assert!(!new.contains(old.trim()), "the old authority is still trusted");
        assert_eq!(new.matches("BEGIN CERTIFICATE").count(), 1);
    }
    let deleted = platform
        .skep(&["cluster", "delete", "rotates", "--wait"])
        .await
        .unwrap();
    deleted.success().unwrap();
}
