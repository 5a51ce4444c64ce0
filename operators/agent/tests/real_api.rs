//! The agent against a real API server: what it promises to the hub and to people who wait.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod lab;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Request;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use lab::{CPID, HUB_NAMESPACE, Lab, record, settings};
use serde_json::{Value, json};
use skep_agent::hub::kubernetes::KubernetesHub;
use skep_agent::{run, run_with};
use skep_api::{Cell, CertificateRequest, ControlPlane, DeploymentRecord};
use skep_runtime::CancellationToken;
use skep_runtime::conditions::is_true;
use skep_testing::until;
use tokio::sync::watch;

/// The longest that one request of a user may take down and up again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the hub does to its objects.
struct Hub {
    records: Api<DeploymentRecord>,
    requests: Api<CertificateRequest>,
}

impl Hub {
    fn of(lab: &Lab) -> Self {
        Self {
            records: Api::namespaced(lab.cluster.admin.clone(), HUB_NAMESPACE),
            requests: Api::namespaced(lab.cluster.admin.clone(), HUB_NAMESPACE),
        }
    }

    async fn made_true(&self, cpid: &str, revision: &str) {
        until("the record is made true", || async {
            let record = self.records.get(cpid).await.ok()?;
            let status = record.status.as_ref()?;
            let is_there = status.observed_revision.as_deref() == Some(revision)
                && status.observed_generation == record.metadata.generation
                && is_true(&status.conditions, "Ready");
            is_there.then_some(())
        })
        .await;
    }

    /// Asks for a certificate and returns how long the answer took.
    async fn ask(&self, cpid: &str, name: &str) -> Duration {
        let request: CertificateRequest = serde_json::from_value(request(cpid, name)).unwrap();
        let start = Instant::now();
        self.requests
            .create(&PostParams::default(), &request)
            .await
            .unwrap();
        until("the request is answered", || async {
            let request = self.requests.get(name).await.ok()?;
            request
                .status
                .filter(|status| is_true(&status.conditions, "Issued"))
        })
        .await;
        start.elapsed()
    }

    /// Deletes the record and lets it go once the cell says that nothing is left.
    async fn remove(&self, cpid: &str) {
        self.records.delete(cpid, &DeleteParams::default()).await.unwrap();
        until("the record says that nothing is left", || async {
            let record = self.records.get(cpid).await.ok()?;
            is_true(&record.status.as_ref()?.conditions, "Deleted").then_some(())
        })
        .await;
        let body = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        self.records
            .patch(cpid, &PatchParams::default(), &body)
            .await
            .unwrap();
        until("the record is gone", || async {
            self.records.get_opt(cpid).await.ok()?.is_none().then_some(())
        })
        .await;
    }
}

fn request(cpid: &str, name: &str) -> Value {
    json!({
        "apiVersion": "skep.dev/v1alpha1",
        "kind": "CertificateRequest",
        "metadata": {"name": name, "namespace": HUB_NAMESPACE},
        "spec": {"cpid": cpid, "request": "r", "ttlSeconds": 600, "username": "skep:user:me", "groups": []},
    })
}

