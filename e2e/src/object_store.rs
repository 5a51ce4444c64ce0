//! A real server that speaks S3, on a node of the cell, for the snapshots of a test's datastores.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use skep_snapshots::Keys;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Platform;
use crate::platform::{eventually, run};

const ACCESS_KEY: &str = "skep";
const SECRET_KEY: &str = "secret-of-this-test";
const BUCKET: &str = "snapshots";
const PREFIX: &str = "cells/local";
/// The Secret with the keys that encrypt.
const KEYS: &str = "snapshot-keys";
/// The Secret that says who uses the store.
const CREDENTIALS: &str = "snapshot-store";

/// A server over a directory; both go with it, and the server when this process ends in whatever way.
#[derive(Debug)]
pub struct ObjectStore {
    _server: Child,
    directory: TempDir,
    endpoint: String,
    keys: Keys,
}

impl ObjectStore {
    /// Starts a server in the network of the cell's first node, where every pod reaches it.
    pub async fn start(platform: &Platform, port: u16) -> Result<Self> {
        let node = format!("{}-a-1", std::env::var("SKEP_INSTANCE")?);
        let nodes: Api<Node> = Api::all(platform.hub().await?);
        let addresses = nodes.get(&node).await?.status.and_then(|status| status.addresses);
        let mut internal = addresses
            .into_iter()
            .flatten()
            .filter(|address| address.type_ == "InternalIP");
        let address = internal
            .next()
            .with_context(|| format!("node {node} has no address"))?
            .address;
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        for name in [&format!("root/{BUCKET}"), "metadata"] {
            std::fs::create_dir_all(path(name))?;
        }
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{node}"))
            // The kernel ends it where the test is killed.
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(program()?)
            .args([&format!("--port={address}:{port}"), "--quiet"])
            .args([
                &format!("--access={ACCESS_KEY}"),
                &format!("--secret={SECRET_KEY}"),
            ])
            // Not every file system has extended attributes.
            .args(["posix", &format!("--sidecar={}", path("metadata").display())])
            .arg(path("root"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let own = Self {
            _server: command.spawn().context("cannot start versitygw")?,
            directory,
            endpoint: format!("http://{address}:{port}"),
            keys: Keys::generate(),
        };
        eventually("the object store answers", || async {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{node}")).args([
                "curl",
                "-s",
                "-o",
                "/dev/null",
                &own.endpoint,
            ]);
            let asked = run(&mut command, None).await?;
            ensure!(asked.status == 0, "curl ends with {}", asked.status);
            Ok(())
        })
        .await?;
        Ok(own)
    }

    /// Makes the Secrets that a datastore in a namespace needs for it, and returns its `spec.snapshots`.
    pub async fn policy(&self, platform: &Platform, namespace: &str) -> Result<Value> {
        let secrets: Api<Secret> = Api::namespaced(platform.hub().await?, namespace);
        let made = [
            (KEYS, json!({"keys": self.keys.expose()})),
            (
                CREDENTIALS,
                json!({"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}),
            ),
        ];
        for (name, data) in made {
            let secret =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
            let params = PatchParams::apply("e2e").force();
            secrets.patch(name, &params, &Patch::Apply(secret)).await?;
        }
        Ok(json!({
            "store": {"s3": {
                "bucket": BUCKET, "prefix": PREFIX, "endpoint": self.endpoint, "credentialsSecret": CREDENTIALS,
            }},
            "keysSecret": KEYS,
        }))
    }

    /// Where the objects of one snapshot lie; of all snapshots of an owner where `snapshot` is empty.
    pub fn folder(&self, owner: &str, snapshot: &str) -> PathBuf {
        let root = self.directory.path().join("root").join(BUCKET);
        root.join(PREFIX).join(owner).join(snapshot)
    }
}

fn program() -> Result<PathBuf> {
    let file = std::env::var("SKEP_TEST_PROGRAMS").context("`e2e/run` sets SKEP_TEST_PROGRAMS")?;
    let programs: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let program = programs["tests"]["programs"]["versitygw"].as_str();
    Ok(Path::new(program.context("`ensure --tests` builds versitygw")?).to_owned())
}
