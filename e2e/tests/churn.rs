//! Clusters that come and go leave nothing behind, in a row and at once.
//!
//! `CLUSTERS_IN_A_ROW` and `CLUSTERS_AT_ONCE` say how many: ten and five, which is the promise.
//! Long: each cluster is a real etcd and a real apiserver, started and stopped on the machine's cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use skep_api::{CertificateRequest, ControlPlane, DeploymentRecord, EtcdCluster, TenantCluster};
use skep_e2e::Platform;
use skep_e2e::platform::eventually;

async fn cpid(client: &Client, name: &str) -> String {
    let clusters: Api<TenantCluster> = Api::namespaced(client.clone(), "project-default");
    clusters.get(name).await.unwrap().status.unwrap().cpid.unwrap()
}

async fn absent<K>(api: Api<K>, cpid: &str) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + kube::Resource<DynamicType = ()>,
{
    let named: Vec<String> = api
        .list(&ListParams::default())
        .await?
        .iter()
        .map(|object| format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()))
        .filter(|name| name.contains(cpid))
        .collect();
    ensure!(named.is_empty(), "{} left: {named:?}", K::kind(&()));
    Ok(())
}

/// Nothing of a control plane is found in any kind that the platform makes, and its volumes are free again.
async fn nothing_is_left(client: &Client, cpid: &str) -> Result<()> {
    absent::<Namespace>(Api::all(client.clone()), cpid).await?;
    absent::<ControlPlane>(Api::all(client.clone()), cpid).await?;
    absent::<DeploymentRecord>(Api::all(client.clone()), cpid).await?;
    absent::<EtcdCluster>(Api::all(client.clone()), cpid).await?;
    let requests: Api<CertificateRequest> = Api::all(client.clone());
    let requests = requests.list(&ListParams::default()).await?;
    ensure!(
        !requests.iter().any(|request| request.spec.cpid == cpid),
        "a certificate request is left"
    );
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    for volume in volumes.list(&ListParams::default()).await? {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let namespace = claim
            .and_then(|claim| claim.namespace.clone())
            .unwrap_or_default();
        ensure!(
            !namespace.contains(cpid),
            "volume {} is still claimed",
            volume.name_any()
        );
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default();
        ensure!(
            phase != "Released" && phase != "Failed",
            "volume {} is {phase}",
            volume.name_any()
        );
    }
    let processes = std::fs::read_dir("/proc")?.flatten().filter(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(cpid))
    });
    ensure!(processes.count() == 0, "processes of {cpid} are left");
    Ok(())
}

/// No gateway knows the control plane: Envoy's own list of clusters on each node.
async fn no_route_is_left(platform: &Platform, cpid: &str) -> Result<()> {
    let gateways = [
        "-n",
        "skep-system",
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=skep-gateway",
        "-o",
        "name",
    ];
    let listed = platform.kubectl(&gateways).await?.success()?;
    ensure!(listed.lines().count() == 3, "three gateways: {listed}");
    for node in ["a", "b", "c"] {
        let instance = std::env::var("SKEP_INSTANCE")?;
        let namespace = format!("--net=/run/netns/{instance}-{node}-1");
        let mut command = tokio::process::Command::new("nsenter");
        command.args([&namespace, "curl", "-fsS", "http://127.0.0.1:19000/clusters"]);
        let clusters = skep_e2e::platform::run(&mut command, None).await?.success()?;
        ensure!(
            !clusters.contains(cpid),
            "the gateway in zone {node} still routes to {cpid}"
        );
    }
    Ok(())
}

async fn create(platform: &Platform, client: &Client, name: &str) -> String {
    let create = ["cluster", "create", name, "--wait", "--timeout", "10m"];
    platform.skep(&create).await.unwrap().success().unwrap();
    let cpid = cpid(client, name).await;
    let tenant = skep_e2e::Tenant::of(platform, name).await.unwrap();
    tenant
        .kubectl(&["get", "namespaces"])
        .await
        .unwrap()
        .success()
        .unwrap();
    cpid
}

async fn delete(platform: &Platform, client: &Client, name: &str, cpid: &str) {
    let delete = ["cluster", "delete", name, "--wait", "--timeout", "10m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    eventually("nothing of the cluster is left", || nothing_is_left(client, cpid))
        .await
        .unwrap();
    eventually("no gateway routes to it", || no_route_is_left(platform, cpid))
        .await
        .unwrap();
}

fn measure(variable: &str, usual: usize) -> usize {
    std::env::var(variable)
        .ok()
        .map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test]
async fn clusters_in_a_row_leave_nothing_behind() {
    let platform = Platform::connect().unwrap();
    let client = platform.hub().await.unwrap();
    for _ in 0..measure("CLUSTERS_IN_A_ROW", 10) {
        let cpid = create(&platform, &client, "t1").await;
        delete(&platform, &client, "t1", &cpid).await;
    }
}

#[tokio::test]
async fn clusters_at_once_leave_nothing_behind() {
    let platform = Platform::connect().unwrap();
    let client = platform.hub().await.unwrap();
    let names: Vec<String> = (1..=measure("CLUSTERS_AT_ONCE", 5))
        .map(|n| format!("at-once-{n}"))
        .collect();
    let created = futures::future::join_all(names.iter().map(|name| create(&platform, &client, name))).await;
    let pairs = names.iter().zip(&created);
    futures::future::join_all(pairs.map(|(name, cpid)| delete(&platform, &client, name, cpid))).await;
}
