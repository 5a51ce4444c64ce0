//! The benchmark `etcd`: what the etcd operator costs at rest, and what a cluster of its making, its snapshots and its
//! restores are worth beside those by hand.
//!
//! Everything runs as plain processes in namespaces of their own for network, mounts and processes, and so ends with
//! this program however that ends; files lie in one directory that goes with it.

mod audit;
mod hand;
mod idle;
mod members;
mod nodes;
mod operator;
mod pair;
mod puts;
mod snapshots;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use skep_testing::Options;

use super::load::Quiet;
use super::{Report, setting, site};
use crate::soak::etcd::inside;
use crate::soak::etcd::stage::Stage;

/// The version of all members.
const VERSION: &str = "3.7.3";
/// The name of every cluster; each has a namespace of its own.
const CLUSTER: &str = "etcd";

/// How much is done.
#[derive(Debug, Clone)]
struct Settings {
    /// Clusters at rest.
    clusters: usize,
    /// Minutes for which they are looked at.
    windows: usize,
    /// Pairs of samples of a managed cluster and one by hand.
    pairs: usize,
    /// How long a sample is.
    sample: Duration,
    /// Pairs of snapshots and restores, the operator's and by hand.
    snapshots: usize,
    /// Bytes of the values in the database that snapshots are taken of.
    snapshot_bytes: usize,
    /// Where the operator's log goes; it is left behind.
    log: PathBuf,
}

impl Settings {
    /// What is promised, or what `ETCD_CLUSTERS`, `ETCD_MINUTES`, `ETCD_PAIRS`, `ETCD_SAMPLE` (seconds), `ETCD_SNAPSHOTS`
    /// and `ETCD_SNAPSHOT_MB` say; no cluster at rest, no pair, or no snapshot leaves that part out.
    fn from_environment() -> Result<Self> {
        Ok(Self {
            clusters: setting("ETCD_CLUSTERS", 100)?,
            windows: setting("ETCD_MINUTES", 3_usize)?.max(1),
            pairs: setting("ETCD_PAIRS", 5)?,
            sample: Duration::from_secs(setting("ETCD_SAMPLE", 10)?),
            snapshots: setting("ETCD_SNAPSHOTS", 5)?,
            snapshot_bytes: setting("ETCD_SNAPSHOT_MB", 1000_usize)? * 1_000_000,
            log: super::directory()?.join("etcd-operator.log"),
        })
    }
}

/// Runs it and says whether its gates hold.
pub async fn run() -> Result<bool> {
    if inside::is_inside() {
        return measure(&place()?).await;
    }
    site::skep()?;
    let programs = programs()?;
    let directory = place()?;
    remove(&directory).await?;
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = tokio::process::Command::from(inside::again(&["etcd"])?);
    // A group of its own: what is to be ended is ended here.
    command
        .env("TMPDIR", &directory)
        .env("PATH", programs)
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot run unshare")?;
    let ended = tokio::select! {
        status = child.wait() => status.map_err(anyhow::Error::from),
        signalled = site::interrupted() => signalled.and_then(|()| bail!("interrupted")),
    };
    if ended.is_err() {
        child.kill().await?;
    }
    let removed = remove(&directory).await;
    let holds = site::verdict(ended?)?;
    removed?;
    Ok(holds)
}

/// The search path with the programs of `SKEP_TEST_BIN` first: restores run the etcdutl that they find.
fn programs() -> Result<OsString> {
    let directory = std::env::var_os("SKEP_TEST_BIN").map(PathBuf::from);
    let directory = directory.filter(|directory| directory.join("etcdutl").is_file());
    let directory = directory.context(
        "SKEP_TEST_BIN names no directory with etcd, etcdctl, etcdutl and kube-apiserver; \
         `make bench T=etcd` builds and names one",
    )?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory).chain(std::env::split_paths(&inherited));
    Ok(std::env::join_paths(all)?)
}

async fn measure(directory: &Path) -> Result<bool> {
    let settings = Settings::from_environment()?;
    let mut quiet = Quiet::from_environment()?;
    let mut report = Report::new("etcd");
    quiet.begin().await?;
    let options = Options {
        users: vec![(operator::TOKEN, operator::USER)],
        audited: vec![operator::USER],
        ..Options::default()
    };
    let stage = Stage::set(directory.join("stage"), &options).await?;
    if settings.clusters > 0 {
        idle::add(&mut report, &stage, &settings, &mut quiet).await?;
    }
    if settings.pairs > 0 {
        pair::add(&mut report, &stage, &settings, &mut quiet).await?;
    }
    if settings.snapshots > 0 {
        snapshots::add(&mut report, &stage, &settings, &mut quiet).await?;
    }
    report.print();
    println!("written to {}", report.write()?.display());
    Ok(report.holds())
}

/// Where all files are until the end.
fn place() -> Result<PathBuf> {
    Ok(super::directory()?.join("etcd"))
}

fn image() -> String {
    format!("localhost/etcd:{VERSION}")
}

/// Removes a directory; who was just killed may still write there for a moment.
async fn remove(directory: &Path) -> Result<()> {
    let mut outcome = Ok(());
    for _ in 0..50 {
        outcome = match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => return Ok(()),
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    outcome.with_context(|| format!("cannot remove {}", directory.display()))
}
