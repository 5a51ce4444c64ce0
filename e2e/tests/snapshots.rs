//! A tenant's datastore is set back to a snapshot under an apiserver that goes on; snapshots that are not whole are refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_backup::{EtcdBackup, EtcdBackupSpec, EtcdBackupStatus};
use skep_api::etcd_cluster::{BACKED_UP, RESTORE_PROVEN};
use skep_api::etcd_drill::{EtcdDrill, EtcdDrillStatus};
use skep_api::etcd_restore::{EtcdRestore, EtcdRestoreSpec, EtcdRestoreStatus, VERIFIED};
use skep_e2e::object_store::ObjectStore;
use skep_e2e::platform::eventually;
use skep_e2e::runbook::follow;
use skep_e2e::{Platform, Tenant};
use skep_runtime::client::{ClientUse, from_kubeconfig};

const NAME: &str = "rewound";
const DATASTORE: &str = "etcd";
const PORT: u16 = 17_070;
const OBJECTS: usize = 40;

/// The datastore of one tenant, and what is asked for it.
struct Datastore {
    platform: Platform,
    client: Client,
    namespace: String,
}

impl Datastore {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn set_snapshots(&self, store: &ObjectStore) -> Result<()> {
        let policy = store.policy(&self.platform, &self.namespace).await?;
        let clusters: Api<EtcdCluster> = self.api();
        let patch = Patch::Merge(json!({"spec": {"snapshots": policy}}));
        clusters.patch(DATASTORE, &PatchParams::default(), &patch).await?;
        eventually("the first snapshot of the schedule is there", || async {
            let status = clusters.get(DATASTORE).await?.status.unwrap_or_default();
            let backed_up = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == BACKED_UP);
            ensure!(
                backed_up.is_some_and(|condition| condition.status == "True"),
                "{backed_up:?}"
            );
            ensure!(status.snapshot.is_some(), "no snapshot in the status");
            Ok(())
        })
        .await
    }

    /// Asks for a snapshot and waits until it is there.
    async fn back_up(&self, name: &str) -> Result<EtcdBackupStatus> {
        let spec = EtcdBackupSpec {
            cluster: DATASTORE.to_owned(),
            why: skep_api::etcd_backup::BackupReason::Asked,
        };
        let api: Api<EtcdBackup> = self.api();
        api.create(&PostParams::default(), &EtcdBackup::new(name, spec))
            .await?;
        eventually(&format!("backup {name} is there"), || async {
            let status = api.get(name).await?.status.unwrap_or_default();
            ensure!(is(&status.conditions, "Ready", "True"), "{:?}", status.conditions);
            Ok(status)
        })
        .await
    }

    /// Asks for a restore and waits until its snapshot was judged.
    async fn ask_for(&self, name: &str, snapshot: &str, owner: Option<&str>) -> Result<EtcdRestoreStatus> {
        let spec = EtcdRestoreSpec {
            cluster: DATASTORE.to_owned(),
            snapshot: Some(snapshot.to_owned()),
            owner: owner.map(str::to_owned),
            approved: false,
        };
        let api: Api<EtcdRestore> = self.api();
        api.create(&PostParams::default(), &EtcdRestore::new(name, spec))
            .await?;
        eventually(&format!("the snapshot of restore {name} is judged"), || async {
            let status = api.get(name).await?.status.unwrap_or_default();
            let is_judged = status
                .conditions
                .iter()
                .any(|condition| condition.type_ == VERIFIED);
            ensure!(is_judged, "{:?}", status.conditions);
            Ok(status)
        })
        .await
    }

    /// Has a snapshot tried out by the command that the docs name, and waits for what is found.
    async fn try_out(&self, name: &str, snapshot: &str) -> Result<EtcdDrillStatus> {
        let names = [
            ("NAMESPACE", self.namespace.as_str()),
            ("NAME", DATASTORE),
            ("SNAPSHOT", snapshot),
            ("DRILL", name),
        ];
        follow(&self.platform, "drill", 1..=1, &names).await?;
        let api: Api<EtcdDrill> = self.api();
        eventually(&format!("drill {name} has ended"), || async {
            let status = api.get(name).await?.status.unwrap_or_default();
            ensure!(status.ended_at.is_some(), "{:?}", status.conditions);
            Ok(status)
        })
        .await
    }

    /// Runs the commands of the runbook's steps, from one to another.
    async fn follow(&self, steps: std::ops::RangeInclusive<usize>, snapshot: &str) -> Result<String> {
        let namespace = self.namespace.as_str();
        let names = [
            ("NAMESPACE", namespace),
            ("NAME", DATASTORE),
            ("SNAPSHOT", snapshot),
        ];
        follow(&self.platform, "restore", steps, &names).await
    }

    /// The unique ids of the apiservers' pods and how often they were started again.
    async fn apiservers(&self) -> Result<BTreeMap<String, i32>> {
        let wanted = ListParams::default().labels("app.kubernetes.io/name=kube-apiserver");
        let pods = self.api::<Pod>().list(&wanted).await?;
        let restarts = |pod: &Pod| {
            let containers = pod
                .status
                .iter()
                .flat_map(|status| status.container_statuses.iter().flatten());
            containers.map(|container| container.restart_count).sum()
        };
        Ok(pods
            .iter()
            .map(|pod| (pod.uid().unwrap_or_default(), restarts(pod)))
            .collect())
    }
}

