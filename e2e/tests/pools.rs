//! Cells say what they have, pools whether that suffices, and the planner plans the platform that stands.
//!
//! The pools and the cluster of these tests are their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skep_api::cell::ZoneCapacity;
use skep_api::{Cell, CellPool};
use skep_core::quantity::amount;
use skep_e2e::platform::eventually;
use skep_e2e::{Platform, Tenant};

/// Of the only cell, and of its pool.
const LOCAL: &str = "local";
/// Of the cluster that is made and deleted.
const CLUSTER: &str = "pools-fill";

/// The volumes that tenants hold, by name, of one zone.
async fn held(hub: &Client, zone: &str) -> Result<BTreeSet<String>> {
    let of_zone = ListParams::default().labels(&format!("skep.dev/zone={zone}"));
    let all = Api::<PersistentVolume>::all(hub.clone()).list(&of_zone).await?;
    ensure!(!all.items.is_empty(), "zone {zone} has no volumes");
    let is_held = |volume: &&PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let namespace = claim.and_then(|claim| claim.namespace.as_deref());
        namespace.is_some_and(|namespace| namespace.starts_with("cp-"))
    };
    Ok(all
        .items
        .iter()
        .filter(is_held)
        .map(ResourceExt::name_any)
        .collect())
}

async fn checked_in(hub: &Client) -> Result<(Time, Vec<ZoneCapacity>)> {
    let status = Api::<Cell>::all(hub.clone())
        .get(LOCAL)
        .await?
        .status
        .context("it has no status")?;
    Ok((status.last_check_in.context("no check-in")?, status.capacity))
}

/// Checks the next report of a zone against what tenants held before and after it: other tests' come and go meanwhile.
async fn next_report_is_right(hub: &Client, zone: &str) -> Result<()> {
    let (last, before) = (checked_in(hub).await?.0, held(hub, zone).await?);
    let told = eventually("the next check-in", || async {
        let (now, told) = checked_in(hub).await?;
        ensure!(now != last, "it is still that of {}", last.0);
        Ok(told)
    })
    .await?;
    let after = held(hub, zone).await?;
    let told = told
        .iter()
        .find(|told| told.name == zone)
        .context("the zone is not reported")?;
    let told = told
        .committed
        .get("volumes")
        .and_then(|volumes| amount(volumes))
        .context("no volumes")?;
    let count = |volumes: usize| f64::from(u32::try_from(volumes).unwrap_or(u32::MAX));
    let (fewest, greatest) = (before.intersection(&after).count(), before.union(&after).count());
    ensure!(
        (count(fewest)..=count(greatest)).contains(&told),
        "{told} are told, from {fewest} to {greatest} were held"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cell_reports_is_what_it_has_and_grows_with_tenants() {
    let platform = Platform::connect().unwrap();
    let hub = platform.hub().await.unwrap();
    // What a run that was cut off left.
    let delete = ["cluster", "delete", CLUSTER, "--wait"];
    drop(platform.skep(&delete).await);
    let zones = eventually("the cell reports three zones with nodes", || async {
        let (_, zones) = checked_in(&hub).await?;
        ensure!(zones.len() == 3, "{zones:?}");
        Ok(zones)
    })
    .await
    .unwrap();
    for zone in &zones {
        assert_eq!((zone.ready_nodes, zone.lost), (1, false), "{zone:?}");
        for (quantities, name) in [
            (&zone.allocatable, "cpu"),
            (&zone.allocatable, "memory"),
            (&zone.system, "pods"),
        ] {
            assert!(amount(&quantities[name]).unwrap() > 0.0, "{name} in {zone:?}");
        }
    }
    Tenant::create(&platform, CLUSTER, &["--availability", "Single"])
        .await
        .unwrap();
    let home = format!("cp-{}", platform.cpid(CLUSTER).await.unwrap());
    let path = "jsonpath={.items[*].spec.volumeName}";
    let volume = ["-n", &home, "get", "pvc", "-o", path];
    let volume = platform.kubectl(&volume).await.unwrap().success().unwrap();
    let found = Api::<PersistentVolume>::all(hub.clone())
        .get(volume.trim())
        .await
        .unwrap();
    let zone = found.labels()["skep.dev/zone"].clone();
    assert!(held(&hub, &zone).await.unwrap().contains(volume.trim()));
    eventually("a report tells of it", || next_report_is_right(&hub, &zone))
        .await
        .unwrap();

    // The planner counts the same cluster, and says what each cell answers to it.
    let explain = ["cell", "plan", "--tenant", CLUSTER, "-o", "json"];
    let answers = platform.skep(&explain).await.unwrap().json().unwrap();
    assert_eq!(answers[0]["cell"], LOCAL, "{answers}");
    assert!(
        answers[0]["binding"]["utilisation"].as_f64().unwrap() > 0.0,
        "{answers}"
    );
    let shown = platform
        .skep(&["cell", "get", LOCAL])
        .await
        .unwrap()
        .success()
        .unwrap();
    assert!(shown.contains("volumes") && shown.contains('%'), "{shown}");
    let listed = platform
        .skep(&["cell", "list", "-o", "json"])
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(listed[0]["name"], LOCAL, "{listed}");
    assert_eq!(listed[0]["pool"], LOCAL, "{listed}");
    assert!(listed[0]["percent"].as_i64().unwrap() > 0, "{listed}");
    platform.skep(&delete).await.unwrap().success().unwrap();
}

async fn apply(platform: &Platform, object: &Value) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), object.to_string())?;
    let path = file.path().to_str().context("a path of UTF-8")?;
    platform
        .kubectl(&["apply", "--server-side", "-f", path])
        .await?
        .success()
}

