//! Golden objects through the real validation, and the lives of certificates.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use skep_api::etcd_cluster::{RestoreSource, TRUST_ANNOTATION, TrustPhase};
use skep_snapshots::Manifest;

use super::certificates::{Certificates, CertificatesError, build_certificates};
use super::*;
use crate::fixtures::{one, three, valid};
use crate::observed::{RotationStep, Start};

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
fn a_first_member_is_made_from_a_snapshot_and_no_other() {
    let mut object = three();
    let policy = serde_json::json!({
        "store": {"s3": {"bucket": "snapshots", "credentialsSecret": "snapshot-store"}}, "keysSecret": "snapshot-keys",
    });
    object.spec.snapshots = Some(serde_json::from_value(policy).unwrap());
    let mut cluster = valid(&object);
    cluster.operator_image = Some("localhost/skep:one".to_owned());
    let built = |cluster: &Cluster, start| pod::build_pod(cluster, "etcd-aaaaa", &start).spec.unwrap();
    assert_eq!(built(&cluster, Start::Seed).init_containers, None);
    cluster.forming_from = Some(RestoreSource {
        name: "restore".to_owned(),
        snapshot: Some("20261128T041410Z-0000000000000004711".to_owned()),
        owner: Some("0b7f6f0e-0000-4000-8000-000000000001".to_owned()),
        member: None,
    });
    let seed = built(&cluster, Start::Seed);
    golden!("restoring", (&seed.init_containers, &seed.volumes));
    assert_eq!(built(&cluster, Start::Rejoin).init_containers, None);
}

#[test]
fn what_is_left_of_a_quorum_is_opened_and_made_anew_before_its_etcd_starts() {
    let mut cluster = valid(&three());
    cluster.operator_image = Some("localhost/skep:one".to_owned());
    cluster.forming_from = Some(RestoreSource {
        name: "recover-1".to_owned(),
        snapshot: None,
        owner: None,
        member: Some("etcd-aaaaa".to_owned()),
    });
    let built = |start| pod::build_pod(&cluster, "etcd-aaaaa", &start).spec.unwrap();
    let forced = built(Start::Force);
    golden!("recovering", (&forced.init_containers, &forced.volumes));
    assert_eq!(built(Start::Rejoin).init_containers, None);
}

#[test]
fn a_drill_starts_an_etcd_that_no_selector_of_members_finds() {
    let mut object = three();
    let policy = serde_json::json!({"store": {"s3": {"bucket": "snapshots"}}, "keysSecret": "snapshot-keys"});
    object.spec.snapshots = Some(serde_json::from_value(policy).unwrap());
    let mut cluster = valid(&object);
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "format": 1, "owner": "0b7f6f0e-0000-4000-8000-000000000001", "cluster": "etcd", "etcdVersion": "3.7.3",
        "clusterId": "ff", "revision": 4711, "takenAt": "2026-11-28T04:14:10Z", "bytes": 8, "sha256": "00",
        "content": {"keys": 40, "hash": 7, "compactRevision": 3},
    }))
    .unwrap();
    let built = |cluster: &Cluster| drill::build_drill(cluster, "drill", cluster.owner.clone(), &manifest);
    assert_eq!(built(&cluster), None);
    cluster.operator_image = Some("localhost/skep:one".to_owned());
    let pod = built(&cluster).unwrap();
    golden!("drill", &pod);
    let labels = pod.metadata.labels.unwrap();
    assert!(!labels.contains_key(UID_LABEL) && !labels.contains_key(labels::APP_MANAGED_BY));
}

#[test]
fn a_new_member_keeps_away_from_avoided_nodes_and_is_spread_as_if_who_leaves_were_gone() {
    let mut object = three();
    object.spec.avoid_nodes = vec!["node-1".to_owned(), "node-2".to_owned()];
    let cluster = valid(&object);
    let joins = Start::Join(Vec::new());
    let spec = pod::build_pod(&cluster, "etcd-comes", &joins).spec.unwrap();
    golden!("avoiding", (&spec.affinity, &spec.topology_spread_constraints));
    let stays = pod::build_pod(&cluster, "etcd-leaves", &Start::Rejoin)
        .spec
        .unwrap();
    assert_eq!(
        stays.affinity.unwrap().node_affinity,
        None,
        "it goes where its volume is"
    );
    assert_eq!(
        pod::revision(&cluster),
        pod::revision(&valid(&three())),
        "nobody is made anew for it"
    );
}

#[test]
fn a_start_is_read_back_as_it_was_written() {
    let cluster = valid(&three());
    let others = vec![
        ("etcd-a".to_owned(), peer_url(&cluster, "etcd-a")),
        ("etcd-b".to_owned(), peer_url(&cluster, "etcd-b")),
    ];
    for start in [Start::Seed, Start::Rejoin, Start::Force, Start::Join(others)] {
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

fn step(found: &mut BTreeMap<String, Secret>, step: RotationStep, rotation: i64, now: Timestamp) {
    for name in ["etcd-peer-ca", "etcd-client-ca"] {
        let after = authority::advance(&found[name], step, rotation, now)
            .unwrap()
            .unwrap();
        let patch = authority::build_patch(&found[name], &after);
        let data = patch["data"].as_object().unwrap();
        let removed = data.values().filter(|value| value.is_null()).count();
        let outlived = match step {
            RotationStep::Introduce => 0,
            RotationStep::Sign => 2,
            RotationStep::Retire => 1,
        };
        assert_eq!(removed, outlived, "what has its time behind it stays in {name}");
        found.insert(name.to_owned(), after);
    }
}

fn read<'a>(found: &'a BTreeMap<String, Secret>, name: &str, key: &str) -> &'a str {
    std::str::from_utf8(&found[name].data.as_ref().unwrap()[key].0).unwrap()
}

