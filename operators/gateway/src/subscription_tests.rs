//! The delta protocol, case by case and as properties.

use super::*;
use crate::snapshot::tests::route;
use proptest::prelude::*;

const A: &str = "api.caaaaaaaaa.local.skep.internal";
const B: &str = "api.cbbbbbbbbb.local.skep.internal";

fn snapshot(cpids: &[(&str, &[&str])]) -> Snapshot {
    Snapshot::of(cpids.iter().map(|(cpid, addresses)| route(cpid, addresses)))
}

fn names(names: &[&str]) -> Interest {
    Interest {
        subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Interest::default()
    }
}

fn told(delta: &Delta) -> (Vec<&str>, Vec<&str>) {
    (
        delta.resources.keys().map(String::as_str).collect(),
        delta.removed.iter().map(String::as_str).collect(),
    )
}

#[test]
fn a_name_without_a_resource_is_answered_at_once_and_every_time() {
    let mut clusters = Subscription::new(Kind::Cluster);
    let empty = Snapshot::default();
    assert_eq!(told(&clusters.request(names(&[A]), &empty)), (vec![], vec![A]));
    assert_eq!(told(&clusters.request(names(&[A]), &empty)), (vec![], vec![A]));
}

#[test]
fn a_resource_that_appears_is_pushed_to_who_asked_before() {
    let mut clusters = Subscription::new(Kind::Cluster);
    clusters.request(names(&[A]), &Snapshot::default());
    let after = snapshot(&[("caaaaaaaaa", &["10.0.0.1:6443"])]);
    assert_eq!(told(&clusters.changed([A, B], &after)), (vec![A], vec![]));
    assert!(clusters.changed([A], &after).is_empty());
}

#[test]
fn who_asks_again_is_told_again() {
    let present = snapshot(&[("caaaaaaaaa", &[])]);
    let mut clusters = Subscription::new(Kind::Cluster);
    assert_eq!(told(&clusters.request(names(&[A]), &present)), (vec![A], vec![]));
    assert_eq!(told(&clusters.request(names(&[A]), &present)), (vec![A], vec![]));
}

#[test]
fn a_resource_that_goes_is_removed_once() {
    let mut clusters = Subscription::new(Kind::Cluster);
    clusters.request(names(&[A]), &snapshot(&[("caaaaaaaaa", &[])]));
    assert_eq!(
        told(&clusters.changed([A], &Snapshot::default())),
        (vec![], vec![A])
    );
    assert!(clusters.changed([A], &Snapshot::default()).is_empty());
    assert!(clusters.compared(&Snapshot::default()).is_empty());
}

