//! What the operator costs while a hundred clusters need nothing: processor, memory, and writes to the API server.
//!
//! The operator forms the clusters itself, of members that are stand-ins; it is not started anew before it is measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use skep_api::etcd_cluster::EtcdCluster;

use super::audit::{AuditLog, Requests};
use super::nodes::Nodes;
use super::operator::{Operator, TOKEN, Usage};
use super::{CLUSTER, Settings, VERSION, image};
use crate::bench::load::Quiet;
use crate::bench::memory::mebibytes;
use crate::bench::{Bound, Figure, Report, Spread};
use crate::soak::etcd::stage::Stage;

/// Members of each cluster.
const MEMBERS: i32 = 3;
/// How long all clusters may take to be formed.
const FORMED: Duration = Duration::from_mins(15);
/// Without a write for longer than the operator leaves a cluster alone.
const SILENCE: Duration = Duration::from_secs(75);
/// How long it may take until nothing is written any more.
const SILENT: Duration = Duration::from_mins(10);
/// In one of them the operator looks at each cluster once, more or less.
const WINDOW: Duration = Duration::from_mins(1);
/// The least calls to the members of a cluster at rest in a window: one to each, and the list of all.
const LEAST_CALLS: u64 = 4;
/// The rights of a cell's operators.
const RIGHTS: [&str; 2] = [
    include_str!("../../../../manifests/rbac/etcd.yaml"),
    include_str!("../../../../manifests/rbac/bindings.yaml"),
];

/// What was measured.
#[derive(Debug, Default)]
struct Measured {
    cores: Vec<f64>,
    resident: Vec<f64>,
    anonymous: Vec<f64>,
    reads: Vec<f64>,
    calls: Vec<f64>,
    renewals: Vec<f64>,
    writes: Requests,
}

/// Adds the figures.
pub async fn add(report: &mut Report, stage: &Stage, settings: &Settings, quiet: &mut Quiet) -> Result<()> {
    make_clusters(stage, settings.clusters).await?;
    let kubeconfig = stage.directory.join("operator.kubeconfig");
    std::fs::write(&kubeconfig, stage.cluster.kubeconfig_of(TOKEN).to_string())?;
    let nodes = Arc::new(Nodes::new(stage.cluster.admin.clone()));
    let operator = Operator::start(&kubeconfig, &settings.log)?;
    let mut idle = Idle {
        stage,
        settings,
        operator,
        audit: AuditLog::new(stage.cluster.audit_log()),
    };
    let running = nodes.clone();
    tokio::select! {
        measured = idle.measure(&nodes, quiet) => measured?.add(report, settings.clusters),
        ended = running.run() => ended.context("the stand-in of nodes"),
    }
}

async fn make_clusters(stage: &Stage, count: usize) -> Result<()> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    stage.cluster.apply(namespace(skep_core::SYSTEM_NAMESPACE)).await;
    for manifest in RIGHTS {
        stage.cluster.apply_manifest(manifest).await;
    }
    for number in 0..count {
        let name = format!("idle-{number:03}");
        stage.cluster.apply(namespace(&name)).await;
        stage.cluster.apply(json!({
            "apiVersion": "skep.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": CLUSTER, "namespace": name},
            "spec": {"version": VERSION, "image": image(), "members": MEMBERS, "volumeSize": "3Gi",
                "storageClass": "local", "quotaBytes": 1_073_741_824, "clients": ["apiserver"],
                "resources": {"cpu": "25m", "memory": "64Mi", "memoryLimit": "512Mi", "goMemoryLimit": "384MiB"}},
        })).await;
    }
    Ok(())
}

/// The operator with its clusters.
struct Idle<'a> {
    stage: &'a Stage,
    settings: &'a Settings,
    operator: Operator,
    audit: AuditLog,
}

