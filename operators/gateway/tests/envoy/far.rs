//! Tenants of another cell, behind the gateway of this one: two Envoys, each with a server of its own.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Gateway, far_route, route};
use crate::tenants::{Tenant, connect, connect_by_tunnel, eventually};

/// The port for tunnels is the same in every cell, so that each test takes an address of its own for it.
const TUNNEL_PORT: u16 = 8444;

/// Takes connections at one address on to another.
async fn relay(from: &str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(from).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

/// The front of a cell: both ports of its gateway at one address.
pub async fn front(ip: &str, gateway: &Gateway) -> SocketAddr {
    relay(&format!("{ip}:{TUNNEL_PORT}"), gateway.tunnel()).await;
    relay(&format!("{ip}:0"), gateway.address()).await
}

/// Every way to a tenant leads there, and not to another.
pub async fn assert_reached(address: SocketAddr, tunnel: SocketAddr, tenant: &Tenant) {
    for host in tenant.hosts() {
        let mut connection = connect(address, &host, tenant).await.unwrap();
        let answer = connection.echo("hello").await.unwrap();
        assert_eq!(answer, format!("{} hello", tenant.cpid()), "{host}");
    }
    let name = &tenant.hosts()[1];
    let mut pod = connect_by_tunnel(tunnel, name, tenant).await.unwrap();
    assert_eq!(pod.echo("pod").await.unwrap(), format!("{} pod", tenant.cpid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_another_cell_are_reached_through_the_gateway_of_this_one() {
    let (here, there) = (Gateway::start().await, Gateway::start().await);
    let (near, far, farther) = (
        Tenant::start("caaaaaaaaa").await,
        Tenant::start("cbbbbbbbbb").await,
        Tenant::start("cccccccccc").await,
    );
    there.publish(&[&far, &farther]);
    let front = front("127.0.77.1", &there).await.to_string();
    let routes = vec![
        route(near.cpid(), &[near.address]),
        far_route(far.cpid(), &front),
        far_route(farther.cpid(), &front),
    ];
    here.publish_raw(routes);
    for tenant in [&near, &far, &farther] {
        assert_reached(here.address(), here.tunnel(), tenant).await;
    }
    // What the other cell does not know goes nowhere.
    there.publish(&[&far]);
    eventually("the other cell's tenant is gone", async || {
        connect(here.address(), &farther.hosts()[0], &farther)
            .await
            .is_err()
    })
    .await;
    assert_reached(here.address(), here.tunnel(), &far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_of_another_cell_may_be_a_name() {
    let (here, there) = (Gateway::start().await, Gateway::start().await);
    let far = Tenant::start("cbbbbbbbbb").await;
    there.publish(&[&far]);
    let port = front("127.0.0.1", &there).await.port();
    here.publish_raw(vec![far_route(far.cpid(), &format!("localhost:{port}"))]);
    assert_reached(here.address(), here.tunnel(), &far).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_stay_when_another_cells_address_changes_and_when_a_tenant_moves_here() {
    let (here, there) = (Gateway::start().await, Gateway::start().await);
    let tenant = Tenant::start("cbbbbbbbbb").await;
    let host = &tenant.hosts()[0];
    there.publish(&[&tenant]);
    here.publish_raw(vec![far_route(
        tenant.cpid(),
        &front("127.0.77.2", &there).await.to_string(),
    )]);
    let mut first = connect(here.address(), host, &tenant).await.unwrap();
    assert_eq!(first.echo("1").await.unwrap(), "cbbbbbbbbb 1");

    // A stand-in for the cell's new front, which shows that it is reached.
    let moved = tenant.move_to_new_address().await;
    here.publish_raw(vec![far_route(tenant.cpid(), &moved.address.to_string())]);
    eventually("the new front serves", async || {
        let mut next = connect(here.address(), host, &tenant).await.unwrap();
        next.echo("2").await.unwrap() == "cbbbbbbbbb-moved 2"
    })
    .await;
    assert_eq!(first.echo("3").await.unwrap(), "cbbbbbbbbb 3");
    let mut second = connect(here.address(), host, &tenant).await.unwrap();

    here.publish(&[&tenant]);
    eventually("the tenant is reached here", async || {
        let mut next = connect(here.address(), host, &tenant).await.unwrap();
        next.echo("4").await.unwrap() == "cbbbbbbbbb 4"
    })
    .await;
    assert_eq!(second.echo("5").await.unwrap(), "cbbbbbbbbb-moved 5");
    for name in &tenant.hosts()[..2] {
        let mut next = connect(here.address(), name, &tenant).await.unwrap();
        assert_eq!(next.echo("6").await.unwrap(), "cbbbbbbbbb 6", "{name}");
    }
    let mut pod = connect_by_tunnel(here.tunnel(), &tenant.hosts()[1], &tenant)
        .await
        .unwrap();
    assert_eq!(pod.echo("7").await.unwrap(), "cbbbbbbbbb 7");
}
