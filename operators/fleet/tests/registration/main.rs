//! Registration against a real API server: what a token buys, and what it never does.

#![allow(clippy::unwrap_used, clippy::panic)]

mod lab;

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, WatchParams};
use kube::{Client, ResourceExt};
use lab::{Key, Lab};
use serde_json::json;
use skep_api::{Cell, DeploymentRecord};
use skep_testing::until;

/// Whether the API server answered that it is forbidden.
fn is_forbidden<T>(answer: Result<T, kube::Error>) -> bool {
    matches!(answer, Err(kube::Error::Api(told)) if told.code == 403)
}

/// Whether the API server did not know who asks.
fn is_unauthorized<T>(answer: Result<T, kube::Error>) -> bool {
    matches!(answer, Err(kube::Error::Api(told)) if told.code == 401)
}

fn records(client: &Client, cell: &str) -> Api<DeploymentRecord> {
    Api::namespaced(client.clone(), &format!("skep-cell-{cell}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_buys_one_certificate_that_reads_its_own_cell() {
    let lab = Lab::start().await;
    let holder = lab.token("eu", json!({"scope": {"pool": "eu"}})).await;
    let key = Key::new("one");
    let leaf = lab.ask(&holder, &key).await.leaf();
    let agent = lab.certified("one", &leaf).await;
    Api::<Cell>::all(agent.clone()).get("one").await.unwrap();
    records(&agent, "one").list(&ListParams::default()).await.unwrap();
    let made = lab.registrations().get(&key.registration).await.unwrap();
    assert_eq!((made.spec.cell.as_str(), made.spec.token.as_str()), ("one", "eu"));
    let owners = made.metadata.owner_references.unwrap();
    assert_eq!(
        (owners[0].kind.as_str(), owners[0].name.as_str()),
        ("Cell", "one")
    );
    until("the certificate's end is recorded", || async {
        let status = lab.registrations().get(&key.registration).await.ok()?.status?;
        status.certificate_end
    })
    .await;

    // Again with the same key: the same registration, and no further use.
    lab.ask(&holder, &key).await.leaf();
    assert_eq!(lab.used("eu").await, 1);
    lab.over("eu", "UsedUp").await;
    // Another key finds nothing left, of either cell.
    for cell in ["one", "two"] {
        assert_eq!(lab.ask(&holder, &Key::new(cell)).await.reason(), "TokenUsedUp");
    }
    assert_eq!(lab.used("eu").await, 1);
    assert_eq!(
        lab.registrations()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_keys_that_ask_at_once_one_takes_the_last_use() {
    let lab = Lab::start().await;
    let holder = lab.token("eu", json!({"scope": {"pool": "eu"}})).await;
    let (first, second) = (Key::new("one"), Key::new("two"));
    let (first, second) = tokio::join!(lab.ask(&holder, &first), lab.ask(&holder, &second));
    assert_ne!(first.is_issued(), second.is_issued(), "{first:?} {second:?}");
    assert_eq!(lab.used("eu").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_over_when_it_is_revoked_expired_or_deleted() {
    let lab = Lab::start().await;
    let expires = lab
        .token("brief", json!({"ttlSeconds": 60, "scope": {"pool": "eu"}}))
        .await;
    let revoked = lab.token("revoked", json!({"scope": {"pool": "eu"}})).await;
    let deleted = lab.token("deleted", json!({"scope": {"pool": "eu"}})).await;
    let (of_revoked, of_deleted) = (
        lab.bootstrap_id("revoked").await,
        lab.bootstrap_id("deleted").await,
    );
    let of_brief = lab.bootstrap_id("brief").await;

    lab.revoke(&lab.tokens(), "revoked").await;
    // At once the hub denies it or the API server knows it no more.
    match lab.try_ask(&revoked, &Key::new("one")).await {
        Ok(answer) => assert_eq!(answer.reason(), "TokenRevoked"),
        refused => assert!(is_unauthorized(refused)),
    }
    lab.over("revoked", "Revoked").await;
    lab.no_secret(&of_revoked).await;
    let params = DeleteParams::default();
    lab.tokens().delete("deleted", &params).await.unwrap();
    match lab.try_ask(&deleted, &Key::new("one")).await {
        Ok(answer) => assert_eq!(answer.reason(), "UnknownToken"),
        refused => assert!(is_unauthorized(refused)),
    }
    lab.no_secret(&of_deleted).await;
    for gone in [&revoked, &deleted] {
        until("the API server knows it no more", || async {
            is_unauthorized(lab.try_ask(gone, &Key::new("one")).await).then_some(())
        })
        .await;
    }

    let end = lab
        .tokens()
        .get("brief")
        .await
        .unwrap()
        .status
        .unwrap()
        .expires_at
        .unwrap();
    until("its time is over", || async {
        (Timestamp::now() >= end.0).then_some(())
    })
    .await;
    lab.over("brief", "Expired").await;
    lab.no_secret(&of_brief).await;
    assert!(is_unauthorized(lab.try_ask(&expires, &Key::new("one")).await));
    assert!(
        lab.registrations()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_buys_nothing_beyond_its_scope() {
    let lab = Lab::start().await;
    let pool = lab
        .token("pool", json!({"uses": 5, "scope": {"pool": "eu"}}))
        .await;
    let cell = lab
        .token("cell", json!({"scope": {"pool": "eu", "cell": "one"}}))
        .await;
    assert_eq!(lab.ask(&pool, &Key::new("far")).await.reason(), "OutOfScope");
    assert_eq!(lab.ask(&cell, &Key::new("two")).await.reason(), "OutOfScope");
    assert_eq!(lab.ask(&pool, &Key::new("none")).await.reason(), "UnknownCell");
    // Never the name that the service accounts' agents have, nor another key's.
    assert_eq!(
        lab.ask(&pool, &Key::bare("one")).await.reason(),
        "RequesterNotAllowed"
    );
    let other = Key::new("one").registration;
    assert_eq!(
        lab.ask(&pool, &Key::renewal("one", &other)).await.reason(),
        "KeyNotAllowed"
    );
    assert_eq!((lab.used("pool").await, lab.used("cell").await), (0, 0));
    // Nothing but asking is the holder's.
    assert!(is_forbidden(Api::<Cell>::all(pool.clone()).get("one").await));
    assert!(is_forbidden(
        records(&pool, "one").list(&ListParams::default()).await
    ));

    lab.ask(&pool, &Key::new("one")).await.leaf();
    assert_eq!(lab.ask(&cell, &Key::new("one")).await.reason(), "CellTaken");
    assert_eq!((lab.used("pool").await, lab.used("cell").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_registration_has_no_rights_at_once_and_no_renewal() {
    let lab = Lab::start().await;
    let holder = lab.token("eu", json!({"uses": 3, "scope": {"pool": "eu"}})).await;
    let key = Key::new("one");
    let first = lab.ask(&holder, &key).await.leaf();
    let agent = lab.certified("one", &first).await;
    let renewed = lab
        .ask(&agent, &Key::renewal("one", &key.registration))
        .await
        .leaf();
    let agent = lab.certified("one", &renewed).await;
    // Its own name only.
    assert_eq!(
        lab.ask(&agent, &Key::bare("one")).await.reason(),
        "RequesterNotAllowed"
    );
    let foreign = Key::renewal("two", &key.registration);
    assert_eq!(lab.ask(&agent, &foreign).await.reason(), "RequesterNotAllowed");
    records(&agent, "one").list(&ListParams::default()).await.unwrap();

    let start = std::time::Instant::now();
    lab.revoke(&lab.registrations(), &key.registration).await;
    // The right to ask goes with the others; a request that was let in before is denied.
    match lab.try_ask(&agent, &Key::renewal("one", &key.registration)).await {
        Ok(answer) => assert_eq!(answer.reason(), "RegistrationNotStanding"),
        refused => assert!(is_forbidden(refused)),
    }
    until("its rights are gone", || async {
        let all = is_forbidden(records(&agent, "one").get("x").await)
            && is_forbidden(records(&agent, "one").list(&ListParams::default()).await)
            && is_forbidden(Api::<Cell>::all(agent.clone()).get("one").await)
            && is_forbidden(lab.try_ask(&agent, &Key::renewal("one", &key.registration)).await);
        all.then_some(())
    })
    .await;
    println!("revoked and without rights within {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5));
    // For good: the same key with a token that has uses left, too. Another key may have the cell.
    assert_eq!(lab.ask(&holder, &key).await.reason(), "RegistrationNotStanding");
    lab.ask(&holder, &Key::new("one")).await.leaf();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_nothing_of_another_cell() {
    let lab = Lab::start().await;
    let holder = lab.token("eu", json!({"scope": {"pool": "eu"}})).await;
    let key = Key::new("one");
    let leaf = lab.ask(&holder, &key).await.leaf();
    let agent = lab.certified("one", &leaf).await;
    let found = kube::discovery::Discovery::new(lab.cluster.admin.clone())
        .run()
        .await
        .unwrap();
    let mut kinds = 0;
    for (kind, capabilities) in found
        .groups()
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
    {
        if capabilities.scope != kube::discovery::Scope::Namespaced
            || !capabilities.supports_operation("list")
        {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(agent.clone(), "skep-cell-two", &kind);
        assert!(is_forbidden(api.get("x").await), "get {}", kind.plural);
        assert!(
            is_forbidden(api.list(&ListParams::default()).await),
            "list {}",
            kind.plural
        );
        let watch = api.watch(&WatchParams::default(), "0").await.map(drop);
        assert!(is_forbidden(watch), "watch {}", kind.plural);
        kinds += 1;
    }
    assert!(kinds > 20, "{kinds}");
    let cells: Api<Cell> = Api::all(agent);
    assert!(is_forbidden(cells.get("two").await));
    assert!(is_forbidden(cells.list(&ListParams::default()).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_own_account_goes_on() {
    let lab = Lab::start().await;
    let account = lab.agent();
    let leaf = lab.ask(&account, &Key::bare("one")).await.leaf();
    let agent = lab.certified("one", &leaf).await;
    records(&agent, "one").list(&ListParams::default()).await.unwrap();
    // It is nobody's registration.
    assert_eq!(
        lab.ask(&account, &Key::new("one")).await.reason(),
        "RequesterNotAllowed"
    );
    assert!(
        lab.registrations()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let all = lab.tokens().list(&ListParams::default()).await.unwrap();
    assert!(all.items.iter().map(ResourceExt::name_any).next().is_none());
}
