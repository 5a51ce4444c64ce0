//! `skep drill-member`: the container that compares the etcd beside it with what a snapshot should hold.
//!
//! What it finds goes to the operator as its termination message.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use skep_etcd::build::drill::EXPECTED;
use skep_etcd::drill::{Expected, compare};
use skep_etcd::members::GrpcMembers;

/// The longest that the etcd may take to start: a large database is read and checked first.
const LONGEST: Duration = Duration::from_mins(10);

/// Compares, and fails where something differs.
pub async fn run(message: &Path) -> Result<()> {
    skep_runtime::install_crypto();
    let text = std::env::var(EXPECTED).with_context(|| format!("{EXPECTED} does not say what to expect"))?;
    let expected: Expected =
        serde_json::from_str(&text).with_context(|| format!("{EXPECTED} cannot be read"))?;
    let report = compare(&GrpcMembers, &expected, LONGEST)
        .await
        .context("the etcd that was started from the snapshot does not serve")?;
    let told = serde_json::to_string(&report).context("cannot tell what was found")?;
    std::fs::write(message, told).with_context(|| format!("cannot write {}", message.display()))?;
    match report.differs {
        Some(differs) => bail!("the snapshot is not what was taken: {differs}"),
        None => Ok(()),
    }
}
