//! What is made, what is kept, and what is refused.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use skep_pki::{CertificatePem, San, describe};

use super::*;
use crate::fixtures::tenant;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn build(secrets: &BTreeMap<String, Secret>, life: Life, now: Timestamp) -> Result<Material, MaterialError> {
    build_material(&tenant(), secrets, life, [7; 32], now)
}

fn written(material: &Material) -> BTreeMap<String, Secret> {
    let all = material.create.iter().chain(&material.renew);
    all.map(|secret| (secret.name_any(), secret.clone())).collect()
}

fn names(secrets: &[Secret]) -> Vec<String> {
    secrets.iter().map(ResourceExt::name_any).collect()
}

#[test]
fn a_new_control_plane_gets_everything_once() {
    let first = build(&BTreeMap::new(), Life::New, now()).unwrap();
    let secrets = written(&first);
    assert!(is_complete(&secrets));
    assert_eq!(secrets.len(), ALL.len());
    let second = build(&secrets, Life::Lived, now()).unwrap();
    assert!(second.create.is_empty() && second.renew.is_empty());
    assert_eq!(second.certificate_authority, first.certificate_authority);
}

#[test]
fn leaves_renew_at_two_thirds_and_authorities_do_not() {
    let secrets = written(&build(&BTreeMap::new(), Life::New, now()).unwrap());
    let day = SignedDuration::from_hours(24);
    let before = build(&secrets, Life::Lived, now() + day * 59).unwrap();
    assert!(before.renew.is_empty());
    let due = build(&secrets, Life::Lived, now() + day * 61).unwrap();
    assert!(due.create.is_empty());
    assert_eq!(due.renew.len(), 9);
    assert!(due.first_expiry.unwrap() > now() + day * 150);
}

#[test]
fn a_lost_authority_is_never_replaced_once_it_was_used() {
    let secrets = written(&build(&BTreeMap::new(), Life::New, now()).unwrap());
    for name in [
        CLUSTER_CA,
        FRONT_PROXY_CA,
        KUBELET_CLIENT_CA,
        KONNECTIVITY_CA,
        SERVICE_ACCOUNT,
        AT_REST,
    ] {
        let mut fewer = secrets.clone();
        fewer.remove(name);
        let error = build(&fewer, Life::Lived, now()).unwrap_err();
        assert!(
            matches!(error, MaterialError::Lost { name: lost } if lost == name),
            "{error}"
        );
        let again = build(&fewer, Life::New, now()).unwrap();
        assert_eq!(names(&again.create), [name]);
        let mut emptied = secrets.clone();
        emptied.get_mut(name).unwrap().data = None;
        for life in [Life::New, Life::Lived] {
            let error = build(&emptied, life, now()).unwrap_err();
            assert!(
                matches!(error, MaterialError::Unusable { name: found, .. } if found == name),
                "{error}"
            );
        }
    }
}

#[test]
fn a_spoilt_leaf_is_made_anew_and_nothing_else() {
    let mut secrets = written(&build(&BTreeMap::new(), Life::New, now()).unwrap());
    secrets.get_mut(SCHEDULER_KUBECONFIG).unwrap().data = None;
    secrets.remove(API_SERVER);
    let material = build(&secrets, Life::Lived, now()).unwrap();
    assert_eq!(names(&material.renew), [API_SERVER, SCHEDULER_KUBECONFIG]);
}

#[test]
fn the_apiserver_answers_to_every_name_of_its_tenant() {
    let secrets = written(&build(&BTreeMap::new(), Life::New, now()).unwrap());
    let certificate = text(&secrets[API_SERVER], CERTIFICATE).unwrap();
    let description = describe(&CertificatePem::parse(certificate).unwrap()).unwrap();
    for name in [
        "kube-apiserver.cp-cabcdefghi.svc",
        "api.cabcdefghi.local.skep.internal",
        "node.cabcdefghi.local.skep.internal",
        "198.19.128.1",
        "127.0.0.1",
        "kubernetes.default.svc",
    ] {
        assert!(description.sans.contains(&San::parse(name)), "{name}");
    }
}

#[test]
fn debug_and_errors_hold_no_key() {
    let secrets = written(&build(&BTreeMap::new(), Life::New, now()).unwrap());
    let mut spoilt = secrets.clone();
    let key = secrets[FRONT_PROXY_CA].data.clone().unwrap()[PRIVATE_KEY].clone();
    spoilt
        .get_mut(CLUSTER_CA)
        .unwrap()
        .data
        .as_mut()
        .unwrap()
        .insert(PRIVATE_KEY.to_owned(), key);
    let error = build(&spoilt, Life::Lived, now()).unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("PRIVATE KEY-----"),
        "{error}"
    );
}
