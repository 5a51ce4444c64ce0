//! Datastores on the real cell: upgraded with a member already dead, full, and their members lost, while clients go on.
//!
//! Long: each forms a cluster of three real members and makes every one of them anew; they run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use nix::sys::signal::Signal;
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::MemberAction;
use skep_e2e::Platform;
use skep_e2e::datastore::{Datastore, NAME, stop};
use skep_e2e::platform::eventually;

const OLD: &str = "3.6.14";
const NEW: &str = "3.7.3";

/// The program that writes.
const CLIENTS: &str = env!("CARGO_BIN_EXE_etcd-clients");

/// Looks at the members until they are whole and of the new version; at no time are two of three down.
async fn watch_upgrade(store: &Datastore, dead: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(5);
    loop {
        let members = store.members().await?;
        let ready: BTreeSet<String> = members
            .iter()
            .filter(|(_, (_, is_ready))| *is_ready)
            .map(|(name, _)| name.clone())
            .collect();
        ensure!(
            ready.len() >= 2,
            "only {ready:?} of {members:?} serve; {dead} was dead before"
        );
        let status = store.status().await?;
        let is_new = status.members.len() == 3
            && status
                .members
                .iter()
                .all(|member| member.version.as_deref() == Some(NEW) && member.healthy);
        if is_new && ready.len() == 3 {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "never upgraded: {ready:?} {status:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn upgrade_with_a_dead_member(position: usize) -> Result<()> {
    let store = Datastore::create(&format!("upgrade-{position}"), OLD, CLIENTS).await?;
    let leader = store.status().await?.leader.context("a leader")?;
    let followers = store.members().await?.into_keys().filter(|pod| *pod != leader);
    let dead = std::iter::once(leader.clone())
        .chain(followers)
        .nth(position)
        .context("three members")?;
    let clients = store.clients("write")?;
    store.signal(&dead, Signal::SIGSTOP).await?;
    eventually("the dead member is seen", || async {
        let members = store.status().await?.members;
        let is_seen = members.iter().any(|member| member.pod == dead && !member.healthy);
        ensure!(is_seen, "{members:?}");
        Ok(())
    })
    .await?;
    let before = store.members().await?;
    store
        .change(json!({"version": NEW, "image": format!("localhost/etcd:{NEW}")}))
        .await?;
    // Long enough to make all members anew, were that allowed.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let uids = |members: BTreeMap<String, (String, bool)>| -> Vec<String> {
        members.into_values().map(|(uid, _)| uid).collect()
    };
    ensure!(
        uids(before) == uids(store.members().await?),
        "a member was made anew while {dead} was dead"
    );
    let status = store.status().await?;
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    ensure!(
        ready.is_some_and(|ready| ready.message.contains(&dead)),
        "the status does not say why: {ready:?}"
    );
    store.signal(&dead, Signal::SIGCONT).await?;
    watch_upgrade(&store, &dead).await?;
    store.follow("upgrade", 3..=3).await?;
    store.is_whole(NEW).await?;
    stop(clients).await?;
    store.remove().await
}

/// Watches the datastores that are upgraded; fails when members of two of them are made anew on the same node at once. Others
/// may be full meanwhile, and then wait for nobody. Ends by being dropped.
async fn watch_turns(seen: &Mutex<BTreeSet<String>>) -> Result<()> {
    let client = Platform::connect()?.hub().await?;
    let api: Api<EtcdCluster> = Api::all(client);
    let mut turns: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
    while let Some(object) = events.try_next().await? {
        let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        if !name.starts_with("upgrade-") {
            continue;
        }
        turns.remove(&name);
        let status = object.status.unwrap_or_default();
        let intent = status
            .intent
            .filter(|intent| intent.action == MemberAction::Restart);
        let member =
            intent.and_then(|intent| status.members.into_iter().find(|member| member.pod == intent.pod));
        let Some((pod, node)) = member.and_then(|member| Some((member.pod, member.node?))) else {
            continue;
        };
        if let Some((other, (beside, _))) = turns.iter().find(|(_, (_, taken))| *taken == node) {
            bail!("{pod} of {name} and {beside} of {other} are made anew on {node} at once");
        }
        seen.lock().unwrap().insert(pod.clone());
        turns.insert(name, (pod, node));
    }
    bail!("the watch ended")
}

#[tokio::test]
async fn an_upgrade_with_a_member_already_dead_never_loses_quorum() {
    let seen = Mutex::default();
    let upgrades = futures::future::join_all((0..3).map(upgrade_with_a_dead_member));
    let outcomes = tokio::select! {
        outcomes = upgrades => outcomes,
        ended = watch_turns(&seen) => panic!("{:#}", ended.unwrap_err()),
    };
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.len() >= 9,
        "hardly a member was seen when it was made anew: {seen:?}"
    );
    for (position, outcome) in outcomes.into_iter().enumerate() {
        outcome.unwrap_or_else(|error| panic!("with member {position} dead: {error:#}"));
    }
}

