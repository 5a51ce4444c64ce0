//! The provider against moto's real server, behind a proxy that holds to limits and makes faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod proxy;
mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_ec2::types::{InstanceStateName, Reservation};
use proxy::Proxy;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use server::Moto;
use skep_builder::{CellProvider, Deletion, Described, Order, ProviderError, Ranges, Registration, Stage};
use skep_ec2::{Ec2Provider, Settings};
use skep_planner::instance::InstanceTypes;

const RUNS: u64 = 30;
/// The most passes that anything may take.
const PASSES: usize = 200;

fn client(url: &str) -> Client {
    let retries = RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(Duration::from_millis(1));
    let times = TimeoutConfig::builder()
        .operation_timeout(Duration::from_secs(20))
        .build();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(url)
        .retry_config(retries)
        .timeout_config(times)
        .build();
    Client::from_conf(config)
}

fn provider(url: &str) -> Ec2Provider {
    let settings = Settings {
        platform: "test".to_owned(),
        image: "ami-12c6146b".to_owned(),
        node_type: "m5.large".to_owned(),
        pods_per_node: 18,
        vcpus_left: Some(64),
        join_secret: vec![7; 32],
    };
    Ec2Provider::new(client(url), settings, InstanceTypes::shipped().unwrap())
}

fn order(token: &str, nodes_per_zone: u8) -> Order {
    Order {
        token: token.parse().unwrap(),
        cell: "cell".parse().unwrap(),
        pool: "pool".to_owned(),
        region: "us-east-1".parse().unwrap(),
        domain: "skep.internal".parse().unwrap(),
        zones: ["a", "b"].map(|zone| zone.parse().unwrap()).to_vec(),
        nodes_per_zone,
        node_type: None,
        ranges: Ranges {
            nodes: "10.1.0.0/16".parse().unwrap(),
            pods: "10.2.0.0/16".parse().unwrap(),
            services: "10.96.0.0/16".parse().unwrap(),
        },
        registration: Registration {
            hub: "https://hub:6443".to_owned(),
            authority: "-----BEGIN CERTIFICATE-----".to_owned(),
            token: Some("abcdef.0123456789abcdef".to_owned()),
        },
    }
}

/// What one pass came to.
enum Pass<T> {
    Done(T),
    Again(String),
}

/// Passes until one is done; each by a provider that knows nothing, and some of which die in their midst.
async fn until_done<T, F>(proxy: &Proxy, chance: &mut StdRng, deaths: bool, what: &str, mut pass: F) -> T
where
    F: AsyncFnMut(Ec2Provider) -> Pass<T>,
{
    let mut last = String::new();
    for _ in 0..PASSES {
        let one = provider(&proxy.url);
        let passed = if deaths && chance.random_bool(0.3) {
            let calls = chance.random_range(1..25);
            tokio::select! {
                passed = pass(one) => passed,
                () = proxy.after(calls) => Pass::Again("it died".to_owned()),
            }
        } else {
            pass(one).await
        };
        proxy.disarm();
        match passed {
            Pass::Done(done) => return done,
            Pass::Again(why) => last = why,
        }
    }
    panic!(
        "{what} never came to an end; {:?}; at last: {last}",
        proxy.happened()
    );
}

fn passing<T>(error: &ProviderError) -> Pass<T> {
    assert!(error.is_transient(), "{error}: {error:?}");
    Pass::Again(format!("{error:?}"))
}

async fn stand(proxy: &Proxy, chance: &mut StdRng, deaths: bool, order: &Order) -> Described {
    until_done(
        proxy,
        chance,
        deaths,
        "a cell",
        async |one: Ec2Provider| match one.create(order).await {
            Ok(Stage::Standing(described)) => Pass::Done(described),
            Ok(Stage::Building { waits_for, .. }) => Pass::Again(waits_for),
            Err(error) => passing(&error),
        },
    )
    .await
}

