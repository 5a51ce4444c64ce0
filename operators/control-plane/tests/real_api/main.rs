//! The controller against a real kube-apiserver: many creations at once, each with another of its writes lost,
//! no write in the steady state, and nothing left after a deletion, whenever it comes.
//!
//! Garbage and namespaces are collected as in any cluster; the test plays etcd operator and kubelet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod faults;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use faults::{Faults, Loss};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::{ControlPlane, EtcdCluster};
use skep_control_plane::material::{Life, build_material, is_complete};
use skep_control_plane::validate::validate;
use skep_control_plane::{Settings, run};
use skep_core::Cpid;
use skep_runtime::{CancellationToken, conditions};
use skep_testing::{Cluster, Options};

/// More than the writes that one creation takes.
const WRITES: usize = 36;
/// Long enough for a machine that builds something else at the same time.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn creations_survive_every_lost_write_and_then_rest() {
    let controllers = vec!["garbage-collector-controller", "namespace-controller"];
    let cell = Cluster::start(&Options {
        controllers,
        ..Options::default()
    })
    .await;
    cell.install_definitions().await;
    let admin = cell.admin.clone();
    let faults = Faults::default();
    let client = ClientBuilder::try_from(cell.admin_config())
        .unwrap()
        .with_layer(&faults)
        .build();
    let shutdown = CancellationToken::new();
    let controller = tokio::spawn(run(client, Settings::default(), shutdown.clone()));

    let cpids: Vec<Cpid> = (0..WRITES)
        .map(|number| Cpid::derive(&number.to_string()))
        .collect();
    for (write, cpid) in cpids.iter().enumerate() {
        let loss = if write % 2 == 0 {
            Loss::Request
        } else {
            Loss::Answer
        };
        faults.lose(cpid.as_str(), write, loss);
    }
    futures::future::join_all(cpids.iter().map(|cpid| create(&admin, cpid))).await;
    let started = Instant::now();
    loop {
        let missing = step(&admin, &cpids).await;
        if missing.is_empty() {
            break;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "not all control planes came up: {missing:#?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!("{WRITES} control planes came up in {:?}", started.elapsed());
    for cpid in &cpids {
        check_keys(&admin, cpid).await;
    }
    check_rest(&admin, &faults, &cpids).await;
    check_deletion(&admin, &faults, &cpids).await;
    shutdown.cancel();
    controller.await.unwrap();
}

async fn create(admin: &Client, cpid: &Cpid) {
    let mut object: ControlPlane = serde_saphyr::from_str(include_str!("../control-plane.yaml")).unwrap();
    object.metadata = kube::core::ObjectMeta {
        name: Some(cpid.to_string()),
        ..kube::core::ObjectMeta::default()
    };
    Api::all(admin.clone())
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

/// Plays etcd operator, controller manager and kubelet once; tells what is not complete.
async fn step(admin: &Client, cpids: &[Cpid]) -> Vec<String> {
    let missing = futures::future::join_all(cpids.iter().map(|cpid| step_one(admin, cpid))).await;
    missing.into_iter().flatten().collect()
}

async fn step_one(admin: &Client, cpid: &Cpid) -> Option<String> {
    let planes: Api<ControlPlane> = Api::all(admin.clone());
    let status = planes
        .get(cpid.as_str())
        .await
        .unwrap()
        .status
        .unwrap_or_default();
    let holds = |type_| conditions::is_true(&status.conditions, type_);
    let is_moving = conditions::find(&status.conditions, "Progressing").is_none_or(|c| c.status == "True");
    if holds("CertificatesReady") && holds("ControllersReady") && holds("ApiServerReady") && !is_moving {
        return None;
    }
    serve_etcd(admin, cpid).await;
    run_deployments(admin, cpid).await;
    let messages = status
        .conditions
        .iter()
        .filter(|c| c.status != "True")
        .map(|c| c.message.as_str());
    Some(format!("{cpid}: {}", messages.collect::<Vec<_>>().join("; ")))
}

async fn serve_etcd(admin: &Client, cpid: &Cpid) {
    let etcds: Api<EtcdCluster> = Api::namespaced(admin.clone(), &cpid.namespace());
    let Some(etcd) = etcds.get_opt("etcd").await.unwrap() else {
        return;
    };
    if etcd.status.is_some() {
        return;
    }
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "etcd-client-apiserver"}})).unwrap();
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), &cpid.namespace());
    let _ = secrets.create(&PostParams::default(), &secret).await;
    let condition = json!({"type": "Serving", "status": "True", "reason": "AsDesired", "message": "",
        "lastTransitionTime": "2026-11-21T12:00:00Z"});
    let status = json!({"status": {"readyMembers": 3, "conditions": [condition]}});
    etcds
        .patch_status("etcd", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

async fn run_deployments(admin: &Client, cpid: &Cpid) {
    let deployments: Api<Deployment> = Api::namespaced(admin.clone(), &cpid.namespace());
    for deployment in deployments.list(&ListParams::default()).await.unwrap() {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let known = deployment
            .status
            .as_ref()
            .and_then(|status| status.available_replicas);
        if known == replicas {
            continue;
        }
        let status = json!({"status": {"observedGeneration": deployment.metadata.generation,
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
            "availableReplicas": replicas}});
        let name = deployment.name_any();
        deployments
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }
}

/// Every key fits every other: whatever was lost on the way, nothing was made twice.
async fn check_keys(admin: &Client, cpid: &Cpid) {
    let object: ControlPlane = Api::all(admin.clone()).get(cpid.as_str()).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), &cpid.namespace());
    let secrets: BTreeMap<String, Secret> = secrets
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .map(|secret| (secret.name_any(), secret))
        .collect();
    assert!(is_complete(&secrets));
    let tenant = validate(&object).unwrap();
    let material = build_material(&tenant, &secrets, Life::Lived, [0; 32], Timestamp::now()).unwrap();
    assert!(material.create.is_empty() && material.renew.is_empty());
    let status = object.status.unwrap();
    assert_eq!(
        status.certificate_authority,
        Some(material.certificate_authority.to_string())
    );
    assert_eq!(status.version.as_deref(), Some("1.36.3"));
}