impl Idle<'_> {
    async fn measure(&mut self, nodes: &Nodes, quiet: &mut Quiet) -> Result<Measured> {
        let begun = Instant::now();
        while self.ready().await? < self.settings.clusters {
            ensure!(
                begun.elapsed() < FORMED,
                "the clusters are not all formed: {}",
                self.what_is_waited_for().await?
            );
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        eprintln!(
            "== all clusters are formed after {:.0} s",
            begun.elapsed().as_secs_f64()
        );
        self.wait_until_silent().await?;
        quiet.wait("the operator at rest").await?;
        self.audit.requests()?;
        let mut measured = Measured::default();
        for _ in 0..self.settings.windows {
            let (before, calls) = (self.operator.usage()?, nodes.calls());
            tokio::time::sleep(WINDOW).await;
            self.operator.is_alive()?;
            let calls = nodes.calls() - calls;
            // Periods are spread by a tenth, so that not each cluster's next look falls into each minute.
            let least = LEAST_CALLS * u64::try_from(self.settings.clusters)? / 2;
            ensure!(
                calls >= least,
                "the operator looks at nothing: {calls} calls to members in a minute"
            );
            measured.take(&before, &self.operator.usage()?, calls, &self.audit.requests()?);
        }
        let ready = self.ready().await?;
        ensure!(
            ready == self.settings.clusters,
            "only {ready} clusters are ready at the end"
        );
        Ok(measured)
    }

    /// How many clusters want nothing any more.
    async fn ready(&mut self) -> Result<usize> {
        self.operator.is_alive()?;
        let clusters: Api<EtcdCluster> = Api::all(self.stage.cluster.admin.clone());
        let all = clusters.list(&ListParams::default()).await?;
        Ok(all.iter().filter(|cluster| is_at_rest(cluster)).count())
    }

    /// What the first cluster that is not at rest says.
    async fn what_is_waited_for(&self) -> Result<String> {
        let clusters: Api<EtcdCluster> = Api::all(self.stage.cluster.admin.clone());
        let all = clusters.list(&ListParams::default()).await?;
        let first = all.iter().find(|cluster| !is_at_rest(cluster));
        let conditions = first
            .and_then(|cluster| cluster.status.clone())
            .map(|status| status.conditions);
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready");
        Ok(ready.map_or_else(|| "nothing was said".to_owned(), |ready| ready.message))
    }

    async fn wait_until_silent(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut last = Instant::now();
        self.audit.requests()?;
        while last.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.operator.is_alive()?;
            let requests = self.audit.requests()?;
            if requests.write_count() == 0 {
                continue;
            }
            if begun.elapsed() > SILENT {
                bail!("the operator still writes: {:?}", requests.writes);
            }
            last = Instant::now();
        }
        Ok(())
    }
}

fn is_at_rest(cluster: &EtcdCluster) -> bool {
    let Some(status) = &cluster.status else {
        return false;
    };
    let mut conditions = status.conditions.iter();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    status.observed_generation == cluster.metadata.generation
        && status.intent.is_none()
        && status.ready_members == MEMBERS
        && is_ready
}

impl Measured {
    fn take(&mut self, before: &Usage, after: &Usage, calls: u64, requests: &Requests) {
        // Some thousands a minute.
        #[expect(
            clippy::cast_precision_loss,
            reason = "far below where the conversion loses any"
        )]
        let number = |count: u64| count as f64;
        self.cores.push(after.cores_since(before));
        self.resident.push(mebibytes(after.resident));
        self.anonymous.push(mebibytes(after.anonymous));
        self.reads.push(number(requests.reads));
        self.calls.push(number(calls));
        self.renewals.push(number(requests.renewals));
        self.writes.merge(requests);
    }

    fn add(&self, report: &mut Report, clusters: usize) -> Result<()> {
        let mut add = |name: &str, samples: &[f64], unit, bound: Option<f64>| -> Result<()> {
            let spread = Spread::of(samples).context("nothing was measured")?;
            let figure = Figure::of(
                format!("operator, {clusters} idle clusters: {name}"),
                spread,
                unit,
            );
            report.add(match bound {
                Some(bound) => figure.held_to(Bound::Gate(bound)),
                None => figure,
            });
            Ok(())
        };
        add("processor", &self.cores, "cores", Some(0.05))?;
        add("resident memory", &self.resident, "MiB", Some(60.0))?;
        add("of it anonymous", &self.anonymous, "MiB", None)?;
        let minutes = f64::from(u32::try_from(self.cores.len())?);
        let writes = [f64::from(u32::try_from(self.writes.write_count())?) / minutes];
        add("writes to the API server", &writes, "a minute", Some(0.0))?;
        add(
            "renewals of its lease, no writes by this count",
            &self.renewals,
            "a minute",
            None,
        )?;
        add("reads of the API server", &self.reads, "a minute", None)?;
        add("calls to members", &self.calls, "a minute", None)?;
        for (what, count) in &self.writes.writes {
            println!("a write of the operator at rest: {what}, {count} times");
        }
        Ok(())
    }
}