fn pool(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "skep.dev/v1alpha1", "kind": "CellPool", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_says_whether_its_cells_suffice_and_what_is_wanted() {
    let platform = Platform::connect().unwrap();
    let hub = platform.hub().await.unwrap();
    let pools: Api<CellPool> = Api::all(hub);
    let said = |name: &'static str, is_there: fn(&str, &str, &str) -> bool| {
        let pools = pools.clone();
        eventually(name, move || {
            let pools = pools.clone();
            async move {
                let status = pools.get(name).await?.status.context("it has no status")?;
                let told = status
                    .conditions
                    .iter()
                    .find(|told| told.type_ == "Sufficient")
                    .context("it says nothing")?;
                let is_there = is_there(&told.status, &told.reason, &told.message);
                ensure!(is_there, "{}, {}: {}", told.status, told.reason, told.message);
                Ok(status)
            }
        })
    };
    // The platform's own: in use, and it says of what.
    let own = said(LOCAL, |_, _, message| message.contains(" binds: "))
        .await
        .unwrap();
    assert_eq!(own.cells, 1);
    assert!(own.binding.unwrap().percent > 0);
    // What a run that was cut off left.
    let delete = ["delete", "cellpool", "pools-empty", "--ignore-not-found"];
    platform.kubectl(&delete).await.unwrap().success().unwrap();
    // One without a cell wants its fewest, and says what to do.
    let spec = json!({"region": "nowhere", "minCells": 2, "maxCells": 3});
    apply(&platform, &pool("pools-empty", &spec)).await.unwrap();
    let is_short = |status: &str, reason: &str, message: &str| {
        (status, reason) == ("False", "Short")
            && message.contains("the pool has no cell")
            && message.contains("build them")
    };
    let empty = said("pools-empty", is_short).await.unwrap();
    assert_eq!((empty.cells, empty.wanted), (0, 2));
    let events = [
        "get",
        "events",
        "-A",
        "--field-selector",
        "involvedObject.name=pools-empty",
        "-o",
        "json",
    ];
    eventually("an event tells of it", || async {
        let events = platform.kubectl(&events).await?.json()?;
        ensure!(
            events["items"]
                .as_array()
                .is_some_and(|events| !events.is_empty()),
            "{events}"
        );
        Ok(())
    })
    .await
    .unwrap();
    let listed = platform
        .skep(&["cell", "pools"])
        .await
        .unwrap()
        .success()
        .unwrap();
    assert!(
        listed.contains("pools-empty") && listed.contains("Short"),
        "{listed}"
    );
    // Stopped by hand, it says so and wants nothing.
    let spec = json!({"region": "nowhere", "minCells": 2, "maxCells": 3, "stopped": true});
    apply(&platform, &pool("pools-empty", &spec)).await.unwrap();
    let stopped = said("pools-empty", |_, reason, _| reason == "Stopped")
        .await
        .unwrap();
    assert_eq!(stopped.wanted, 0);
    let plan = platform
        .skep(&["cell", "plan", "--explain"])
        .await
        .unwrap()
        .success()
        .unwrap();
    assert!(
        plan.contains("pool pools-empty: not given 2 cells more"),
        "{plan}"
    );
    platform.kubectl(&delete).await.unwrap().success().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pool_is_refused_by_field() {
    let platform = Platform::connect().unwrap();
    for (spec, field) in [
        (json!({"region": "Local"}), "spec.region"),
        (
            json!({"region": "local", "minCells": 3, "maxCells": 2}),
            "must be at most maxCells",
        ),
        (json!({"region": "local", "headroom": "huge"}), "spec.headroom"),
        (json!({"region": "local", "leadMinutes": 0}), "spec.leadMinutes"),
        (json!({"region": "local", "priceMilli": -1}), "spec.priceMilli"),
        (
            json!({"region": "local", "zones": [{"name": "A", "allocatable": {}}]}),
            "spec.zones[0].name",
        ),
    ] {
        let refused = apply(&platform, &pool("pools-wrong", &spec)).await;
        let told = format!("{:#}", refused.expect_err(field));
        assert!(told.contains(field), "{told}");
    }
    let refused = apply(&platform, &pool("Pools", &json!({"region": "local"}))).await;
    assert!(refused.is_err());
}
