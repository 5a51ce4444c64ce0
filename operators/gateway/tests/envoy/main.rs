//! The gateway as it ships: a real Envoy with the manifests' configuration, our xDS server with mutual TLS,
//! and TLS servers with certificates of their own behind it. Everything is on loopback.
//!
//! Envoy is `SKEP_TEST_ENVOY`, else the newest one in the distribution's cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod far;
mod fixture;
mod hub;
mod process;
mod scale;
mod tenants;

use std::time::{Duration, Instant};

use fixture::Gateway;
use tenants::{Tenant, client_hello, connect, connect_by_tunnel, eventually, proxy_header, send_plain};

/// "At once" for a connection that is refused: well below any time limit in the configuration.
const AT_ONCE: Duration = Duration::from_millis(700);
/// For a name that Envoy has asked for before: its time limit of 1 s, and some.
const SOON: Duration = Duration::from_millis(1700);

#[tokio::test(flavor = "multi_thread")]
async fn tls_passes_through_by_host_name() {
    let gateway = Gateway::start().await;
    let (one, two) = (
        Tenant::start("caaaaaaaaa").await,
        Tenant::start("cbbbbbbbbb").await,
    );
    gateway.publish(&[&one, &two]);
    for tenant in [&one, &two] {
        for host in tenant.hosts() {
            // The handshake succeeds only with the certificate of this very tenant.
            let mut connection = connect(gateway.address(), &host, tenant).await.unwrap();
            assert_eq!(
                connection.echo("hello").await.unwrap(),
                format!("{} hello", tenant.cpid())
            );
        }
    }
    let error = connect(gateway.address(), &one.hosts()[0], &two)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_their_api_by_the_name_that_their_node_gives() {
    let gateway = Gateway::start().await;
    let (one, two) = (
        Tenant::start("caaaaaaaaa").await,
        Tenant::start("cbbbbbbbbb").await,
    );
    gateway.publish(&[&one, &two]);
    for tenant in [&one, &two] {
        let name = &tenant.hosts()[1];
        let mut connection = connect_by_tunnel(gateway.tunnel(), name, tenant).await.unwrap();
        let answer = connection.echo("hello").await.unwrap();
        assert_eq!(answer, format!("{} hello", tenant.cpid()));
    }
    let [api, _, konnectivity]: [String; 3] = one.hosts().try_into().unwrap();
    let hello = client_hello(&api);
    // Names that sleepers wake by, names of nobody, of no control plane, and none at all.
    let strangers = [
        api.as_str(),
        konnectivity.as_str(),
        "node.czzzzzzzzz.local.skep.internal",
        "skep-xds",
        "",
    ];
    for stranger in strangers {
        let bytes = [proxy_header(stranger), hello.clone()].concat();
        assert!(
            send_plain(gateway.tunnel(), &bytes).await.is_empty(),
            "{stranger}"
        );
    }
    assert!(
        send_plain(gateway.tunnel(), &hello).await.is_empty(),
        "without a header"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_tenant_is_closed_at_once() {
    let gateway = Gateway::start().await;
    let tenant = Tenant::start("caaaaaaaaa").await;
    gateway.publish(&[&tenant]);
    let strangers = [
        "api.czzzzzzzzz.local.skep.internal",
        "etcd.caaaaaaaaa.local.skep.internal",
        "example.com",
        "none",
    ];
    for stranger in strangers {
        for limit in [AT_ONCE, SOON, SOON] {
            let begin = Instant::now();
            assert!(
                connect(gateway.address(), stranger, &tenant).await.is_err(),
                "{stranger}"
            );
            assert!(begin.elapsed() < limit, "{stranger}: {:?}", begin.elapsed());
        }
    }
    let begin = Instant::now();
    assert!(
        tenants::send_plain(gateway.address(), b"GET / HTTP/1.1\r\n\r\n")
            .await
            .is_empty()
    );
    assert!(begin.elapsed() < AT_ONCE, "plain text: {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_reached_by_the_first_connection_after_it_appears_however_often_it_was_asked_for() {
    let gateway = Gateway::start().await;
    let tenant = Tenant::start("caaaaaaaaa").await;
    let host = &tenant.hosts()[0];
    for round in 0..3 {
        for _ in 0..3 {
            assert!(
                connect(gateway.address(), host, &tenant).await.is_err(),
                "round {round}"
            );
        }
        gateway.publish(&[&tenant]);
        let mut connection = connect(gateway.address(), host, &tenant).await.unwrap();
        assert_eq!(connection.echo("x").await.unwrap(), "caaaaaaaaa x");
        gateway.publish(&[]);
        eventually("the route is gone", async || {
            !gateway.clusters().await.contains("caaaaaaaaa")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_goes_leaves_nothing_and_disturbs_nobody() {
    let gateway = Gateway::start().await;
    let (stays, goes) = (
        Tenant::start("caaaaaaaaa").await,
        Tenant::start("cbbbbbbbbb").await,
    );
    gateway.publish(&[&stays, &goes]);
    let mut staying = connect(gateway.address(), &stays.hosts()[0], &stays)
        .await
        .unwrap();
    let mut going = connect(gateway.address(), &goes.hosts()[0], &goes).await.unwrap();
    connect(gateway.address(), &goes.hosts()[1], &goes).await.unwrap();
    assert_eq!(going.echo("x").await.unwrap(), "cbbbbbbbbb x");
    assert!(gateway.clusters().await.contains("cbbbbbbbbb"));

    gateway.publish(&[&stays]);
    eventually("the route is gone", async || {
        !gateway.clusters().await.contains("cbbbbbbbbb")
    })
    .await;
    assert!(
        !gateway
            .admin("/config_dump?include_eds")
            .await
            .contains("cbbbbbbbbb")
    );
    assert!(connect(gateway.address(), &goes.hosts()[0], &goes).await.is_err());
    assert_eq!(staying.echo("still").await.unwrap(), "caaaaaaaaa still");
    assert_eq!(gateway.stat("listener_manager.total_listeners_draining").await, 0);
    assert_eq!(gateway.stat("listener_manager.listener_modified").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_stay_when_addresses_change() {
    let gateway = Gateway::start().await;
    let tenant = Tenant::start("caaaaaaaaa").await;
    let host = &tenant.hosts()[0];
    gateway.publish(&[&tenant]);
    let mut before = connect(gateway.address(), host, &tenant).await.unwrap();
    assert_eq!(before.echo("x").await.unwrap(), "caaaaaaaaa x");

    let moved = tenant.move_to_new_address().await;
    gateway.publish(&[&moved]);
    eventually("the new address serves", async || {
        let mut after = connect(gateway.address(), host, &moved).await.unwrap();
        after.echo("x").await.unwrap() == "caaaaaaaaa-moved x"
    })
    .await;
    assert_eq!(
        before.echo("y").await.unwrap(),
        "caaaaaaaaa y",
        "the old connection goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_is_passed_over() {
    let gateway = Gateway::start().await;
    let tenant = Tenant::start("caaaaaaaaa").await;
    gateway.publish_also(&tenant, "127.0.0.1:1".parse().unwrap());
    for _ in 0..20 {
        let mut connection = connect(gateway.address(), &tenant.hosts()[0], &tenant)
            .await
            .unwrap();
        assert_eq!(connection.echo("x").await.unwrap(), "caaaaaaaaa x");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_xds_server_what_is_known_goes_on_and_afterwards_changes_arrive() {
    let mut gateway = Gateway::start().await;
    let (known, new) = (
        Tenant::start("caaaaaaaaa").await,
        Tenant::start("cbbbbbbbbb").await,
    );
    let host = &known.hosts()[0];
    gateway.publish(&[&known]);
    let mut open = connect(gateway.address(), host, &known).await.unwrap();
    assert_eq!(open.echo("1").await.unwrap(), "caaaaaaaaa 1");

    gateway.stop_xds().await;
    assert_eq!(open.echo("2").await.unwrap(), "caaaaaaaaa 2");
    for _ in 0..5 {
        let mut during = connect(gateway.address(), host, &known).await.unwrap();
        assert_eq!(during.echo("3").await.unwrap(), "caaaaaaaaa 3");
    }

    // A new process knows nothing of the old one's streams, but the routes are the same and one more.
    gateway.start_xds(&[&known, &new]).await;
    eventually("the new tenant is reached", async || {
        connect(gateway.address(), &new.hosts()[0], &new).await.is_ok()
    })
    .await;
    assert_eq!(open.echo("4").await.unwrap(), "caaaaaaaaa 4");
    assert_eq!(
        gateway.stat("cluster_manager.cluster_modified").await,
        0,
        "nothing was sent again"
    );

    gateway.publish(&[&new]);
    eventually("the route is gone", async || {
        !gateway.clusters().await.contains("caaaaaaaaa")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_used_without_a_restart() {
    let mut gateway = Gateway::start().await;
    let (one, two) = (
        Tenant::start("caaaaaaaaa").await,
        Tenant::start("cbbbbbbbbb").await,
    );
    gateway.publish(&[&one]);
    let mut open = connect(gateway.address(), &one.hosts()[0], &one).await.unwrap();
    // Another authority: only who took in the new files can talk to the server.
    gateway.replace_certificates();
    gateway.stop_xds().await;
    gateway.start_xds(&[&one, &two]).await;
    eventually("the new tenant is reached", async || {
        connect(gateway.address(), &two.hosts()[0], &two).await.is_ok()
    })
    .await;
    assert_eq!(open.echo("x").await.unwrap(), "caaaaaaaaa x");
}