async fn remove(proxy: &Proxy, chance: &mut StdRng, deaths: bool, order: &Order) {
    until_done(
        proxy,
        chance,
        deaths,
        "an end",
        async |one: Ec2Provider| match one.delete(&order.token).await {
            Ok(Deletion::Gone) => Pass::Done(()),
            Ok(Deletion::Going { waits_for, .. }) => Pass::Again(waits_for),
            Err(error) => passing(&error),
        },
    )
    .await;
}

fn kinds(described: &Described, kind: &str) -> usize {
    let prefix = format!("{kind}/");
    described
        .parts
        .iter()
        .filter(|part| part.starts_with(&prefix))
        .count()
}

/// What a whole cell of so many nodes is made of, each thing once.
fn assert_whole(described: &Described, nodes: usize, seed: u64) {
    let counts = [
        ("vpc", 1),
        ("internet-gateway", 1),
        ("route-table", 1),
        ("security-group", 1),
        ("launch-template", 1),
        ("subnet", 4),
        ("instance", nodes),
        ("network-interface", 2 * nodes),
    ];
    for (kind, count) in counts {
        assert_eq!(
            kinds(described, kind),
            count,
            "seed {seed}: {kind} of {described:?}"
        );
    }
    let each = u32::try_from(nodes / 2).unwrap();
    assert_eq!(
        described.nodes,
        [("a".to_owned(), each), ("b".to_owned(), each)],
        "seed {seed}"
    );
    assert_eq!(described.api.as_deref(), Some("10.1.0.4:6443"), "seed {seed}");
}

/// Everything that is there at all, tagged or not, but for what the account has from the start.
async fn everything(direct: &Client) -> Vec<String> {
    let mut found = Vec::new();
    let vpcs = direct.describe_vpcs().send().await.unwrap();
    let ours = vpcs.vpcs().iter().filter(|vpc| vpc.is_default() != Some(true));
    found.extend(ours.filter_map(|vpc| vpc.vpc_id().map(str::to_owned)));
    let gateways = direct.describe_internet_gateways().send().await.unwrap();
    found.extend(
        gateways
            .internet_gateways()
            .iter()
            .filter_map(|one| one.internet_gateway_id().map(str::to_owned)),
    );
    let interfaces = direct.describe_network_interfaces().send().await.unwrap();
    found.extend(
        interfaces
            .network_interfaces()
            .iter()
            .filter_map(|one| one.network_interface_id().map(str::to_owned)),
    );
    let templates = direct.describe_launch_templates().send().await.unwrap();
    found.extend(
        templates
            .launch_templates()
            .iter()
            .filter_map(|one| one.launch_template_id().map(str::to_owned)),
    );
    let instances = direct.describe_instances().send().await.unwrap();
    for one in instances.reservations().iter().flat_map(Reservation::instances) {
        let state = one
            .state()
            .and_then(|state| state.name())
            .map(InstanceStateName::as_str);
        if state != Some("terminated") {
            found.extend(one.instance_id().map(str::to_owned));
        }
    }
    found
}

