//! `skep recover-member`: the containers that make the data of the member that is left of a lost quorum anew.

use std::path::Path;

use anyhow::{Context, Result};
use skep_etcd::build::recovering::{JOB, SCRATCH};
use skep_etcd::members::GrpcMembers;
use skep_etcd::recover::{Job, prepare, recover};

/// Moves the data aside, or makes them anew from what was moved.
pub async fn run(volume: &Path, is_first: bool) -> Result<()> {
    skep_runtime::install_crypto();
    let text = std::env::var(JOB).with_context(|| format!("{JOB} does not say what to recover"))?;
    let job: Job = serde_json::from_str(&text).with_context(|| format!("{JOB} cannot be read"))?;
    if is_first {
        return Ok(prepare(&job, volume).await?);
    }
    recover(&GrpcMembers, &job, volume, Path::new(SCRATCH)).await?;
    println!("the data of {} are those of {}", job.name, job.member.name);
    Ok(())
}
