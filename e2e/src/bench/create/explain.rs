//! Where the time of one cluster goes: rounds of their own, under watches and with the operators' spans.
//!
//! Apart from the rounds that count, since being watched takes some of the machine and sending spans some memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::cell;
use super::timeline::Timeline;
use super::trace::{Receiver, Trace, Work};
use super::user::{self, Creation};
use super::{Bench, say};
use crate::bench::report::{new_table, number};
use crate::bench::site::Owner;
use crate::bench::{Figure, Report, Spread};
use crate::platform::eventually;

/// Turns the sending of spans on; see the operators' `telemetry`.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Spans are sent every five seconds.
const SENT: Duration = Duration::from_secs(7);
const NAMESPACE: &str = "skep-system";

/// Steps and work of some creations.
#[derive(Debug, Default)]
pub struct Explained {
    /// Seconds until each step, by its name.
    steps: BTreeMap<String, Vec<f64>>,
    /// What each controller did until the answer.
    work: BTreeMap<String, Vec<Work>>,
}

/// Creates clusters and notes their steps; spans only on a platform of our own.
pub async fn run(bench: &mut Bench, owner: Owner) -> Result<Explained> {
    let mut explained = Explained::default();
    if bench.settings.explained == 0 {
        return Ok(explained);
    }
    say("some more clusters, under watches and with spans");
    let receiver = if owner == Owner::Benchmark {
        let url = std::fs::read_to_string(bench.platform.home.join("api.url"))?;
        let receiver = Receiver::listen(url.trim()).await?;
        set_endpoint(bench, &format!("{ENDPOINT}=http://{}", receiver.address)).await?;
        Some(receiver)
    } else {
        None
    };
    let timeline = Timeline::begin(&bench.hub);
    for round in 1..=bench.settings.explained {
        explained
            .add_round(bench, &timeline, receiver.as_ref(), round)
            .await?;
    }
    if receiver.is_some() {
        set_endpoint(bench, &format!("{ENDPOINT}-")).await?;
    }
    Ok(explained)
}

/// Changes the operators' environment and waits until they run with it.
async fn set_endpoint(bench: &Bench, setting: &str) -> Result<()> {
    let kubectl = async |arguments: &[&str]| bench.platform.kubectl(arguments).await?.success();
    kubectl(&["-n", NAMESPACE, "set", "env", "deployment", "--all", setting]).await?;
    let names = kubectl(&["-n", NAMESPACE, "get", "deployment", "-o", "name"]).await?;
    for name in names.lines() {
        kubectl(&["-n", NAMESPACE, "rollout", "status", name, "--timeout=180s"]).await?;
    }
    eventually("the provisioning API answers again", || async {
        user::cluster_names(&bench.platform, user::PROJECT)
            .await
            .map(drop)
    })
    .await
}

impl Explained {
    async fn add_round(
        &mut self,
        bench: &mut Bench,
        timeline: &Timeline,
        receiver: Option<&Receiver>,
        round: usize,
    ) -> Result<()> {
        bench.quiet.wait("the next cluster under watches").await?;
        let (name, trace) = (format!("seen-{round}"), Trace::new());
        let created = user::create(&name, Some(&trace.parent()), user::PERIOD).await?;
        user::await_ready(&bench.platform, &name).await?;
        tokio::time::sleep(SENT).await;
        let Creation {
            cpid,
            begun,
            begun_at,
            accepted,
            certified,
            answered,
            ..
        } = created;
        for (step, seconds) in timeline.steps(&cpid, begun) {
            self.note(&step.label(), seconds);
        }
        self.note("user: accepted", accepted.as_secs_f64());
        self.note("user: certificate", certified.as_secs_f64());
        self.note(ANSWERED, answered.as_secs_f64());
        if let Some(receiver) = receiver {
            let work = trace.work(&receiver.spans(), &cpid, begun_at, begun_at + answered);
            for (controller, work) in work {
                self.work.entry(controller).or_default().push(work);
            }
        }
        cell::remove(&bench.platform, &bench.hub, &[(name, cpid)]).await
    }

    fn note(&mut self, step: &str, seconds: f64) {
        self.steps.entry(step.to_owned()).or_default().push(seconds);
    }

    /// The steps by the median of their times.
    fn ordered(&self) -> Vec<(&str, Spread)> {
        let mut steps: Vec<(&str, Spread)> = self
            .steps
            .iter()
            .filter_map(|(step, seconds)| Some((step.as_str(), Spread::of(seconds)?)))
            .collect();
        steps.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
        steps
    }

    /// Prints both tables.
    pub fn print(&self) {
        let steps = self.ordered();
        if steps.is_empty() {
            return;
        }
        println!("\nWhere the time of one cluster goes: seconds from the POST until a step was seen");
        let mut table = new_table(&["STEP", "MEDIAN", "MORE", "MIN", "MAX"], &[1, 2, 3, 4]);
        let mut last = 0.0;
        for (step, spread) in steps {
            let more = format!("+{:.2}", spread.median - last);
            last = spread.median;
            let numbers = [spread.median, spread.min, spread.max].map(number);
            let [median, min, max] = numbers;
            table.add_row([step.to_owned(), median, more, min, max]);
        }
        println!("{table}");
        if self.work.is_empty() {
            return;
        }
        println!("\nWhat controllers did until the answer, from their spans: seconds, median of the rounds");
        let headings = ["CONTROLLER", "RECONCILES", "BUSY", "LONGEST", "FIRST", "LAST"];
        let mut table = new_table(&headings, &[1, 2, 3, 4, 5]);
        for (controller, work) in &self.work {
            let of = |part: fn(&Work) -> f64| {
                let spread = Spread::of(&work.iter().map(part).collect::<Vec<_>>());
                spread.map(|spread| number(spread.median)).unwrap_or_default()
            };
            table.add_row([
                controller.clone(),
                of(|work| work.reconciles),
                of(|work| work.busy),
                of(|work| work.longest),
                of(|work| work.first),
                of(|work| work.last),
            ]);
        }
        println!("{table}");
    }

    /// Adds the steps, and the controllers' busy time, as figures without a bound.
    pub fn add(&self, report: &mut Report) {
        for (step, spread) in self.ordered() {
            report.add(Figure::of(format!("step: {step}"), spread, "s"));
        }
        for (controller, work) in &self.work {
            let busy: Vec<f64> = work.iter().map(|work| work.busy).collect();
            if let Some(spread) = Spread::of(&busy) {
                report.add(Figure::of(format!("busy: {controller}"), spread, "s"));
            }
        }
    }
}

/// The step that ends the time that counts.
const ANSWERED: &str = "user: namespaces listed";
