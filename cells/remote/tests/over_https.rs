//! A provider over real HTTPS: answers and errors come as they were given, and nobody else gets any.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use skep_builder::{
    CellProvider, Deletion, Described, Leak, Order, ProviderError, Quote, Ranges, Registration, Stage, Token,
};
use skep_pki::{CertificateAuthority, San};
use skep_remote::{Identity, RemoteProvider, serve};
use tokio_util::sync::CancellationToken;

/// Answers by what the order's cell is called.
struct Named;

fn described() -> Described {
    Described {
        nodes: vec![("a".into(), 2)],
        api: Some("198.18.32.2:6443".into()),
        gateway: None,
        parts: vec!["instance/x".into()],
    }
}

#[async_trait]
impl CellProvider for Named {
    async fn quote(&self, _: &Order) -> Result<Quote, ProviderError> {
        Ok(Quote {
            price_milli: 7,
            lead: Duration::from_secs(90),
            nodes_left: None,
        })
    }

    async fn create(&self, order: &Order) -> Result<Stage, ProviderError> {
        let source = || "the disk is slow".into();
        match order.cell.as_str() {
            "invalid" => Err(ProviderError::Invalid {
                field: "zones",
                message: "too many".into(),
            }),
            "exhausted" => Err(ProviderError::Exhausted {
                resource: "addresses".into(),
                message: "none left".into(),
            }),
            "transient" => Err(ProviderError::Transient {
                what: "begin".into(),
                after: Some(Duration::from_secs(3)),
                source: source(),
            }),
            "refused" => Err(ProviderError::Refused {
                what: "begin".into(),
                source: source(),
            }),
            "building" => Ok(Stage::Building {
                waits_for: order.registration.token.clone().unwrap_or_default(),
                after: Duration::from_secs(2),
            }),
            _ => Ok(Stage::Standing(described())),
        }
    }

    async fn describe(&self, token: &Token) -> Result<Option<Described>, ProviderError> {
        Ok((token.as_str() == "t").then(described))
    }

    async fn delete(&self, _: &Token) -> Result<Deletion, ProviderError> {
        Ok(Deletion::Gone)
    }

    async fn leaks(&self, known: &BTreeSet<Token>) -> Result<Vec<Leak>, ProviderError> {
        let leak = |token: &Token| Leak {
            part: "instance/x".into(),
            token: token.to_string(),
        };
        Ok(known.iter().map(leak).collect())
    }
}

fn order(cell: &str) -> Order {
    Order {
        token: "t".parse().unwrap(),
        cell: cell.parse().unwrap(),
        pool: "local".into(),
        region: "local".parse().unwrap(),
        domain: "skep.internal".parse().unwrap(),
        zones: vec!["a".parse().unwrap()],
        nodes_per_zone: 1,
        node_type: None,
        ranges: Ranges {
            nodes: "198.18.32.0/24".parse().unwrap(),
            pods: "198.18.48.0/20".parse().unwrap(),
            services: "198.18.36.0/22".parse().unwrap(),
        },
        registration: Registration {
            hub: "https://198.18.0.2:6443".into(),
            authority: String::new(),
            token: Some("abcdef.secret".into()),
        },
    }
}

struct Site {
    url: String,
    authority: CertificateAuthority,
    _ends: tokio_util::sync::DropGuard,
}

async fn site() -> Site {
    skep_runtime::install_crypto();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let address: SocketAddr = free;
    let authority = CertificateAuthority::create("provider", Timestamp::now()).unwrap();
    let identity = Identity {
        authority: authority.clone(),
        names: vec![San::Ip(address.ip())],
        token: "right".into(),
    };
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(Arc::new(Named), address, identity, shutdown.clone()));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Site {
        url: format!("https://{address}"),
        authority,
        _ends: shutdown.drop_guard(),
    }
}

impl Site {
    fn client(&self, token: &str) -> RemoteProvider {
        RemoteProvider::new(&self.url, self.authority.certificate().as_str(), token).unwrap()
    }
}

#[tokio::test]
async fn answers_come_as_they_were_given() {
    let site = site().await;
    let client = site.client("right");
    assert_eq!(client.quote(&order("x")).await.unwrap().price_milli, 7);
    assert_eq!(
        client.create(&order("x")).await.unwrap(),
        Stage::Standing(described())
    );
    let building = Stage::Building {
        waits_for: "abcdef.secret".into(),
        after: Duration::from_secs(2),
    };
    assert_eq!(client.create(&order("building")).await.unwrap(), building);
    assert_eq!(
        client.describe(&"t".parse().unwrap()).await.unwrap(),
        Some(described())
    );
    assert_eq!(client.describe(&"u".parse().unwrap()).await.unwrap(), None);
    assert_eq!(
        client.delete(&"t".parse().unwrap()).await.unwrap(),
        Deletion::Gone
    );
    let known = BTreeSet::from(["u".parse().unwrap()]);
    assert_eq!(client.leaks(&known).await.unwrap()[0].token, "u");
}

#[tokio::test]
async fn errors_keep_what_a_caller_can_do_about_them() {
    let site = site().await;
    let client = site.client("right");
    let error = client.create(&order("invalid")).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Invalid { field: "zones", message } if message == "too many"),
        "{error:?}"
    );
    let error = client.create(&order("exhausted")).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Exhausted { resource, .. } if resource == "addresses"),
        "{error:?}"
    );
    let error = client.create(&order("transient")).await.unwrap_err();
    let ProviderError::Transient { after, source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (*after, source.to_string()),
        (Some(Duration::from_secs(3)), "the disk is slow".to_owned())
    );
    let error = client.create(&order("refused")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn without_the_token_or_the_authority_nothing_is_done() {
    let site = site().await;
    let error = site.client("wrong").create(&order("x")).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused { .. }), "{error:?}");
    let other = CertificateAuthority::create("other", Timestamp::now()).unwrap();
    let stranger = RemoteProvider::new(&site.url, other.certificate().as_str(), "right").unwrap();
    let error = stranger.create(&order("x")).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Transient { .. }), "{error:?}");
    let gone = RemoteProvider::new(
        "https://127.0.0.1:1",
        site.authority.certificate().as_str(),
        "right",
    )
    .unwrap();
    assert!(
        gone.delete(&"t".parse().unwrap())
            .await
            .unwrap_err()
            .is_transient()
    );
}