/// Takes some 60 s: thirty cells are made, grow and are deleted, in a hundred calls and more each.
#[tokio::test(flavor = "multi_thread")]
async fn cells_are_made_grow_and_go_whatever_fails_and_nothing_leaks() {
    let moto = Moto::start().await;
    let direct = client(&moto.url);
    let mut all = std::collections::BTreeMap::<&str, u64>::new();
    for seed in 1..=RUNS {
        let proxy = Proxy::start(&moto.url, direct.clone(), seed).await;
        let mut chance = StdRng::seed_from_u64(seed);
        proxy.set_faults(80);
        let (small, large) = (order(&format!("run-{seed}"), 1), order(&format!("run-{seed}"), 2));
        assert_whole(&stand(&proxy, &mut chance, true, &small).await, 2, seed);
        assert_whole(&stand(&proxy, &mut chance, true, &large).await, 4, seed);
        remove(&proxy, &mut chance, true, &large).await;
        proxy.set_faults(0);
        assert_eq!(provider(&proxy.url).describe(&small.token).await.unwrap(), None);
        assert_eq!(provider(&proxy.url).leaks(&BTreeSet::new()).await.unwrap(), []);
        assert_eq!(everything(&direct).await, Vec::<String>::new(), "seed {seed}");
        assert_eq!(proxy.violations(), Vec::<String>::new(), "seed {seed}");
        for (what, times) in proxy.happened() {
            *all.entry(what).or_default() += times;
        }
    }
    println!("faults in {RUNS} runs: {all:?}");
    for what in ["throttled", "broken", "no capacity", "unanswered", "killed"] {
        assert!(
            all.get(what).is_some_and(|times| *times > 0),
            "no {what} in {all:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_what_cannot_be_is_refused_by_field() {
    let moto = Moto::start().await;
    let proxy = Proxy::start(&moto.url, client(&moto.url), 1).await;
    let mut chance = StdRng::seed_from_u64(1);
    let one = provider(&proxy.url);
    let field = |refused: Result<Stage, ProviderError>| match refused {
        Err(ProviderError::Invalid { field, message }) => {
            assert!(!message.is_empty());
            field
        }
        other => panic!("{other:?}"),
    };
    let mut wrong = order("wrong", 1);
    wrong.region = "eu-west-1".parse().unwrap();
    assert_eq!(field(one.create(&wrong).await), "region");
    let mut wrong = order("wrong", 1);
    wrong.node_type = Some("m5.enormous".to_owned());
    assert_eq!(field(one.create(&wrong).await), "nodeType");
    let mut wrong = order("wrong", 1);
    wrong.ranges.pods = "10.2.0.0/27".parse().unwrap();
    assert_eq!(field(one.create(&wrong).await), "ranges.pods");
    assert_eq!(
        one.describe(&wrong.token).await.unwrap(),
        None,
        "a refused order made something"
    );

    let large = order("limits", 2);
    stand(&proxy, &mut chance, false, &large).await;
    assert_eq!(field(one.create(&order("limits", 1)).await), "nodesPerZone");
    let quote = one.quote(&large).await.unwrap();
    assert_eq!((quote.price_milli, quote.nodes_left), (384, Some(32)));

    // A repeat of what stands asks for lists only.
    let before = proxy.calls();
    stand(&proxy, &mut chance, false, &large).await;
    assert_eq!(proxy.calls() - before, 8);

    // The proxy knows what is too much: a node of this type has its three interfaces.
    let direct = client(&proxy.url);
    let described = one.describe(&large.token).await.unwrap().unwrap();
    let id = |kind: &str| {
        let part = described.parts.iter().find_map(|part| part.strip_prefix(kind));
        part.unwrap().to_owned()
    };
    let made = direct
        .create_network_interface()
        .subnet_id(id("subnet/"))
        .send()
        .await
        .unwrap();
    let loose = made
        .network_interface()
        .and_then(|one| one.network_interface_id())
        .unwrap()
        .to_owned();
    let asked = direct
        .attach_network_interface()
        .network_interface_id(&loose)
        .instance_id(id("instance/"));
    assert!(asked.device_index(3).send().await.is_err());
    assert_eq!(proxy.violations().len(), 1);
    direct
        .delete_network_interface()
        .network_interface_id(loose)
        .send()
        .await
        .unwrap();

    // What nobody knows of is a leak, part by part.
    let known = BTreeSet::from([large.token.clone()]);
    assert_eq!(one.leaks(&known).await.unwrap(), []);
    let leaks = one.leaks(&BTreeSet::new()).await.unwrap();
    assert_eq!(leaks.len(), described.parts.len());
    assert!(leaks.iter().all(|leak| leak.token == "limits"), "{leaks:?}");
    remove(&proxy, &mut chance, false, &large).await;
}
