//! Writes to and reads from one datastore until its standard input ends, then judges what it was told and prints it as
//! JSON: `etcd-clients NAMESPACE CLUSTER CLIENT PORCUPINE`, where CLIENT is one of the cluster's clients.
//!
//! With `fill` after these it writes large values under one key until etcd takes no more, and waits until it takes something
//! again; with `fill-with-data` under many keys, again and again after etcd took no more, until its standard input ends; with `remember` it
//! writes some keys, with `recall` it finds them again.

use std::process::ExitCode;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use skep_e2e::soak::etcd::writers::{Filling, Place, Writers, fill, recall, remember};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("etcd-clients: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<serde_json::Value> {
    skep_runtime::install_crypto();
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().with_context(|| format!("no {name} is given"));
    let (namespace, cluster, identity) = (next("NAMESPACE")?, next("CLUSTER")?, next("CLIENT")?);
    let porcupine = next("PORCUPINE")?;
    let place = Place {
        client: kube::Client::try_default().await?,
        namespace,
        cluster,
        identity,
    };
    let task = next("task").unwrap_or_default();
    let mut chance = StdRng::seed_from_u64(1);
    let done = match task.as_str() {
        // Nothing is read meanwhile: a read that waits would keep this process.
        "fill" => fill(&place, Filling::History, &mut chance).await,
        "fill-with-data" => tokio::select! {
            filled = fill(&place, Filling::Data, &mut chance) => filled,
            () = input_ends() => Ok(()),
        },
        "remember" => remember(&place, &mut chance).await,
        "recall" => {
            let revision = recall(&place, &mut chance).await?;
            return Ok(serde_json::json!({"revision": revision}));
        }
        _ => return write(&place, &porcupine).await,
    };
    done.map(|()| serde_json::json!({}))
}

async fn write(place: &Place, porcupine: &str) -> Result<serde_json::Value> {
    let writers = Writers::start(place, 1);
    input_ends().await;
    let checked = writers.stop().await.check(porcupine.as_ref())?;
    Ok(serde_json::to_value(checked)?)
}

/// Waits until whoever started this has had enough, or is gone.
async fn input_ends() {
    // Input that cannot be read has ended as well.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}