async fn is_gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    until("it is gone", || async {
        api.get_opt(name).await.ok()?.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_down_and_states_come_up() {
    let lab = Lab::start().await;
    let (hub, shutdown) = (Hub::of(&lab), CancellationToken::new());
    let agent = tokio::spawn(run(
        lab.agent_client(),
        lab.hub_access(),
        settings(),
        shutdown.clone(),
    ));
    let (cells, planes) = (
        Api::<Cell>::all(lab.cluster.admin.clone()),
        Api::<ControlPlane>::all(lab.cluster.admin.clone()),
    );
    until("the agent checks in", || async {
        cells.get("local").await.ok()?.status?.last_check_in
    })
    .await;

    lab.cluster.apply(record(CPID)).await;
    hub.made_true(CPID, "0123456789abcdef").await;
    let mut changed = record(CPID);
    changed["spec"]["revision"] = json!("fedcba9876543210");
    changed["spec"]["controlPlane"]["apiServer"]["replicas"] = json!(2);
    lab.cluster.apply(changed).await;
    hub.made_true(CPID, "fedcba9876543210").await;
    assert_eq!(planes.get(CPID).await.unwrap().spec.api_server.replicas, 2);

    let mut times = Vec::new();
    for number in 0..20 {
        times.push(hub.ask(CPID, &format!("r{number}")).await);
    }
    times.sort();
    println!(
        "20 certificate requests, down and up: median {:?}, worst {:?}",
        times[10], times[19]
    );
    assert!(times[10] < PATIENCE, "{times:?}");
    let copies: Api<CertificateRequest> = Api::namespaced(lab.cluster.admin.clone(), &format!("cp-{CPID}"));
    assert!(copies.get_opt("r0").await.unwrap().is_some());
    hub.requests.delete("r0", &DeleteParams::default()).await.unwrap();
    is_gone(&copies, "r0").await;

    let before = planes.get(CPID).await.unwrap().uid();
    hub.remove(CPID).await;
    assert!(planes.get_opt(CPID).await.unwrap().is_none());
    lab.cluster.apply(record(CPID)).await;
    hub.made_true(CPID, "0123456789abcdef").await;
    assert_ne!(
        planes.get(CPID).await.unwrap().uid(),
        before,
        "a record that came again got the old one"
    );
    shutdown.cancel();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_in_says_what_each_zone_has_and_what_is_taken() {
    let lab = Lab::start().await;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}},
    });
    lab.cluster.apply(node).await;
    let volume = |name: &str, claim: Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "2000Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "local": {"path": "/tmp"}, "claimRef": claim,
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}},
            },
        })
    };
    lab.cluster.apply(volume("v1", Value::Null)).await;
    let claim = json!({"namespace": format!("cp-{CPID}"), "name": "data"});
    lab.cluster.apply(volume("v2", claim)).await;
    let status = json!({"status": {
        "allocatable": {"cpu": "3920m", "memory": "8000Mi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "",
            "lastHeartbeatTime": "2026-11-01T10:00:00Z", "lastTransitionTime": "2026-11-01T10:00:00Z"}],
    }});
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(lab.cluster.admin.clone());
    // Admission gives a new node the taint that the node lifecycle controller takes away.
    let untainted = Patch::Merge(json!({"spec": {"taints": null}}));
    nodes
        .patch("n1", &PatchParams::default(), &untainted)
        .await
        .unwrap();
    nodes
        .patch_status("n1", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(run(
        lab.agent_client(),
        lab.hub_access(),
        settings(),
        shutdown.clone(),
    ));
    let cells = Api::<Cell>::all(lab.cluster.admin.clone());
    let told = until("the agent checks in", || async {
        let status = cells.get("local").await.ok()?.status?;
        status.last_check_in.as_ref()?;
        Some(status.capacity)
    })
    .await;
    assert_eq!(told.len(), 1, "{told:?}");
    let zone = &told[0];
    assert_eq!((zone.name.as_str(), zone.ready_nodes, zone.lost), ("a", 1, false));
    for (name, allocatable, committed) in [
        ("cpu", "3920m", "0m"),
        ("memory", "8000Mi", "0Mi"),
        ("pods", "110", "0"),
        ("volumes", "2", "1"),
        ("datastore", "4000Mi", "2000Mi"),
    ] {
        assert_eq!(zone.allocatable[name], allocatable, "{name}");
        assert_eq!(zone.committed[name], committed, "{name}");
    }
    shutdown.cancel();
    agent.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_record_made_is_left_alone() {
    let lab = Lab::start().await;
    let (hub, shutdown) = (Hub::of(&lab), CancellationToken::new());
    let planes = Api::<ControlPlane>::all(lab.cluster.admin.clone());
    let mut orphan = json!({"apiVersion": "skep.dev/v1alpha1", "kind": "ControlPlane"});
    orphan["metadata"] = json!({"name": "corphanaaa", "labels": {"skep.dev/cell": "local"}});
    orphan["spec"] = record(CPID)["spec"]["controlPlane"].clone();
    lab.cluster.apply(orphan.clone()).await;
    orphan["metadata"]["name"] = json!(CPID);
    orphan["spec"]["tenant"]["uid"] = json!("another");
    lab.cluster.apply(orphan).await;
    let agent = tokio::spawn(run(
        lab.agent_client(),
        lab.hub_access(),
        settings(),
        shutdown.clone(),
    ));

    lab.cluster.apply(record(CPID)).await;
    until("the record is refused", || async {
        let conditions = hub.records.get(CPID).await.ok()?.status?.conditions;
        (conditions.first()?.reason == "InvalidSpec").then_some(())
    })
    .await;
    hub.remove(CPID).await;
    for name in ["corphanaaa", CPID] {
        let plane = planes.get(name).await.unwrap();
        assert!(plane.metadata.deletion_timestamp.is_none(), "{name} was deleted");
    }
    assert_eq!(planes.get(CPID).await.unwrap().spec.tenant.uid, "another");
    shutdown.cancel();
    agent.await.unwrap().unwrap();
}

/// A client each of whose requests is a second late.
fn late(client: &Client) -> Client {
    let client = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            client.send(request).await
        }
    });
    Client::new(service, "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_request_went_while_no_agent_ran_is_removed() {
    let lab = Lab::start().await;
    let home = format!("cp-{CPID}");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}});
    lab.cluster.apply(namespace).await;
    for (name, origin) in [
        ("left", json!({"skep.dev/origin-uid": "gone"})),
        ("other", json!({})),
    ] {
        let mut copy = request(CPID, name);
        copy["metadata"] = json!({
            "name": name,
            "namespace": home,
            "labels": {"skep.dev/cell": "local"},
            "annotations": origin,
        });
        lab.cluster.apply(copy).await;
    }
    // The cell is read long before the hub has told anything.
    let (_, current) = watch::channel(late(&lab.cluster.admin));
    let hub = Arc::new(KubernetesHub::new(current, settings().cell));
    let agent = tokio::spawn(run_with(lab.agent_client(), hub, settings()));
    let copies: Api<CertificateRequest> = Api::namespaced(lab.cluster.admin.clone(), &home);
    is_gone(&copies, "left").await;
    assert!(copies.get_opt("other").await.unwrap().is_some());
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_down_is_taken_up_again() {
    let (mut hub_lab, cell) = tokio::join!(Lab::start(), Lab::start());
    let (hub, shutdown) = (Hub::of(&hub_lab), CancellationToken::new());
    let agent = tokio::spawn(run(
        cell.agent_client(),
        hub_lab.hub_access(),
        settings(),
        shutdown.clone(),
    ));
    hub_lab.cluster.apply(record(CPID)).await;
    hub.made_true(CPID, "0123456789abcdef").await;

    hub_lab.cluster.kill_api_server();
    let planes = Api::<ControlPlane>::all(cell.cluster.admin.clone());
    let said = json!({"status": {"version": "1.36.4"}});
    planes
        .patch_status(CPID, &PatchParams::default(), &Patch::Merge(said))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    hub_lab.cluster.start_api_server().await;
    let start = Instant::now();
    until("what happened meanwhile is told", || async {
        let version = hub.records.get(CPID).await.ok()?.status?.version?;
        (version == "1.36.4").then_some(())
    })
    .await;
    println!("told {:?} after the hub came back", start.elapsed());
    println!("a request then took {:?}", hub.ask(CPID, "later").await);
    hub.remove(CPID).await;
    is_gone(&planes, CPID).await;
    shutdown.cancel();
    agent.await.unwrap().unwrap();
}

