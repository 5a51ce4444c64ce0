//! Leader election against a mocked API server, with the clock in the test's hand.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::mock::Server;
use http::Method;
use serde_json::{Value, json};
use skep_runtime::{CancellationToken, LeaderError, LeaderSettings, Term, run_as_leader};
use tokio::time::Instant;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/skep-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/skep-system/leases/skep-hub";

fn settings() -> LeaderSettings {
    LeaderSettings {
        identity: "me".into(),
        ..LeaderSettings::new("skep-system", "skep-hub")
    }
}

fn lease(holder: Option<&str>, version: &str, transitions: i32) -> Value {
    json!({
        "metadata": {"name": "skep-hub", "namespace": "skep-system", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": transitions},
    })
}

/// Tells whether the leader's work was cut off.
struct Acting(Arc<AtomicBool>);

impl Drop for Acting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn create(server: &mut Server) {
    server.expect(Method::GET, LEASE).await.refuse(404, "NotFound");
    let call = server.expect(Method::POST, LEASES).await;
    assert_eq!(call.body["spec"]["holderIdentity"], "me");
    assert_eq!(call.body["spec"]["leaseTransitions"], 0);
    call.answer(&lease(Some("me"), "1", 0));
}

#[tokio::test(start_paused = true)]
async fn leads_renews_and_releases() {
    let (client, mut server) = crate::mock::server();
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let task = tokio::spawn(run_as_leader(
        client,
        settings(),
        shutdown.clone(),
        |term| async move {
            token.cancelled().await;
            term
        },
    ));
    create(&mut server).await;
    let start = Instant::now();
    let call = server.expect(Method::PUT, LEASE).await;
    assert_eq!(call.body["metadata"]["resourceVersion"], "1");
    assert_eq!(start.elapsed().as_secs(), 5);
    call.answer(&lease(Some("me"), "2", 0));
    let call = server.expect(Method::PUT, LEASE).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    call.answer(&lease(Some("me"), "3", 0));
    shutdown.cancel();
    let call = server.expect(Method::PUT, LEASE).await;
    assert_eq!(call.body["metadata"]["resourceVersion"], "3");
    assert!(call.body["spec"].get("holderIdentity").is_none());
    call.answer(&lease(None, "4", 0));
    assert_eq!(task.await.unwrap().unwrap(), Some(Term(0)));
}

#[tokio::test(start_paused = true)]
async fn waits_until_the_holder_has_been_silent_for_a_lease() {
    let (client, mut server) = crate::mock::server();
    let task = tokio::spawn(run_as_leader(
        client,
        settings(),
        CancellationToken::new(),
        |term| async move { term },
    ));
    let mut seen = None;
    let taken = loop {
        let call = server.next().await.unwrap();
        if call.method == Method::PUT {
            break call;
        }
        seen.get_or_insert_with(Instant::now);
        call.answer(&lease(Some("you"), "9", 4));
    };
    let waited = seen.unwrap().elapsed();
    assert!(
        waited >= Duration::from_secs(15) && waited < Duration::from_secs(18),
        "{waited:?}"
    );
    assert_eq!(taken.body["spec"]["leaseTransitions"], 5);
    taken.answer(&lease(Some("me"), "10", 5));
    server
        .expect(Method::PUT, LEASE)
        .await
        .answer(&lease(None, "11", 5));
    assert_eq!(task.await.unwrap().unwrap(), Some(Term(5)));
}

#[tokio::test(start_paused = true)]
async fn stops_acting_at_two_thirds_when_the_server_is_silent() {
    let (client, mut server) = crate::mock::server();
    let cut = Arc::new(AtomicBool::new(false));
    let acting = Acting(cut.clone());
    let work = |_| async move {
        let _acting = acting;
        pending::<()>().await;
    };
    let task = tokio::spawn(run_as_leader(client, settings(), CancellationToken::new(), work));
    create(&mut server).await;
    let start = Instant::now();
    // Nothing is ever answered again.
    let silent = tokio::spawn(async move {
        let mut calls = Vec::new();
        while let Some(call) = server.next().await {
            calls.push(call);
        }
    });
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, LeaderError::NotRenewed { .. }), "{error:?}");
    let held = start.elapsed();
    assert!(
        held >= Duration::from_secs(9) && held <= Duration::from_secs(10),
        "{held:?}"
    );
    assert!(cut.load(Ordering::SeqCst));
    silent.abort();
}

#[tokio::test(start_paused = true)]
async fn survives_errors_that_end_in_time() {
    let (client, mut server) = crate::mock::server();
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let task = tokio::spawn(run_as_leader(client, settings(), shutdown.clone(), |_| {
        token.cancelled_owned()
    }));
    create(&mut server).await;
    for _ in 0..3 {
        server
            .expect(Method::PUT, LEASE)
            .await
            .refuse(500, "InternalError");
    }
    // The answer to the third try was lost: the lease has moved on, but is still ours.
    server.expect(Method::PUT, LEASE).await.refuse(409, "Conflict");
    server
        .expect(Method::GET, LEASE)
        .await
        .answer(&lease(Some("me"), "5", 0));
    let call = server.expect(Method::PUT, LEASE).await;
    assert_eq!(call.body["metadata"]["resourceVersion"], "5");
    call.answer(&lease(Some("me"), "6", 0));
    shutdown.cancel();
    server
        .expect(Method::PUT, LEASE)
        .await
        .answer(&lease(None, "7", 0));
    assert_eq!(task.await.unwrap().unwrap(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_is_lost_at_once() {
    let (client, mut server) = crate::mock::server();
    let cut = Arc::new(AtomicBool::new(false));
    let acting = Acting(cut.clone());
    let work = |_| async move {
        let _acting = acting;
        pending::<()>().await;
    };
    let task = tokio::spawn(run_as_leader(client, settings(), CancellationToken::new(), work));
    create(&mut server).await;
    server.expect(Method::PUT, LEASE).await.refuse(409, "Conflict");
    server
        .expect(Method::GET, LEASE)
        .await
        .answer(&lease(Some("you"), "8", 1));
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "lease skep-system/skep-hub was lost to you");
    assert!(cut.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_campaign() {
    let (client, mut server) = crate::mock::server();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run_as_leader(client, settings(), shutdown.clone(), |_| async {}));
    server
        .expect(Method::GET, LEASE)
        .await
        .answer(&lease(Some("you"), "9", 4));
    shutdown.cancel();
    assert_eq!(task.await.unwrap().unwrap(), None);
}