/// Reconciles that are caused from outside write nothing.
async fn check_rest(admin: &Client, faults: &Faults, cpids: &[Cpid]) {
    let count = || -> Vec<usize> { cpids.iter().map(|cpid| faults.writes(cpid.as_str())).collect() };
    let mut before = count();
    // A lost write is tried again later, when everything else may be done.
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = count();
        if now == before {
            break;
        }
        before = now;
    }
    eprintln!(
        "writes of a creation: {} to {}",
        before.iter().min().unwrap(),
        before.iter().max().unwrap()
    );
    let planes: Api<ControlPlane> = Api::all(admin.clone());
    for cpid in cpids {
        let poke = json!({"metadata": {"annotations": {"example.org/poke": "1"}}});
        planes
            .patch(cpid.as_str(), &PatchParams::default(), &Patch::Merge(poke))
            .await
            .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let further: Vec<String> = cpids
        .iter()
        .zip(before)
        .flat_map(|(cpid, writes)| faults.since(cpid.as_str(), writes))
        .collect();
    assert!(further.is_empty(), "{further:#?}");
}

/// Complete control planes, some with a write of the deletion lost, and others that are deleted half way.
async fn check_deletion(admin: &Client, faults: &Faults, cpids: &[Cpid]) {
    let planes: Api<ControlPlane> = Api::all(admin.clone());
    for (number, cpid) in cpids.iter().enumerate() {
        faults.lose(
            cpid.as_str(),
            faults.writes(cpid.as_str()) + number % 5,
            Loss::Answer,
        );
    }
    let young: Vec<Cpid> = (100..110)
        .map(|number| Cpid::derive(&number.to_string()))
        .collect();
    for (number, cpid) in young.iter().enumerate() {
        create(admin, cpid).await;
        while faults.writes(cpid.as_str()) < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        planes
            .delete(cpid.as_str(), &DeleteParams::default())
            .await
            .unwrap();
    }
    for cpid in cpids {
        planes
            .delete(cpid.as_str(), &DeleteParams::default())
            .await
            .unwrap();
    }
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let started = Instant::now();
    loop {
        let left = planes.list(&ListParams::default()).await.unwrap().items.len();
        let spaces = namespaces.list(&ListParams::default()).await.unwrap();
        let spaces: Vec<_> = spaces
            .iter()
            .filter(|left| left.name_any().starts_with("cp-"))
            .collect();
        if left == 0 && spaces.is_empty() {
            break;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{left} control planes are left, and {spaces:#?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