fn is(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    type_: &str,
    status: &str,
) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == status)
}

async fn create(objects: &Api<ConfigMap>, prefix: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for number in 0..OBJECTS {
        let name = format!("{prefix}-{number}");
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        let object = ConfigMap {
            metadata,
            ..ConfigMap::default()
        };
        objects.create(&PostParams::default(), &object).await?;
        names.insert(name);
    }
    Ok(names)
}

/// What the apiserver lists, from its cache or from the datastore.
async fn listed(objects: &Api<ConfigMap>, from_cache: bool) -> Result<BTreeSet<String>> {
    let params = if from_cache {
        ListParams::default().match_any()
    } else {
        ListParams::default()
    };
    let all = objects.list(&params).await?;
    Ok(all
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| name != "kube-root-ca.crt")
        .collect())
}

/// Watches until the apiserver ends the watch; returns what it said.
async fn watch_to_its_end(objects: Api<ConfigMap>, version: String) -> Result<Vec<String>> {
    let params = WatchParams::default().timeout(290);
    let mut events = objects.watch(&params, &version).await?.boxed();
    let mut said = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Error(error)) => said.push(format!("{} {}", error.code, error.reason)),
            Ok(_) => said.push("event".to_owned()),
            Err(error) => said.push(error.to_string()),
        }
    }
    Ok(said)
}