#[tokio::test]
async fn a_full_datastore_has_room_again_and_a_lost_member_is_replaced() {
    let store = Datastore::create("room", NEW, CLIENTS).await.unwrap();
    store.have_done("fill").await.unwrap();
    store.is_whole(NEW).await.unwrap();
    let events = store
        .platform
        .kubectl(&[
            "-n",
            &store.namespace,
            "get",
            "events.events.k8s.io",
            "-o",
            "jsonpath={.items[*].reason}",
        ])
        .await
        .unwrap()
        .success()
        .unwrap();
    for reason in ["Compacted", "Defragmented", "SpaceFreed"] {
        assert!(events.contains(reason), "no event {reason}: {events}");
    }

    // The data alone are more than the quota; a person is told, and raises it.
    let filling = store.clients("fill-with-data").unwrap();
    eventually("a person is told what to do", || async {
        let said = store.follow("space", 1..=1).await?;
        ensure!(said.contains("spec.quotaBytes"), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    drop(filling);
    store.follow("space", 2..=3).await.unwrap();
    store.is_whole(NEW).await.unwrap();

    let clients = store.clients("write").unwrap();
    let lost = store.status().await.unwrap().leader.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(store.client.clone(), &store.namespace);
    let claim = claims.list(&ListParams::default()).await.unwrap();
    let claim = claim
        .iter()
        .find(|claim| claim.name_any().contains(&lost))
        .unwrap();
    claims
        .delete(&claim.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    store
        .pods()
        .delete(&lost, &DeleteParams::default())
        .await
        .unwrap();
    eventually("the lost member is replaced", || async {
        let status = store.status().await?;
        ensure!(
            !status.members.iter().any(|member| member.pod == lost),
            "{status:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    store.is_whole(NEW).await.unwrap();
    stop(clients).await.unwrap();
    store.remove().await.unwrap();
}

/// The longest that no write was acknowledged while the leader was dealt with, clients writing all the time.
async fn pause_while(store: &Datastore, what: impl AsyncFnOnce(&str) -> Result<()>) -> Result<Duration> {
    let leader = store.status().await?.leader.context("a leader")?;
    let clients = store.clients("write")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    what(&leader).await?;
    store.is_whole(NEW).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(stop(clients).await?.longest_silence)
}

#[tokio::test]
async fn writers_hardly_notice_a_leader_that_ends_or_stands_still() {
    let store = Datastore::create("leader", NEW, CLIENTS).await.unwrap();
    let ended = pause_while(&store, async |leader| {
        store.signal(leader, Signal::SIGTERM).await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(())
    });
    let ended = ended.await.unwrap();
    let stopped = pause_while(&store, async |leader| {
        store.signal(leader, Signal::SIGSTOP).await?;
        tokio::time::sleep(Duration::from_secs(15)).await;
        store.signal(leader, Signal::SIGCONT).await
    });
    let stopped = stopped.await.unwrap();
    println!(
        "no write was acknowledged for {ended:?} when the leader ended, for {stopped:?} when it stood still"
    );
    assert!(
        ended <= Duration::from_secs(1),
        "a leader that ends costs {ended:?}"
    );
    assert!(
        stopped <= Duration::from_secs(10),
        "a leader that stands still costs {stopped:?}"
    );
    store.remove().await.unwrap();
}

#[tokio::test]
async fn a_lost_quorum_is_formed_anew_by_the_member_that_is_left() {
    let store = Datastore::create("quorum", NEW, CLIENTS).await.unwrap();
    store.have_done("remember").await.unwrap();
    let members = store.status().await.unwrap().members;
    let name = format!("{}/{NAME}", store.namespace);
    let recover = ["etcd", "recover", name.as_str(), "--yes", "--timeout", "5m"];
    let refused = store.platform.skep(&recover).await.unwrap();
    assert_eq!(refused.status, 5, "a quorum was given up: {}", refused.stderr);

    let claims: Api<PersistentVolumeClaim> = Api::namespaced(store.client.clone(), &store.namespace);
    let (kept, lost) = members.split_first().unwrap();
    for member in lost {
        let claim = format!("data-{}", member.pod);
        claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    }
    let pods = store.pods();
    let at_once = DeleteParams::default().grace_period(0);
    let ends = lost.iter().map(|member| pods.delete(&member.pod, &at_once));
    futures::future::try_join_all(ends).await.unwrap();
    eventually("it is said what is left", || async {
        let said = store.follow("quorum loss", 1..=1).await?;
        ensure!(said.contains("volume") && said.contains("gone"), "{said}");
        let members = store.status().await?.members;
        ensure!(
            members
                .iter()
                .any(|member| member.pod == kept.pod && member.revision.is_some()),
            "{members:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    let recovered = store.platform.skep(&recover).await.unwrap();
    recovered.success().unwrap();
    let status = store.is_whole(NEW).await.unwrap();
    assert!(
        status.members.iter().any(|member| member.pod == kept.pod),
        "{status:?}"
    );
    assert!(status.recovered.is_some(), "{status:?}");
    let recalled = store.have_done("recall").await.unwrap();
    assert!(
        recalled["revision"].as_i64().unwrap() > 1_000_000_000,
        "revisions that somebody may have seen come again: {recalled}"
    );
    let clients = store.clients("write").unwrap();
    // Long enough for some fifty writes beside the other tests.
    tokio::time::sleep(Duration::from_secs(15)).await;
    stop(clients).await.unwrap();
    store.remove().await.unwrap();
}

#[tokio::test]
async fn orders_that_cross_each_other_lose_nothing() {
    let store = Datastore::create("crossed", NEW, CLIENTS).await.unwrap();
    store.have_done("remember").await.unwrap();
    store.change(json!({"members": 5})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    store.change(json!({"members": 3})).await.unwrap();
    store.is_whole(NEW).await.unwrap();
    store.have_done("recall").await.unwrap();
    let first = store.clusters().get(NAME).await.unwrap().uid().unwrap();
    eventually("no volume is left of what was begun", || async {
        let claims = store.claims_of(&first).await?;
        ensure!(claims.len() == 3, "{claims:?}");
        Ok(())
    })
    .await
    .unwrap();

    // A finalizer that is removed by hand: the volumes stay, and a namesake takes none of them.
    let kept = store.claims_of(&first).await.unwrap();
    let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let clusters = store.clusters();
    clusters
        .delete(NAME, &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    drop(clusters.patch(NAME, &PatchParams::default(), &unheld).await);
    eventually("the datastore goes", || async {
        ensure!(
            store.clusters().get_opt(NAME).await?.is_none(),
            "it is still there"
        );
        Ok(())
    })
    .await
    .unwrap();
    store.ask_for(NEW).await.unwrap();
    store.is_whole(NEW).await.unwrap();
    let second = store.clusters().get(NAME).await.unwrap().uid().unwrap();
    assert!(store.claims_of(&second).await.unwrap().is_disjoint(&kept));
    store.have_done("recall").await.unwrap_err();

    // Deleted while it is formed.
    store.delete().await.unwrap();
    for pause in [0, 1500, 4000] {
        store.ask_for(NEW).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        store.delete().await.unwrap();
    }
    store.ask_for(NEW).await.unwrap();
    store.is_whole(NEW).await.unwrap();
    store.remove().await.unwrap();
}
