//! What many tenants cost, and what names that are nobody's cost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Gateway, route};
use crate::tenants::{client_hello, eventually, hosts, send_plain};

const TENANTS: usize = 1000;
/// Bytes of Envoy's memory that one tenant (three names, all in use) may take.
const MOST_PER_TENANT: u64 = 3 * 75 * 1024;
/// Bytes of Envoy's memory that one name of nobody may take.
const MOST_PER_STRANGER: u64 = 1024;

fn cpid(number: usize) -> String {
    let symbols: Vec<char> = ('a'..='z').chain('2'..='7').collect();
    let digits: String = (0..4)
        .map(|place| symbols[(number >> (5 * place)) & 31])
        .collect();
    format!("c{digits}aaaaa")
}

/// A server that greets every connection without reading.
async fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.write_all(b"hello").await;
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.read(&mut [0; 1024]).await;
            });
        }
    });
    address
}

async fn greeted(gateway: SocketAddr, host: &str) -> bool {
    let mut socket = TcpStream::connect(gateway).await.unwrap();
    socket.write_all(&client_hello(host)).await.unwrap();
    let mut answer = [0; 5];
    let reading = tokio::time::timeout(Duration::from_secs(20), socket.read_exact(&mut answer));
    reading.await.is_ok_and(|read| read.is_ok()) && &answer == b"hello"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tenants_cost_a_thousand_times_one_and_only_where_they_are_used() {
    let gateway = Gateway::start().await;
    let backend = greeter().await;
    let empty = gateway.memory().await;
    gateway.publish_raw(
        (0..TENANTS)
            .map(|number| route(&cpid(number), &[backend]))
            .collect(),
    );
    assert!(greeted(gateway.address(), &hosts(&cpid(0))[0]).await);
    assert!(
        gateway.memory().await - empty < 2 * MOST_PER_TENANT,
        "a tenant that nobody asked for costs nothing"
    );

    let begin = Instant::now();
    for number in 0..TENANTS {
        for host in hosts(&cpid(number)) {
            assert!(greeted(gateway.address(), &host).await, "{host}");
        }
    }
    let (elapsed, full) = (begin.elapsed(), gateway.memory().await);
    let each = (full - empty) / TENANTS as u64;
    println!(
        "{TENANTS} tenants: {each} bytes each, {full} in all; {:?} a first connection",
        elapsed / 3000
    );
    assert!(each < MOST_PER_TENANT, "{each} bytes");

    let begin = Instant::now();
    gateway.publish_raw(Vec::new());
    eventually("every route is gone", async || {
        gateway.stat("cluster_manager.active_clusters").await == 1
    })
    .await;
    let left = gateway.memory().await.saturating_sub(empty) / TENANTS as u64;
    println!("gone after {:?}, leaving {left} bytes each", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_nobody_are_cheap_and_outlive_a_restart_of_the_xds_server() {
    // More than the server remembers of one Envoy.
    const STRANGERS: usize = 10_200;
    let mut gateway = Gateway::start().await;
    let backend = greeter().await;
    let known = hosts("caaaaaaaaz");
    gateway.publish_raw(vec![route("caaaaaaaaz", &[backend])]);
    assert!(greeted(gateway.address(), &known[0]).await);
    let before = gateway.memory().await;
    for number in 0..STRANGERS {
        assert!(
            send_plain(gateway.address(), &client_hello(&hosts(&cpid(number))[0]))
                .await
                .is_empty()
        );
    }
    let each = gateway.memory().await.saturating_sub(before) / STRANGERS as u64;
    println!("{STRANGERS} names of nobody: {each} bytes each");
    assert!(each < MOST_PER_STRANGER, "{each} bytes");

    // The last of them is nothing that the server remembers being asked for, and Envoy does not ask again.
    let last = cpid(STRANGERS - 1);
    gateway.publish_raw(vec![route("caaaaaaaaz", &[backend]), route(&last, &[backend])]);
    assert!(
        greeted(gateway.address(), &hosts(&last)[0]).await,
        "a name that was forgotten serves"
    );

    gateway.stop_xds().await;
    gateway
        .start_xds_with(vec![route("caaaaaaaaz", &[backend]), route(&cpid(1), &[backend])])
        .await;
    eventually("a name that was nobody's serves", async || {
        greeted(gateway.address(), &hosts(&cpid(1))[0]).await
    })
    .await;
    assert!(greeted(gateway.address(), &known[1]).await);
}
