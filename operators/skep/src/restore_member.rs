//! `skep restore-member`: the container that makes a datastore member's data from a snapshot.
//!
//! What to do stands in its environment, as the etcd operator wrote it; its last line is what the operator tells people.

use std::path::Path;

use anyhow::{Context, Result};
use skep_etcd::build::restoring::{CREDENTIALS, JOB, keys_file};
use skep_etcd::restore::{Job, Restored, restore};
use skep_snapshots::{Credentials, Keys};

/// Makes the data, or leaves those that are there.
pub async fn run(volume: &Path) -> Result<()> {
    skep_runtime::install_crypto();
    let text = std::env::var(JOB).with_context(|| format!("{JOB} does not say what to restore"))?;
    let job: Job = serde_json::from_str(&text).with_context(|| format!("{JOB} cannot be read"))?;
    let file = keys_file();
    let keys = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let keys = Keys::parse(&keys).with_context(|| format!("in {}", file.display()))?;
    let [access_key, secret_key] = CREDENTIALS.map(|(variable, _)| std::env::var(variable).ok());
    let credentials = access_key
        .zip(secret_key)
        .map(|(access_key, secret_key)| Credentials {
            access_key,
            secret_key,
        });
    match restore(&job, volume, keys, credentials.as_ref()).await? {
        Restored::WasThere => println!("data are there; nothing was restored"),
        Restored::Made(manifest) => println!(
            "{} bytes of snapshot {} became the data of {}",
            manifest.bytes,
            manifest.about.id(),
            job.member.name
        ),
    }
    Ok(())
}
