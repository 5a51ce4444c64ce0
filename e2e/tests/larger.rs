//! A larger platform: three control-plane nodes for the cell itself, and two nodes in each zone.
//!
//! An instance of its own, which comes and goes with this test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::EtcdMember;
use skep_e2e::platform::{Output, eventually, run};
use skep_runtime::client::{ClientUse, from_kubeconfig};
use tokio::process::Command;

const INSTANCE: &str = "skep-larger";
const DATASTORE: &str = "moved";
const ZONE: &str = "topology.kubernetes.io/zone";

struct Larger {
    home: tempfile::TempDir,
    skep: PathBuf,
}

impl Larger {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.skep);
        command
            .env("SKEP_INSTANCE", INSTANCE)
            .env("SKEP_HOME", self.home.path())
            .args(arguments);
        command
    }

    async fn skep(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments), None).await.unwrap()
    }

    async fn client(&self) -> Result<Client> {
        let bytes = std::fs::read(self.home.path().join("hub.kubeconfig"))?;
        Ok(from_kubeconfig(&bytes, "e2e", ClientUse::Tenant).await?)
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        let nodes = Api::all(self.client().await?);
        Ok(nodes.list(&ListParams::default()).await?.items)
    }

    async fn datastores(&self) -> Result<Api<EtcdCluster>> {
        Ok(Api::namespaced(self.client().await?, "default"))
    }

    /// Makes a datastore of three members, none of them on a node.
    async fn make_datastore(&self, avoided: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "EtcdCluster", "metadata": {"name": DATASTORE},
            "spec": {"version": "3.7.3", "image": "localhost/etcd:3.7.3", "members": 3, "volumeSize": "512Mi",
                "storageClass": "local", "quotaBytes": 67_108_864, "volumePolicy": "Delete", "avoidNodes": [avoided],
                "resources": {"cpu": "1m", "memory": "64Mi", "memoryLimit": "512Mi"}},
        });
        let api = self.datastores().await?;
        let params = PatchParams::apply("e2e");
        api.patch(DATASTORE, &params, &Patch::Apply(object)).await?;
        Ok(())
    }

    /// The members of the datastore by zone, each with its node, once all serve.
    async fn members(&self) -> BTreeMap<String, EtcdMember> {
        eventually("the datastore is whole", || async {
            let object = self.datastores().await?.get(DATASTORE).await?;
            let status = object.status.unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "Ready");
            ensure!(ready.is_some_and(|ready| ready.status == "True"), "{ready:?}");
            ensure!(
                status.observed_generation == object.metadata.generation,
                "not seen yet"
            );
            let by_zone = status.members.into_iter();
            Ok(by_zone
                .map(|member| (member.zone.clone().unwrap_or_default(), member))
                .collect())
        })
        .await
        .unwrap()
    }

    /// Has a member move by the command that the docs name, and returns its successor: the one in the same zone.
    async fn relocate(&self, member: &EtcdMember) -> EtcdMember {
        let name = format!("default/{DATASTORE}");
        let command = [
            "etcd",
            "move",
            name.as_str(),
            member.pod.as_str(),
            "--timeout",
            "4m",
        ];
        self.skep(&command).await.success().unwrap();
        let after = self.members().await;
        assert!(after.len() == 3, "there is not one in each zone: {after:?}");
        after[member.zone.as_ref().unwrap()].clone()
    }

    async fn allow_all_nodes(&self) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"avoidNodes": null}}));
        let api = self.datastores().await?;
        api.patch(DATASTORE, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn remove_datastore(&self) -> Result<()> {
        let api = self.datastores().await?;
        drop(api.delete(DATASTORE, &DeleteParams::default()).await?);
        eventually("the datastore is gone", || async {
            ensure!(api.get_opt(DATASTORE).await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// Kills all that runs on one machine, the machine's own first process among it.
    fn kill_machine(&self, name: &str) {
        let config = self.home.path().join("machines").join(name);
        let of_machine = |path: &Path| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&format!("{}/", config.display()))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        for process in processes.filter(|process| of_machine(&process.path())) {
            let id = process.file_name();
            drop(std::process::Command::new("kill").arg("-9").arg(id).output());
        }
    }
}

impl Drop for Larger {
    fn drop(&mut self) {
        // After a failure as well; what is gone already is no failure.
        drop(self.command(&["down"]).into_std().output());
    }
}

/// Long, because six nodes start on this machine.
#[tokio::test]
async fn the_cell_outlives_one_of_three_control_plane_nodes_and_members_of_datastores_move() {
    let larger = Larger {
        home: tempfile::tempdir().unwrap(),
        skep: std::env::var_os("SKEP").expect("e2e/run sets SKEP").into(),
    };
    let up = [
        "up",
        "--control-planes",
        "3",
        "--nodes-per-zone",
        "2",
        "--no-demo",
    ];
    larger.skep(&up).await.success().unwrap();

    let nodes = larger.nodes().await.unwrap();
    let mut zones: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for node in &nodes {
        let count = zones.entry(&node.labels()[ZONE]).or_default();
        count.0 += 1;
        count.1 += usize::from(
            node.labels()
                .contains_key("node-role.kubernetes.io/control-plane"),
        );
    }
    let expected = BTreeMap::from([("a", (2, 1)), ("b", (2, 1)), ("c", (2, 1))]);
    assert_eq!(zones, expected, "nodes and control planes by zone");

    // A member goes to the other node of its zone, after its successor has joined.
    larger.make_datastore(&format!("{INSTANCE}-a-2")).await.unwrap();
    let leaves = larger.members().await["b"].clone();
    let came = larger.relocate(&leaves).await;
    assert!(
        leaves.node != came.node && leaves.pod != came.pod,
        "{leaves:?} {came:?}"
    );
    larger.allow_all_nodes().await.unwrap();
    let lost = larger.members().await["a"].clone();
    assert_eq!(lost.node.as_deref(), Some("skep-larger-a-1"));

    // A further `up` finds everything there.
    larger.skep(&up).await.success().unwrap();

    // The first control-plane node, with its datastore member, is gone: two of three go on.
    larger.kill_machine(&format!("{INSTANCE}-a-1"));
    eventually("the cell answers and has seen the loss", || async {
        let nodes = larger.nodes().await?;
        let is_lost = |node: &Node| {
            let status = node.status.clone().unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            conditions
                .iter()
                .any(|known| known.type_ == "Ready" && known.status == "Unknown")
        };
        let lost: Vec<String> = nodes
            .iter()
            .filter(|node| is_lost(node))
            .map(ResourceExt::name_any)
            .collect();
        ensure!(lost == [format!("{INSTANCE}-a-1")], "lost: {lost:?}");
        Ok(())
    })
    .await
    .unwrap();

    // A member on a machine that is gone is given up when it is told to leave.
    let came = larger.relocate(&lost).await;
    assert_eq!(came.node.as_deref(), Some("skep-larger-a-2"));

    // And `up` brings it back.
    larger.skep(&up).await.success().unwrap();
    larger.members().await;
    larger.remove_datastore().await.unwrap();
    larger.skep(&["status"]).await.success().unwrap();
    larger.skep(&["down"]).await.success().unwrap();
}
