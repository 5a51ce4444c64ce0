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
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use skep_e2e::platform::{Output, eventually, run};
use skep_runtime::client::{ClientUse, from_kubeconfig};
use tokio::process::Command;

const INSTANCE: &str = "skep-larger";
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

    async fn nodes(&self) -> Result<Vec<Node>> {
        let bytes = std::fs::read(self.home.path().join("hub.kubeconfig"))?;
        let client = from_kubeconfig(&bytes, "e2e", ClientUse::Tenant).await?;
        Ok(Api::all(client).list(&ListParams::default()).await?.items)
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
async fn the_cell_outlives_one_of_three_control_plane_nodes() {
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

    // And `up` brings it back.
    larger.skep(&up).await.success().unwrap();
    larger.skep(&["status"]).await.success().unwrap();
    larger.skep(&["down"]).await.success().unwrap();
}
