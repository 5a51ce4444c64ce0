//! Datastores on the real cell: upgraded with a member already dead, full, and their members lost, while clients go on.
//!
//! Long: each forms a cluster of three real members and makes every one of them anew; they run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use nix::sys::signal::Signal;
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::{EtcdClusterStatus, MemberAction};
use skep_e2e::containers::{find, running, signal_container};
use skep_e2e::platform::eventually;
use skep_e2e::runbook::follow;
use skep_e2e::soak::etcd::history::Checked;
use skep_e2e::soak::etcd::inside::build_porcupine;
use skep_e2e::{Output, Platform};
use tokio::process::{Child, Command};

const NAME: &str = "etcd";
const CLIENT: &str = "probe";
const OLD: &str = "3.6.14";
const NEW: &str = "3.7.3";

/// A datastore in a namespace of its own, which goes with it.
struct Datastore {
    platform: Platform,
    client: Client,
    namespace: String,
}

impl Datastore {
    async fn create(namespace: &str, version: &str) -> Result<Self> {
        let platform = Platform::connect()?;
        let own = Self {
            client: platform.hub().await?,
            platform,
            namespace: namespace.to_owned(),
        };
        own.remove().await?;
        let params = PatchParams::apply("e2e").force();
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces: Api<Namespace> = Api::all(own.client.clone());
        namespaces
            .patch(namespace, &params, &Patch::Apply(object))
            .await?;
        own.ask_for(version).await?;
        own.is_whole(version).await?;
        Ok(own)
    }

