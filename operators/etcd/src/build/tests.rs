//! Golden objects through the real validation, and the lives of certificates.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::certificates::{Certificates, CertificatesError, build_certificates};
use super::*;
use crate::fixtures::{one, three, valid};
use crate::observed::Start;

macro_rules! golden {
    ($name:expr, $value:expr) => {
        insta::with_settings!({ snapshot_path => "../../tests/golden", prepend_module_to_snapshot => false }, {
            insta::assert_yaml_snapshot!($name, $value);
        });
    };
}

#[test]
fn the_objects_of_a_spread_cluster() {
    let cluster = valid(&three());
    golden!("pod-three", pod::build_pod(&cluster, "etcd-aaaaa", &Start::Seed));
    golden!("claim", claim::build_claim(&cluster, "etcd-aaaaa"));
    golden!("client-service", service::build_client_service(&cluster));
    golden!("peer-service", service::build_peer_service(&cluster));
    golden!(
        "disruption-budget",
        disruption_budget::build_disruption_budget(&cluster)
    );
}

#[test]
fn the_pod_of_a_single_member_of_the_oldest_line() {
    golden!(
        "pod-one",
        pod::build_pod(&valid(&one()), "etcd-aaaaa", &Start::Rejoin)
    );
}

#[test]
fn a_start_is_read_back_as_it_was_written() {
    let cluster = valid(&three());
    let others = vec![
        ("etcd-a".to_owned(), peer_url(&cluster, "etcd-a")),
        ("etcd-b".to_owned(), peer_url(&cluster, "etcd-b")),
    ];
    for start in [Start::Seed, Start::Rejoin, Start::Join(others)] {
        let annotations = pod::start_annotations(&cluster, "etcd-a", &start);
        assert_eq!(pod::read_start("etcd-a", &annotations), Some(start));
    }
    assert_eq!(pod::read_start("etcd-a", &BTreeMap::new()), None);
}

#[test]
fn a_peer_url_names_its_pod_and_no_other_cluster() {
    let cluster = valid(&three());
    assert_eq!(
        pod_of_peer_url(&cluster, &peer_url(&cluster, "etcd-aaaaa")).as_deref(),
        Some("etcd-aaaaa")
    );
    for strange in [
        "",
        "https://",
        "http://etcd-a.etcd-peer.cp-cabcdefghi.svc:2380",
        "https://etcd-a.other.ns.svc:2380",
    ] {
        assert_eq!(pod_of_peer_url(&cluster, strange), None, "{strange}");
    }
}

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn keep(found: &mut BTreeMap<String, Secret>, made: &Certificates) {
    for secret in made.authorities.iter().chain(&made.leaves) {
        found.insert(secret.name_any(), secret.clone());
    }
}

#[test]
fn certificates_are_made_once_and_leaves_renewed() {
    let cluster = valid(&three());
    let mut found = BTreeMap::new();
    let first = build_certificates(&cluster, &found, true, now()).unwrap();
    keep(&mut found, &first);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "etcd-client-apiserver",
            "etcd-client-ca",
            "etcd-client-operator",
            "etcd-peer",
            "etcd-peer-ca",
            "etcd-server"
        ]
    );

    let again = build_certificates(&cluster, &found, false, now()).unwrap();
    assert!(again.authorities.is_empty() && again.leaves.is_empty());
    assert_eq!(again.credentials, first.credentials);

    let later = now() + SignedDuration::from_hours(61 * 24);
    let renewed = build_certificates(&cluster, &found, false, later).unwrap();
    assert!(renewed.authorities.is_empty());
    assert_eq!(renewed.leaves.len(), 4);
    assert_ne!(renewed.credentials, first.credentials);
}

#[test]
fn a_formed_cluster_never_gets_another_authority() {
    let cluster = valid(&three());
    let mut found = BTreeMap::new();
    let first = build_certificates(&cluster, &found, true, now()).unwrap();
    keep(&mut found, &first);
    found.remove("etcd-peer-ca");
    let error = build_certificates(&cluster, &found, false, now()).unwrap_err();
    assert!(matches!(error, CertificatesError::Missing { secret } if secret == "etcd-peer-ca"));
}

#[test]
fn a_leaf_of_another_authority_is_replaced() {
    let cluster = valid(&three());
    let mut found = BTreeMap::new();
    let first = build_certificates(&cluster, &found, true, now()).unwrap();
    let other = build_certificates(&cluster, &found, true, now()).unwrap();
    keep(&mut found, &first);
    for leaf in &other.leaves {
        found.insert(leaf.name_any(), leaf.clone());
    }
    assert_eq!(
        build_certificates(&cluster, &found, false, now())
            .unwrap()
            .leaves
            .len(),
        4
    );
}

#[test]
fn a_damaged_authority_is_told_and_left_alone() {
    let cluster = valid(&three());
    let mut found = BTreeMap::new();
    let made = build_certificates(&cluster, &found, true, now()).unwrap();
    keep(&mut found, &made);
    let key = found.get("etcd-client-ca").cloned().unwrap();
    let mut broken = found.get("etcd-peer-ca").cloned().unwrap();
    broken.data = key.data;
    broken.data.as_mut().unwrap().remove("tls.key");
    found.insert("etcd-peer-ca".into(), broken);
    let error = build_certificates(&cluster, &found, true, now()).unwrap_err();
    assert!(matches!(error, CertificatesError::Unusable { .. }));
}