#[test]
fn a_new_stream_is_told_only_what_changed_meanwhile() {
    let now = snapshot(&[
        ("caaaaaaaaa", &["10.0.0.1:6443"]),
        ("cbbbbbbbbb", &["10.0.0.2:6443"]),
    ]);
    let version = now.get(Kind::Endpoints, A).unwrap().version.clone();
    let gone = "api.ccccccccc2.local.skep.internal";
    let interest = Interest {
        versions: [(A, version.as_str()), (B, "old"), (gone, "old")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        ..names(&[A, B, gone])
    };
    let mut endpoints = Subscription::new(Kind::Endpoints);
    assert_eq!(told(&endpoints.request(interest, &now)), (vec![B], vec![gone]));
}

#[test]
fn a_wildcard_follows_everything_until_it_ends() {
    let one = snapshot(&[("caaaaaaaaa", &[])]);
    let two = snapshot(&[("caaaaaaaaa", &[]), ("cbbbbbbbbb", &[])]);
    let mut clusters = Subscription::new(Kind::Cluster);
    assert_eq!(clusters.request(Interest::default(), &one).resources.len(), 3);
    assert_eq!(told(&clusters.changed([A, B], &two)), (vec![B], vec![]));
    assert_eq!(clusters.compared(&Snapshot::default()).removed.len(), 4);
    assert!(clusters.is_empty());
    let end = Interest {
        unsubscribe: vec![WILDCARD.to_owned()],
        ..Interest::default()
    };
    assert!(clusters.request(end, &two).is_empty());
    assert!(clusters.changed([A, B], &two).is_empty());
}

#[test]
fn an_empty_request_is_a_wildcard_only_when_it_is_the_first() {
    let one = snapshot(&[("caaaaaaaaa", &[])]);
    let mut clusters = Subscription::new(Kind::Cluster);
    clusters.request(names(&[B]), &one);
    assert!(clusters.request(Interest::default(), &one).is_empty());
}

#[test]
fn an_unsubscribed_name_is_not_told_of() {
    let one = snapshot(&[("caaaaaaaaa", &["10.0.0.1:6443"])]);
    let mut endpoints = Subscription::new(Kind::Endpoints);
    endpoints.request(names(&[A]), &one);
    let end = Interest {
        unsubscribe: vec![A.to_owned()],
        ..Interest::default()
    };
    assert!(endpoints.request(end, &one).is_empty());
    assert!(endpoints.changed([A], &Snapshot::default()).is_empty());
    assert!(endpoints.is_empty());
}

#[test]
fn names_that_do_not_exist_take_bounded_memory_and_none_is_lost() {
    let mut clusters = Subscription::new(Kind::Cluster);
    let strangers: Vec<String> = (0..MOST_ABSENT).map(|n| format!("api.{n}")).collect();
    for stranger in &strangers {
        assert_eq!(
            clusters
                .request(names(&[stranger]), &Snapshot::default())
                .removed
                .len(),
            1
        );
    }
    assert!(
        clusters
            .changed([A], &snapshot(&[("caaaaaaaaa", &[])]))
            .is_empty(),
        "nobody asked for it"
    );
    assert_eq!(
        told(&clusters.request(names(&[A]), &Snapshot::default())),
        (vec![], vec![A])
    );
    assert_eq!(clusters.len(), MOST_ABSENT);

    // It is not among the names that are remembered, and still told of when it appears and goes.
    let present = snapshot(&[("caaaaaaaaa", &[])]);
    assert_eq!(told(&clusters.changed([A], &present)), (vec![A], vec![]));
    assert_eq!(
        told(&clusters.changed([A], &Snapshot::default())),
        (vec![], vec![A])
    );
    assert_eq!(clusters.len(), MOST_ABSENT);
    assert_eq!(
        clusters.compared(&present).resources.len(),
        3,
        "any that appeared may be followed"
    );
}

const CPIDS: [&str; 3] = ["caaaaaaaaa", "cbbbbbbbbb", "cccccccccc"];

#[derive(Debug, Clone)]
enum Step {
    Put(usize, u8),
    Remove(usize),
    Subscribe(usize),
    Unsubscribe(usize),
    Compare,
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = 0..CPIDS.len();
    prop_oneof![
        (index.clone(), 1u8..4).prop_map(|(index, host)| Step::Put(index, host)),
        index.clone().prop_map(Step::Remove),
        index.clone().prop_map(Step::Subscribe),
        index.prop_map(Step::Unsubscribe),
        Just(Step::Compare),
    ]
}

/// A client as Envoy is one: it keeps what it is told and forgets what it unsubscribes from.
#[derive(Default)]
struct Client {
    follows: std::collections::BTreeSet<String>,
    holds: BTreeMap<String, String>,
}

impl Client {
    fn take(&mut self, delta: Delta) {
        for name in delta.removed {
            assert!(
                !delta.resources.contains_key(&name),
                "{name} is both there and removed"
            );
            self.holds.remove(&name);
        }
        for (name, resource) in delta.resources {
            self.holds.insert(name, resource.version.clone());
        }
    }

    fn should_hold(&self, snapshot: &Snapshot) -> BTreeMap<String, String> {
        let found = self
            .follows
            .iter()
            .filter_map(|name| Some((name.clone(), snapshot.get(Kind::Endpoints, name)?.version.clone())));
        found.collect()
    }
}

proptest! {
    #[test]
    fn a_client_always_holds_exactly_what_it_follows(
        wildcard in any::<bool>(),
        steps in prop::collection::vec(any_step(), 0..40),
        reconnect in prop::option::of(0usize..40),
    ) {
        let (mut snapshot, mut client) = (Snapshot::default(), Client::default());
        let mut endpoints = Subscription::new(Kind::Endpoints);
        let first = if wildcard { Interest::default() } else { names(&["stranger"]) };
        client.take(endpoints.request(first, &snapshot));
        for (number, step) in steps.into_iter().enumerate() {
            let host = |index: usize| format!("api.{}.local.skep.internal", CPIDS[index]);
            match step {
                Step::Put(index, ip) => {
                    let changes = snapshot.put(route(CPIDS[index], &[&format!("10.0.0.{ip}:6443")]));
                    client.take(endpoints.changed(of_kind(&changes), &snapshot));
                }
                Step::Remove(index) => {
                    let changes = snapshot.remove(&CPIDS[index].parse().unwrap());
                    client.take(endpoints.changed(of_kind(&changes), &snapshot));
                }
                Step::Subscribe(index) => {
                    client.follows.insert(host(index));
                    client.take(endpoints.request(names(&[&host(index)]), &snapshot));
                }
                Step::Unsubscribe(index) if !wildcard => {
                    client.follows.remove(&host(index));
                    client.holds.remove(&host(index));
                    let unsubscribe = vec![host(index)];
                    client.take(endpoints.request(Interest { unsubscribe, ..Interest::default() }, &snapshot));
                }
                Step::Unsubscribe(_) => {}
                Step::Compare => prop_assert!(endpoints.compared(&snapshot).is_empty()),
            }
            if reconnect == Some(number) {
                endpoints = Subscription::new(Kind::Endpoints);
                let mut subscribe: Vec<String> = client.follows.iter().cloned().collect();
                subscribe.push(if wildcard { WILDCARD } else { "stranger" }.to_owned());
                let again = Interest { subscribe, versions: client.holds.clone(), ..Interest::default() };
                client.take(endpoints.request(again, &snapshot));
            }
            let mut should_hold = client.should_hold(&snapshot);
            if wildcard {
                let all = snapshot.names(Kind::Endpoints);
                let version = |name: &str| snapshot.get(Kind::Endpoints, name).unwrap().version.clone();
                should_hold = all.map(|name| (name.to_owned(), version(name))).collect();
            }
            prop_assert_eq!(&client.holds, &should_hold);
        }
    }
}

fn of_kind(changes: &crate::snapshot::Changes) -> Vec<&str> {
    let of_kind = changes.iter().filter(|(kind, _)| *kind == Kind::Endpoints);
    of_kind.map(|(_, name)| name.as_str()).collect()
}