/// A new watch that starts at today's list sees a new object.
async fn sees_new_objects(objects: &Api<ConfigMap>) -> Result<()> {
    let version = objects
        .list(&ListParams::default())
        .await?
        .metadata
        .resource_version;
    let version = version.context("a list has a version")?;
    let mut events = objects.watch(&WatchParams::default(), &version).await?.boxed();
    let made = create(objects, &format!("new-{:08x}", rand::random::<u32>())).await?;
    let mut seen = BTreeSet::new();
    let all = async {
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Added(object) = event {
                seen.insert(object.name_any());
            }
            if seen.is_superset(&made) {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended after {} of {} objects", seen.len(), made.len())
    };
    tokio::time::timeout(Duration::from_secs(30), all).await?
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A snapshot as it was taken passes its drill, by schedule and when asked for; one that is cut off does not.
async fn drills_tell_good_snapshots_from_bad(datastore: &Datastore, good: &str, cut_off: &str) {
    let clusters: Api<EtcdCluster> = datastore.api();
    eventually("the first drill of the schedule has passed", || async {
        let status = clusters.get(DATASTORE).await?.status.unwrap_or_default();
        ensure!(
            status.drill.as_ref().is_some_and(|drill| drill.passed),
            "{:?}",
            status.drill
        );
        ensure!(
            is(&status.conditions, RESTORE_PROVEN, "True"),
            "{:?}",
            status.conditions
        );
        Ok(())
    })
    .await
    .unwrap();
    let (passed, failed) = tokio::join!(datastore.try_out("good", good), datastore.try_out("bad", cut_off));
    let (passed, failed) = (passed.unwrap(), failed.unwrap());
    assert!(is(&passed.conditions, "Ready", "True"), "{:?}", passed.conditions);
    assert_eq!(passed.compared, ["revision", "keys", "hash"]);
    assert!(passed.keys.is_some_and(|keys| keys > 40), "{passed:?}");
    assert!(
        is(&failed.conditions, "Ready", "False"),
        "{:?}",
        failed.conditions
    );
    assert!(
        failed.conditions[0].message.contains("damaged"),
        "{:?}",
        failed.conditions
    );
    let left = ListParams::default().labels("app.kubernetes.io/name=etcd-drill");
    eventually("no pod of a drill is left", || async {
        let left = datastore.api::<Pod>().list(&left).await?;
        ensure!(left.items.is_empty(), "{} are", left.items.len());
        Ok(())
    })
    .await
    .unwrap();
}

/// Snapshots that are cut off, changed, or another's are refused before anything is done; returns the one that is cut off.
async fn damaged_snapshots_are_refused(datastore: &Datastore, store: &ObjectStore) -> String {
    let cut_off = datastore.back_up("cut-off").await.unwrap();
    let (owner, snapshot) = (cut_off.owner.unwrap(), cut_off.snapshot.unwrap());
    let body = store.folder(&owner, &snapshot).join("body");
    let bytes = std::fs::read(&body).unwrap();
    std::fs::write(&body, &bytes[..bytes.len() - 70_000]).unwrap();
    let changed = datastore.back_up("changed").await.unwrap().snapshot.unwrap();
    let body = store.folder(&owner, &changed).join("body");
    let mut bytes = std::fs::read(&body).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&body, bytes).unwrap();
    let own = datastore.back_up("whole").await.unwrap().snapshot.unwrap();
    let other = "11111111-2222-4333-8444-555555555555";
    copy(&store.folder(&owner, &own), &store.folder(other, &own));

    let cases = [
        ("cut-off", snapshot.as_str(), None, "damaged"),
        ("changed", changed.as_str(), None, "does not decrypt"),
        ("foreign", own.as_str(), Some(other), owner.as_str()),
        (
            "none",
            "20200101T000000Z-0000000000000000001",
            None,
            "there is no",
        ),
    ];
    for (name, snapshot, owner, why) in cases {
        let status = datastore.ask_for(name, snapshot, owner).await.unwrap();
        assert!(
            is(&status.conditions, VERIFIED, "False"),
            "{name}: {:?}",
            status.conditions
        );
        let said = &status.conditions[0].message;
        assert!(said.contains(why), "{name}: {said}");
    }
    snapshot
}

/// Long: a control plane is made, five snapshots are taken, and three members are made anew from one.
#[tokio::test]
async fn a_tenant_with_a_live_apiserver_is_set_back_to_a_snapshot() {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::create(&platform, NAME, &[]).await.unwrap();
    let store = ObjectStore::start(&platform, PORT).await.unwrap();
    let datastore = Datastore {
        client: platform.hub().await.unwrap(),
        namespace: format!("cp-{}", platform.cpid(NAME).await.unwrap()),
        platform,
    };
    datastore.set_snapshots(&store).await.unwrap();
    let kubeconfig = tenant.kubeconfig().unwrap();
    let client = from_kubeconfig(kubeconfig.as_bytes(), "e2e", ClientUse::Tenant)
        .await
        .unwrap();
    let objects: Api<ConfigMap> = Api::namespaced(client, "default");

    let before = create(&objects, "before").await.unwrap();
    let kept = datastore.back_up("kept").await.unwrap().snapshot.unwrap();
    let ghosts = create(&objects, "after").await.unwrap();
    for name in before.iter().take(5) {
        objects.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let cut_off = damaged_snapshots_are_refused(&datastore, &store).await;
    drills_tell_good_snapshots_from_bad(&datastore, &kept, &cut_off).await;

    let apiservers = datastore.apiservers().await.unwrap();
    let said = datastore.follow(1..=3, &kept).await.unwrap();
    assert!(said.contains(&kept) && said.contains("is lost"), "{said}");
    // Nothing is done before a person has said so.
    assert!(listed(&objects, false).await.unwrap().is_superset(&ghosts));
    let version = objects
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let watch = tokio::spawn(watch_to_its_end(objects.clone(), version));
    datastore.follow(4..=5, &kept).await.unwrap();

    for from_cache in [false, true] {
        let what = if from_cache { "its cache" } else { "its datastore" };
        eventually(
            &format!("the apiserver lists the snapshot's objects from {what}"),
            || async {
                let listed = listed(&objects, from_cache).await?;
                ensure!(
                    listed == before,
                    "{} of {} are ghosts",
                    listed.intersection(&ghosts).count(),
                    ghosts.len()
                );
                Ok(())
            },
        )
        .await
        .unwrap();
    }
    let said = tokio::time::timeout(Duration::from_mins(1), watch).await;
    println!(
        "the old watch: {:?}",
        said.expect("the old watch goes on").unwrap().unwrap()
    );
    eventually("new objects are seen", || sees_new_objects(&objects))
        .await
        .unwrap();
    assert_eq!(
        datastore.apiservers().await.unwrap(),
        apiservers,
        "an apiserver was started again"
    );
    let deleted = datastore
        .platform
        .skep(&["cluster", "delete", NAME, "--wait"])
        .await;
    deleted.unwrap().success().unwrap();
}