#[test]
fn one_authority_takes_the_place_of_another_in_three_steps() {
    let mut cluster = valid(&three());
    let mut found = BTreeMap::new();
    let first = build_certificates(&cluster, &found, true, now()).unwrap();
    keep(&mut found, &first);
    assert_eq!(
        (
            first.trust.pending,
            first.trust.revision.clone(),
            first.revision.clone()
        ),
        (None, None, None)
    );
    let old = read(&found, "etcd-client-ca", "tls.crt").to_owned();

    cluster.authority_rotation = 1;
    let mut look = |found: &mut BTreeMap<String, Secret>| {
        let made = build_certificates(&cluster, found, false, now()).unwrap();
        keep(found, &made);
        let again = build_certificates(&cluster, found, false, now()).unwrap();
        assert!(
            again.leaves.is_empty() && again.authorities.is_empty(),
            "it does not come to rest"
        );
        let revision = made.trust.revision.clone();
        for client in ["etcd-client-operator", "etcd-client-apiserver"] {
            let told = found[client].annotations().get(TRUST_ANNOTATION);
            assert_eq!(told, revision.as_ref(), "{client}");
        }
        cluster.client_trust.clone_from(&revision);
        let known = build_certificates(&cluster, found, false, now())
            .unwrap()
            .trust
            .is_known_to_clients;
        assert!(known && (made.trust.is_known_to_clients == revision.is_none()));
        made
    };
    assert_eq!(look(&mut found).trust.pending, Some(RotationStep::Introduce));

    step(&mut found, RotationStep::Introduce, 1, now());
    let introduced = look(&mut found);
    assert_eq!(introduced.trust.pending, Some(RotationStep::Sign));
    assert_eq!(introduced.trust.phase, TrustPhase::Introduced);
    let new = read(&found, "etcd-client-ca", "next.crt").to_owned();
    assert_ne!(old, new);
    let both = format!("{old}{new}");
    for name in ["etcd-server", "etcd-client-apiserver", "etcd-client-operator"] {
        assert_eq!(read(&found, name, "ca.crt"), both, "{name}");
    }
    assert_eq!(introduced.credentials.authority, both);

    step(&mut found, RotationStep::Sign, 1, now());
    let signing = look(&mut found);
    assert_eq!(signing.trust.pending, Some(RotationStep::Retire));
    assert_eq!(read(&found, "etcd-client-ca", "tls.crt"), new);
    assert_eq!(signing.credentials.authority, format!("{new}{old}"));
    assert_eq!(signing.leaves.len(), 4, "every leaf is signed anew");

    step(&mut found, RotationStep::Retire, 1, now());
    let retired = look(&mut found);
    assert_eq!(
        (retired.trust.pending, retired.trust.phase),
        (None, TrustPhase::Settled)
    );
    assert_eq!(retired.credentials.authority, new);
    assert!(
        found
            .values()
            .all(|secret| !format!("{:?}", secret.data).contains("previous.crt"))
    );
    let revisions = [&first, &introduced, &signing, &retired].map(|made| made.revision.clone());
    let different: std::collections::BTreeSet<_> = revisions.iter().collect();
    assert_eq!(
        different.len(),
        4,
        "members are not made anew for each: {revisions:?}"
    );
}

#[test]
fn a_step_that_was_cut_off_after_one_authority_is_made_up_for() {
    let mut cluster = valid(&three());
    let mut found = BTreeMap::new();
    keep(
        &mut found,
        &build_certificates(&cluster, &BTreeMap::new(), true, now()).unwrap(),
    );
    cluster.authority_rotation = 1;
    for cut_off in [RotationStep::Introduce, RotationStep::Sign, RotationStep::Retire] {
        let after = authority::advance(&found["etcd-peer-ca"], cut_off, 1, now())
            .unwrap()
            .unwrap();
        found.insert("etcd-peer-ca".to_owned(), after);
        let made = build_certificates(&cluster, &found, false, now()).unwrap();
        assert_eq!(made.trust.pending, Some(cut_off));
        assert!(
            authority::advance(&found["etcd-peer-ca"], cut_off, 1, now())
                .unwrap()
                .is_none()
        );
        let after = authority::advance(&found["etcd-client-ca"], cut_off, 1, now())
            .unwrap()
            .unwrap();
        found.insert("etcd-client-ca".to_owned(), after);
    }
    assert_eq!(
        build_certificates(&cluster, &found, false, now())
            .unwrap()
            .trust
            .pending,
        None
    );
}

#[test]
fn an_authority_is_replaced_when_two_thirds_of_its_life_are_over() {
    let cluster = valid(&three());
    let mut found = BTreeMap::new();
    keep(
        &mut found,
        &build_certificates(&cluster, &BTreeMap::new(), true, now()).unwrap(),
    );
    let pending = |years: i64| {
        let later = now() + SignedDuration::from_hours(years * 365 * 24);
        build_certificates(&cluster, &found, false, later)
            .unwrap()
            .trust
            .pending
    };
    assert_eq!(pending(6), None);
    assert_eq!(pending(7), Some(RotationStep::Introduce));
}
