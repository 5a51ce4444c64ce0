//! A datastore of a test on the real cell, in a namespace of its own, and clients that write to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use nix::sys::signal::Signal;
use serde_json::json;
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::EtcdClusterStatus;
use tokio::process::{Child, Command};

use crate::containers::{find, running, signal_container};
use crate::platform::eventually;
use crate::runbook::follow;
use crate::soak::etcd::history::Checked;
use crate::soak::etcd::inside::build_porcupine;
use crate::{Output, Platform};

/// The name of each, in its namespace.
pub const NAME: &str = "etcd";
/// Who may write to it.
const CLIENT: &str = "probe";

/// A datastore in a namespace of its own, which goes with it.
pub struct Datastore {
    /// Where it runs.
    pub platform: Platform,
    /// Of the hub.
    pub client: Client,
    /// Its namespace.
    pub namespace: String,
    /// The program that writes to it.
    program: PathBuf,
}

impl Datastore {
    /// Makes one of three members, and waits until it is whole; `program` is the built `etcd-clients`.
    pub async fn create(namespace: &str, version: &str, program: &str) -> Result<Self> {
        let platform = Platform::connect()?;
        let own = Self {
            client: platform.hub().await?,
            platform,
            namespace: namespace.to_owned(),
            program: PathBuf::from(program),
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
    pub async fn ask_for(&self, version: &str) -> Result<()> {
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

    /// The datastores of its namespace.
    pub fn clusters(&self) -> Api<EtcdCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pods of its namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its status as it is now.
    pub async fn status(&self) -> Result<EtcdClusterStatus> {
        Ok(self.clusters().get(NAME).await?.status.unwrap_or_default())
    }

    /// Waits until three members of a version serve and nothing is under way.
    pub async fn is_whole(&self, version: &str) -> Result<EtcdClusterStatus> {
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

    /// Changes fields of its spec.
    pub async fn change(&self, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.clusters()
            .patch(NAME, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Runs the commands of a runbook's steps, from one to another.
    pub async fn follow(&self, runbook: &str, steps: std::ops::RangeInclusive<usize>) -> Result<String> {
        // The namespace first: the other word is a part of it.
        let names = [("NAMESPACE", self.namespace.as_str()), ("NAME", NAME)];
        follow(&self.platform, runbook, steps, &names).await
    }

    /// The members' pods by name, each with its unique id and whether it is ready.
    pub async fn members(&self) -> Result<BTreeMap<String, (String, bool)>> {
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

    /// Sends a signal to the etcd of a member.
    pub async fn signal(&self, pod: &str, signal: Signal) -> Result<()> {
        let pods = self
            .platform
            .kubectl(&["-n", &self.namespace, "get", "pods", "-o", "json"])
            .await?;
        let all = running(&pods.json()?);
        signal_container(find(&all, pod, "etcd")?, signal)
    }

    /// Starts clients that write and read until they are stopped, on a node of the cell.
    pub fn clients(&self, task: &str) -> Result<Child> {
        let netns = format!("/run/netns/{}-a-1", std::env::var("SKEP_INSTANCE")?);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={netns}"))
            .arg(&self.program)
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
    pub async fn have_done(&self, task: &str) -> Result<serde_json::Value> {
        let done = self.clients(task)?.wait_with_output().await?;
        ensure!(
            done.status.success(),
            "{task}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// The volume claims that bear the mark of a datastore of this unique id.
    pub async fn claims_of(&self, uid: &str) -> Result<BTreeSet<String>> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.namespace);
        let marked = ListParams::default().labels(&format!("skep.dev/etcd-uid={uid}"));
        Ok(claims
            .list(&marked)
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect())
    }

    /// Deletes it, and waits until it is gone.
    pub async fn delete(&self) -> Result<()> {
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

    /// Deletes it and its namespace, and waits until they are gone.
    pub async fn remove(&self) -> Result<()> {
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
pub async fn stop(mut clients: Child) -> Result<Checked> {
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