/// When an agent dies: at one of its requests, before it is sent or before its answer is read.
struct Fuse {
    left: AtomicUsize,
    is_sent: bool,
    burnt: CancellationToken,
}

impl Fuse {
    fn new(requests: usize, is_sent: bool) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(requests),
            is_sent,
            burnt: CancellationToken::new(),
        })
    }

    /// A client with which the agent dies.
    fn wire(self: &Arc<Self>, client: &Client) -> Client {
        let (fuse, client) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (fuse, client) = (fuse.clone(), client.clone());
            async move {
                let left = fuse
                    .left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                let is_last = left == Ok(1);
                if is_last && !fuse.is_sent {
                    fuse.burnt.cancel();
                    std::future::pending::<()>().await;
                }
                let response = client.send(request).await;
                if is_last {
                    fuse.burnt.cancel();
                    std::future::pending::<()>().await;
                }
                response
            }
        });
        Client::new(service, "default")
    }
}

/// Runs agents one after the other: the first dies by its fuse, the second lives.
async fn mortal(cell: Client, hub: Client, requests: usize, is_sent: bool) {
    for fuse in [Fuse::new(requests, is_sent), Fuse::new(usize::MAX, false)] {
        let (_, current) = watch::channel(fuse.wire(&hub));
        let hub = Arc::new(KubernetesHub::new(current, settings().cell));
        tokio::select! {
            ended = run_with(fuse.wire(&cell), hub, settings()) => panic!("{ended:?}"),
            () = fuse.burnt.cancelled() => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_any_two_steps_it_converges() {
    let lab = Lab::start().await;
    let hub = Hub::of(&lab);
    let planes = Api::<ControlPlane>::all(lab.cluster.admin.clone());
    for (round, is_sent) in (0..60).map(|round| (round, round % 2 == 0)) {
        let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap());
        let cpid = format!("ckilled{}{}a", letter(round / 26), letter(round));
        let life = mortal(
            lab.agent_client(),
            lab.cluster.admin.clone(),
            round / 2 + 1,
            is_sent,
        );
        let scenario = async {
            lab.cluster.apply(record(&cpid)).await;
            hub.made_true(&cpid, "0123456789abcdef").await;
            hub.ask(&cpid, &format!("r-{cpid}")).await;
            hub.requests
                .delete(&format!("r-{cpid}"), &DeleteParams::default())
                .await
                .unwrap();
            let copies: Api<CertificateRequest> =
                Api::namespaced(lab.cluster.admin.clone(), &format!("cp-{cpid}"));
            is_gone(&copies, &format!("r-{cpid}")).await;
            hub.remove(&cpid).await;
            assert!(planes.get_opt(&cpid).await.unwrap().is_none(), "round {round}");
        };
        tokio::select! {
            () = scenario => {}
            () = life => unreachable!("the second agent lives"),
        }
    }
}
