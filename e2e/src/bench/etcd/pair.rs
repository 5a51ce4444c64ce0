//! A cluster that the operator formed and looks after, beside one of the same programs by hand: puts a second, and how long
//! a put takes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use skep_etcd::members::Credentials;
use skep_testing::until;

use super::hand::Hand;
use super::puts::{Cluster, Sample};
use super::{CLUSTER, Settings, VERSION};
use crate::bench::load::Quiet;
use crate::bench::{Bound, Figure, Report, Spread};
use crate::soak::etcd::stage::{Site, Stage};

const NAMESPACE: &str = "managed";
const MEMBERS: i32 = 3;
/// Before the first sample, so that neither starts cold.
const WARM_UP: Duration = Duration::from_secs(2);
/// At least 0.95 times as good: each put, and the slowest of a hundred, takes at most 1 / 0.95 of the time.
const MOST_TIME: f64 = 1.053;

/// Adds the figures.
pub async fn add(report: &mut Report, stage: &Stage, settings: &Settings, quiet: &mut Quiet) -> Result<()> {
    let mut site = Site::open(stage, NAMESPACE, MEMBERS, VERSION, None).await?;
    site.wait_until_whole(MEMBERS)
        .await
        .context("it was never formed")?;
    let pods = pods(stage, NAMESPACE).await?;
    let hand = Hand::start(&pods, &stage.directory.join(NAMESPACE), &stage.hosts)?;
    let credentials = Arc::new(credentials(stage, NAMESPACE).await?);
    let managed = Cluster::new(&addresses(&pods), NAMESPACE, &credentials);
    let by_hand = Cluster::new(&hand.members, NAMESPACE, &credentials);
    until("the cluster by hand has a leader", || async {
        by_hand.leader().await.map(drop)
    })
    .await;
    for cluster in [&managed, &by_hand] {
        cluster.sample(WARM_UP).await?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..settings.pairs {
        quiet.wait("a pair of clusters").await?;
        // Each is first as often as the other.
        if round % 2 == 0 {
            ours.push(managed.sample(settings.sample).await?);
            theirs.push(by_hand.sample(settings.sample).await?);
        } else {
            theirs.push(by_hand.sample(settings.sample).await?);
            ours.push(managed.sample(settings.sample).await?);
        }
    }
    drop(hand);
    site.delete().await?;
    site.close()?;
    figures(report, &ours, &theirs)
}

fn figures(report: &mut Report, ours: &[Sample], theirs: &[Sample]) -> Result<()> {
    let spread = |samples: &[Sample], value: fn(&Sample) -> f64| {
        let values: Vec<f64> = samples.iter().map(value).collect();
        Spread::of(&values).context("nothing was measured")
    };
    let time = |sample: &Sample| 1_000_000.0 / sample.rate;
    let mut add = |name: &str, unit, value: fn(&Sample) -> f64, goal: Option<f64>| -> Result<()> {
        let reference = spread(theirs, value)?;
        report.add(Figure::of(format!("a cluster by hand: {name}"), reference, unit));
        let figure = Figure::of(format!("a managed cluster: {name}"), spread(ours, value)?, unit);
        let figure = figure.against(reference.median);
        report.add(match goal {
            Some(most) => figure.held_to(Bound::Goal(most)),
            None => figure,
        });
        Ok(())
    };
    add("puts", "a second", |sample| sample.rate, None)?;
    add("time by puts", "µs", time, Some(MOST_TIME))?;
    add("one put, p99", "ms", |sample| sample.p99, Some(MOST_TIME))
}

/// The pods of a namespace.
pub(super) async fn pods(stage: &Stage, namespace: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(stage.cluster.admin.clone(), namespace);
    Ok(pods.list(&ListParams::default()).await?.items)
}

/// The name and the address of each pod.
pub(super) fn addresses(pods: &[Pod]) -> Vec<(String, String)> {
    let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    pods.iter()
        .filter_map(|pod| Some((pod.name_any(), address(pod)?)))
        .collect()
}

/// The operator's own, which is one of the clients.
pub(super) async fn credentials(stage: &Stage, namespace: &str) -> Result<Credentials> {
    let secrets: Api<Secret> = Api::namespaced(stage.cluster.admin.clone(), namespace);
    let secret = secrets.get(&format!("{CLUSTER}-client-operator")).await?;
    let mut data = secret.data.unwrap_or_default();
    let mut text = |key: &str| -> Result<String> {
        let bytes = data.remove(key).with_context(|| format!("no {key}"))?;
        Ok(String::from_utf8(bytes.0)?)
    };
    Ok(Credentials {
        authority: text("ca.crt")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    })
}