    /// Asks for three members, and does not wait.
    async fn ask_for(&self, version: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": NAME, "namespace": self.namespace},
            "spec": {"version": version, "image": format!("localhost/etcd:{version}"), "members": 3,
                "volumeSize": "512Mi", "storageClass": "local", "quotaBytes": 67_108_864, "clients": [CLIENT],
                "volumePolicy": "Delete",
                "resources": {"cpu": "25m", "memory": "64Mi", "memoryLimit": "512Mi"}},
        });
        let params = PatchParams::apply("e2e").force();
        self.clusters()
            .patch(NAME, &params, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    fn clusters(&self) -> Api<EtcdCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn status(&self) -> Result<EtcdClusterStatus> {
        Ok(self.clusters().get(NAME).await?.status.unwrap_or_default())
    }

    /// Waits until three members of a version serve and nothing is under way.
    async fn is_whole(&self, version: &str) -> Result<EtcdClusterStatus> {
        eventually("the datastore is whole", || async {
            let object = self.clusters().get(NAME).await?;
            let status = object.status.clone().unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "Ready");
            ensure!(
                ready
                    .is_some_and(|ready| ready.status == "True"
                        && ready.observed_generation == object.metadata.generation),
                "{ready:?}"
            );
            ensure!(
                status.ready_members == 3 && status.version.as_deref() == Some(version),
                "{status:?}"
            );
            Ok(status)
        })
        .await
    }

    async fn change(&self, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.clusters()
            .patch(NAME, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Runs the commands of a runbook's steps, from one to another.
    async fn follow(&self, runbook: &str, steps: std::ops::RangeInclusive<usize>) -> Result<String> {
        // The namespace first: the other word is a part of it.
        let names = [("NAMESPACE", self.namespace.as_str()), ("NAME", NAME)];
        follow(&self.platform, runbook, steps, &names).await
    }

    /// The members' pods by name, each with its unique id and whether it is ready.
    async fn members(&self) -> Result<BTreeMap<String, (String, bool)>> {
        let members = ListParams::default().labels("app.kubernetes.io/name=etcd");
        let pods = self.pods().list(&members).await?;
        let ready = |pod: &Pod| {
            let conditions = pod
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten());
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            ready.any(|condition| condition.status == "True") && pod.metadata.deletion_timestamp.is_none()
        };
        let member = |pod: &Pod| (pod.name_any(), (pod.uid().unwrap_or_default(), ready(pod)));
        Ok(pods.iter().map(member).collect())
    }

    async fn signal(&self, pod: &str, signal: Signal) -> Result<()> {
        let pods = self
            .platform
            .kubectl(&["-n", &self.namespace, "get", "pods", "-o", "json"])
            .await?;
        let all = running(&pods.json()?);
        signal_container(find(&all, pod, "etcd")?, signal)
    }

    /// Starts clients that write and read until they are stopped, on a node of the cell.
    fn clients(&self, task: &str) -> Result<Child> {
        let netns = format!("/run/netns/{}-a-1", std::env::var("SKEP_INSTANCE")?);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={netns}"))
            .arg(env!("CARGO_BIN_EXE_etcd-clients"))
            .args([&self.namespace, NAME, CLIENT])
            .arg(judge()?)
            .arg(task)
            .env("KUBECONFIG", self.platform.home.join("hub.kubeconfig"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().context("cannot start clients")
    }

    /// Has clients do something that has an end.
    async fn have_done(&self, task: &str) -> Result<()> {
        let done = self.clients(task)?.wait_with_output().await?;
        ensure!(
            done.status.success(),
            "{task}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    /// The volume claims that bear the mark of a datastore of this unique id.
    async fn claims_of(&self, uid: &str) -> Result<BTreeSet<String>> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        let marked = ListParams::default().labels(&format!("skep.dev/etcd-uid={uid}"));
        Ok(claims
            .list(&marked)
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect())
    }

    async fn delete(&self) -> Result<()> {
        match self.clusters().delete(NAME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => drop(result?),
        }
        eventually("the datastore goes", || async {
            ensure!(
                self.clusters().get_opt(NAME).await?.is_none(),
                "it is still there"
            );
            Ok(())
        })
        .await
    }

    async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        self.delete().await?;
        match namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => drop(result?),
        }
        eventually("its namespace goes", || async {
            ensure!(
                namespaces.get_opt(&self.namespace).await?.is_none(),
                "it is still there"
            );
            Ok(())
        })
        .await
    }
}

/// The judge of histories, built once for this process.
fn judge() -> Result<PathBuf> {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    if PLACE.get().is_none() {
        let place = tempfile::tempdir()?;
        build_porcupine(&place.path().join("porcupine"))?;
        // Another may have been first.
        let _ = PLACE.set(place);
    }
    Ok(PLACE
        .get()
        .context("no place for the judge")?
        .path()
        .join("porcupine"))
}

/// Ends clients and returns what they say: that nothing was lost, and how much they did.
async fn stop(mut clients: Child) -> Result<Checked> {
    drop(clients.stdin.take());
    let output = clients.wait_with_output().await?;
    let said = Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let checked: Checked = serde_json::from_value(said.json()?)?;
    println!("clients: {checked:?}");
    ensure!(
        checked.writes > 50,
        "hardly a write was acknowledged: {checked:?}"
    );
    Ok(checked)
}

/// Looks at the members until they are whole and of the new version; at no time are two of three down.
async fn watch_upgrade(store: &Datastore, dead: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(5);
    loop {
        let members = store.members().await?;
        let ready: BTreeSet<String> = members
            .iter()
            .filter(|(_, (_, is_ready))| *is_ready)
            .map(|(name, _)| name.clone())
            .collect();
        ensure!(
            ready.len() >= 2,
            "only {ready:?} of {members:?} serve; {dead} was dead before"
        );
        let status = store.status().await?;
        let is_new = status.members.len() == 3
            && status
                .members
                .iter()
                .all(|member| member.version.as_deref() == Some(NEW) && member.healthy);
        if is_new && ready.len() == 3 {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "never upgraded: {ready:?} {status:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn upgrade_with_a_dead_member(position: usize) -> Result<()> {
    let store = Datastore::create(&format!("upgrade-{position}"), OLD).await?;
    let leader = store.status().await?.leader.context("a leader")?;
    let followers = store.members().await?.into_keys().filter(|pod| *pod != leader);
    let dead = std::iter::once(leader.clone())
        .chain(followers)
        .nth(position)
        .context("three members")?;
    let clients = store.clients("write")?;
    store.signal(&dead, Signal::SIGSTOP).await?;
    eventually("the dead member is seen", || async {
        let members = store.status().await?.members;
        let is_seen = members.iter().any(|member| member.pod == dead && !member.healthy);
        ensure!(is_seen, "{members:?}");
        Ok(())
    })
    .await?;
    let before = store.members().await?;
    store
        .change(json!({"version": NEW, "image": format!("localhost/etcd:{NEW}")}))
        .await?;
    // Long enough to make all members anew, were that allowed.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let uids = |members: BTreeMap<String, (String, bool)>| -> Vec<String> {
        members.into_values().map(|(uid, _)| uid).collect()
    };
    ensure!(
        uids(before) == uids(store.members().await?),
        "a member was made anew while {dead} was dead"
    );
    let status = store.status().await?;
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    ensure!(
        ready.is_some_and(|ready| ready.message.contains(&dead)),
        "the status does not say why: {ready:?}"
    );
    store.signal(&dead, Signal::SIGCONT).await?;
    watch_upgrade(&store, &dead).await?;
    store.follow("upgrade", 3..=3).await?;
    store.is_whole(NEW).await?;
    stop(clients).await?;
    store.remove().await
}

/// Watches all datastores; fails when members of two of them are made anew on the same node at once. Ends by being dropped.
async fn watch_turns(seen: &Mutex<BTreeSet<String>>) -> Result<()> {
    let client = Platform::connect()?.hub().await?;
    let api: Api<EtcdCluster> = Api::all(client);
    let mut turns: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
    while let Some(object) = events.try_next().await? {
        let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        turns.remove(&name);
        let status = object.status.unwrap_or_default();
        let intent = status
            .intent
            .filter(|intent| intent.action == MemberAction::Restart);
        let member =
            intent.and_then(|intent| status.members.into_iter().find(|member| member.pod == intent.pod));
        let Some((pod, node)) = member.and_then(|member| Some((member.pod, member.node?))) else {
            continue;
        };
        if let Some((other, (beside, _))) = turns.iter().find(|(_, (_, taken))| *taken == node) {
            bail!("{pod} of {name} and {beside} of {other} are made anew on {node} at once");
        }
        seen.lock().unwrap().insert(pod.clone());
        turns.insert(name, (pod, node));
    }
    bail!("the watch ended")
}

#[tokio::test]
async fn an_upgrade_with_a_member_already_dead_never_loses_quorum() {
    let seen = Mutex::default();
    let upgrades = futures::future::join_all((0..3).map(upgrade_with_a_dead_member));
    let outcomes = tokio::select! {
        outcomes = upgrades => outcomes,
        ended = watch_turns(&seen) => panic!("{:#}", ended.unwrap_err()),
    };
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.len() >= 9,
        "hardly a member was seen when it was made anew: {seen:?}"
    );
    for (position, outcome) in outcomes.into_iter().enumerate() {
        outcome.unwrap_or_else(|error| panic!("with member {position} dead: {error:#}"));
    }
}

#[tokio::test]
async fn a_full_datastore_has_room_again_and_a_lost_member_is_replaced() {
    let store = Datastore::create("room", NEW).await.unwrap();
    store.have_done("fill").await.unwrap();
    store.is_whole(NEW).await.unwrap();
    let events = store
        .platform
        .kubectl(&[
            "-n",
            &store.namespace,
            "get",
            "events.events.k8s.io",
            "-o",
            "jsonpath={.items[*].reason}",
        ])
        .await
        .unwrap()
        .success()
        .unwrap();
    for reason in ["Compacted", "Defragmented", "SpaceFreed"] {
        assert!(events.contains(reason), "no event {reason}: {events}");
    }

    // The data alone are more than the quota; a person is told, and raises it.
    let filling = store.clients("fill-with-data").unwrap();
    eventually("a person is told what to do", || async {
        let said = store.follow("space", 1..=1).await?;
        ensure!(said.contains("spec.quotaBytes"), "{said}");
        Ok(())
    })
    .await
    .unwrap();
    drop(filling);
    store.follow("space", 2..=3).await.unwrap();
    store.is_whole(NEW).await.unwrap();

    let clients = store.clients("write").unwrap();
    let lost = store.status().await.unwrap().leader.unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(store.client.clone(), &store.namespace);
    let claim = claims.list(&ListParams::default()).await.unwrap();
    let claim = claim
        .iter()
        .find(|claim| claim.name_any().contains(&lost))
        .unwrap();
    claims
        .delete(&claim.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    store
        .pods()
        .delete(&lost, &DeleteParams::default())
        .await
        .unwrap();
    eventually("the lost member is replaced", || async {
        let status = store.status().await?;
        ensure!(
            !status.members.iter().any(|member| member.pod == lost),
            "{status:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    store.is_whole(NEW).await.unwrap();
    stop(clients).await.unwrap();
    store.remove().await.unwrap();
}

/// The longest that no write was acknowledged while the leader was dealt with, clients writing all the time.
async fn pause_while(store: &Datastore, what: impl AsyncFnOnce(&str) -> Result<()>) -> Result<Duration> {
    let leader = store.status().await?.leader.context("a leader")?;
    let clients = store.clients("write")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    what(&leader).await?;
    store.is_whole(NEW).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(stop(clients).await?.longest_silence)
}

#[tokio::test]
async fn writers_hardly_notice_a_leader_that_ends_or_stands_still() {
    let store = Datastore::create("leader", NEW).await.unwrap();
    let ended = pause_while(&store, async |leader| {
        store.signal(leader, Signal::SIGTERM).await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(())
    });
    let ended = ended.await.unwrap();
    let stopped = pause_while(&store, async |leader| {
        store.signal(leader, Signal::SIGSTOP).await?;
        tokio::time::sleep(Duration::from_secs(15)).await;
        store.signal(leader, Signal::SIGCONT).await
    });
    let stopped = stopped.await.unwrap();
    println!(
        "no write was acknowledged for {ended:?} when the leader ended, for {stopped:?} when it stood still"
    );
    assert!(
        ended <= Duration::from_secs(1),
        "a leader that ends costs {ended:?}"
    );
    assert!(
        stopped <= Duration::from_secs(10),
        "a leader that stands still costs {stopped:?}"
    );
    store.remove().await.unwrap();
}

#[tokio::test]
async fn a_lost_quorum_is_formed_anew_by_the_member_that_is_left() {
    let store = Datastore::create("quorum", NEW).await.unwrap();
    store.have_done("remember").await.unwrap();
    let members = store.status().await.unwrap().members;
    let name = format!("{}/{NAME}", store.namespace);
    let recover = ["etcd", "recover", name.as_str(), "--yes", "--timeout", "5m"];
    let refused = store.platform.skep(&recover).await.unwrap();
    assert_eq!(refused.status, 5, "a quorum was given up: {}", refused.stderr);

    let claims: Api<PersistentVolumeClaim> = Api::namespaced(store.client.clone(), &store.namespace);
    let (kept, lost) = members.split_first().unwrap();
    for member in lost {
        let claim = format!("data-{}", member.pod);
        claims.delete(&claim, &DeleteParams::default()).await.unwrap();
    }
    let pods = store.pods();
    let at_once = DeleteParams::default().grace_period(0);
    let ends = lost.iter().map(|member| pods.delete(&member.pod, &at_once));
    futures::future::try_join_all(ends).await.unwrap();
    eventually("it is said what is left", || async {
        let said = store.follow("quorum loss", 1..=1).await?;
        ensure!(said.contains("volume") && said.contains("gone"), "{said}");
        let members = store.status().await?.members;
        ensure!(
            members
                .iter()
                .any(|member| member.pod == kept.pod && member.revision.is_some()),
            "{members:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    let recovered = store.platform.skep(&recover).await.unwrap();
    recovered.success().unwrap();
    let status = store.is_whole(NEW).await.unwrap();
    assert!(
        status.members.iter().any(|member| member.pod == kept.pod),
        "{status:?}"
    );
    assert!(status.recovered.is_some(), "{status:?}");
    store.have_done("recall").await.unwrap();
    let clients = store.clients("write").unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop(clients).await.unwrap();
    store.remove().await.unwrap();
}

#[tokio::test]
async fn orders_that_cross_each_other_lose_nothing() {
    let store = Datastore::create("crossed", NEW).await.unwrap();
    store.have_done("remember").await.unwrap();
    store.change(json!({"members": 5})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    store.change(json!({"members": 3})).await.unwrap();
    store.is_whole(NEW).await.unwrap();
    store.have_done("recall").await.unwrap();
    let first = store.clusters().get(NAME).await.unwrap().uid().unwrap();
    eventually("no volume is left of what was begun", || async {
        let claims = store.claims_of(&first).await?;
        ensure!(claims.len() == 3, "{claims:?}");
        Ok(())
    })
    .await
    .unwrap();

    // A finalizer that is removed by hand: the volumes stay, and a namesake takes none of them.
    let kept = store.claims_of(&first).await.unwrap();
    let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let clusters = store.clusters();
    clusters
        .delete(NAME, &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    drop(clusters.patch(NAME, &PatchParams::default(), &unheld).await);
    eventually("the datastore goes", || async {
        ensure!(
            store.clusters().get_opt(NAME).await?.is_none(),
            "it is still there"
        );
        Ok(())
    })
    .await
    .unwrap();
    store.ask_for(NEW).await.unwrap();
    store.is_whole(NEW).await.unwrap();
    let second = store.clusters().get(NAME).await.unwrap().uid().unwrap();
    assert!(store.claims_of(&second).await.unwrap().is_disjoint(&kept));
    store.have_done("recall").await.unwrap_err();

    // Deleted while it is formed.
    store.delete().await.unwrap();
    for pause in [0, 1500, 4000] {
        store.ask_for(NEW).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        store.delete().await.unwrap();
    }
    store.ask_for(NEW).await.unwrap();
    store.is_whole(NEW).await.unwrap();
    store.remove().await.unwrap();
}
