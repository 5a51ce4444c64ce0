//! The authorities of a tenant's datastore are replaced under a tenant that works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::{EtcdTrust, TrustPhase};
use skep_e2e::worker::{Worked, work};
use skep_e2e::{Platform, Tenant};
use tokio_util::sync::CancellationToken;

/// Every member and every apiserver is made anew three times, one after the other.
const LONGEST: Duration = Duration::from_mins(8);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// One for each of the steps, in which the leader is made anew once.
const MOST_DROPPED: usize = 3;

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
    let (worked, phases) = tokio::join!(work(&tenant, &stop), replace);
    let worked: Worked = worked.unwrap();
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
