//! The benchmark `create`: how long a user waits for a cluster, against the same programs started by hand.
//!
//! By hand and through the platform take turns in one run, each on a quiet machine; then many clusters at once;
//! then some more under watches and with spans, for the table of where the time goes. Memory is read at rest.

mod at_once;
mod blueprint;
mod cell;
mod explain;
mod figures;
mod ground;
mod hand;
mod probe;
mod rounds;
mod timeline;
mod trace;
mod user;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::Client;

use crate::Platform;
use crate::bench::load::Quiet;
use crate::bench::site::{self, Owner};
use crate::bench::{Report, setting};

/// How often things are done.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rounds by hand and through the platform, in turn.
    pub rounds: usize,
    /// Of these, the first rounds that wait until memory has settled.
    pub memory_rounds: usize,
    /// Clusters at once.
    pub at_once: usize,
    /// Rounds under watches and with spans.
    pub explained: usize,
    /// How long everything is left alone before its memory is read.
    pub settle: Duration,
}

impl Settings {
    /// What is promised, or what `BENCH_ROUNDS`, `BENCH_MEMORY_ROUNDS`, `BENCH_AT_ONCE`, `BENCH_EXPLAINED` and
    /// `BENCH_SETTLE` (seconds) say.
    fn from_environment() -> Result<Self> {
        let rounds = setting("BENCH_ROUNDS", 10)?;
        ensure!(rounds > 0, "BENCH_ROUNDS is at least 1");
        Ok(Self {
            rounds,
            memory_rounds: setting("BENCH_MEMORY_ROUNDS", 5)?.clamp(1, rounds),
            at_once: setting("BENCH_AT_ONCE", 10)?,
            explained: setting("BENCH_EXPLAINED", 3)?,
            settle: Duration::from_secs(setting("BENCH_SETTLE", 30)?),
        })
    }
}

/// What a benchmark works with.
struct Bench {
    settings: Settings,
    platform: Platform,
    hub: Client,
    quiet: Quiet,
}

/// The platform's own memory in bytes at one moment, by application.
#[derive(Debug, Clone, Default)]
pub struct Operators {
    /// The Deployments.
    pub deployments: BTreeMap<String, u64>,
    /// The pods of every node.
    pub others: BTreeMap<String, u64>,
}

/// Runs the benchmark, prints and writes what it found, and says whether its gates hold.
pub async fn run() -> Result<bool> {
    let Some(owner) = site::owner() else {
        return site::run("create").await;
    };
    let platform = Platform::connect()?;
    let measured = tokio::select! {
        report = measure(owner, platform.clone()) => report,
        interrupted = site::interrupted() => interrupted.and_then(|()| anyhow::bail!("interrupted")),
    };
    if owner == Owner::User {
        user::delete_project(&platform).await?;
    }
    let report = measured?;
    report.print();
    println!("written to {}", report.write()?.display());
    Ok(report.holds())
}

async fn measure(owner: Owner, platform: Platform) -> Result<Report> {
    let hub = platform.hub().await?;
    let standing = cell::all_clusters(&hub).await?;
    ensure!(
        standing.is_empty(),
        "the platform has clusters ({}) and the benchmark wants none: delete them, or unset SKEP_HOME for a \
         platform of the benchmark's own",
        standing.join(", ")
    );
    let mut bench = Bench {
        settings: Settings::from_environment()?,
        platform,
        hub,
        quiet: Quiet::from_environment()?,
    };
    user::make_project(&bench.platform).await?;
    bench.quiet.begin().await?;
    let empty = bench.operators().await?;
    let rounds = rounds::run(&mut bench).await?;
    let at_once = at_once::run(&mut bench).await?;
    let explained = explain::run(&mut bench, owner).await?;
    user::delete_project(&bench.platform).await?;
    let mut report = Report::new("create");
    figures::add(&mut report, &bench, &empty, &rounds, at_once.as_ref());
    explained.print();
    explained.add(&mut report);
    Ok(report)
}

impl Bench {
    /// Leaves everything alone for as long as memory is given to settle.
    async fn settle(&self) {
        tokio::time::sleep(self.settings.settle).await;
    }

    async fn operators(&self) -> Result<Operators> {
        let (deployments, others) = cell::operators_memory(&self.hub).await?;
        Ok(Operators { deployments, others })
    }
}

/// Says what is being done, for whoever watches.
fn say(what: &str) {
    eprintln!("== {what}");
}
