//! Many clusters at once: how long each takes, whether all become ready, and what they take at rest.

use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;

use super::cell::{self, Memory};
use super::user::{self, Creation};
use super::{Bench, Operators, say};

/// What came of many clusters at once.
#[derive(Debug)]
pub struct AtOnce {
    /// How many were asked for.
    pub asked: usize,
    /// Seconds until the namespaces were listed, of each; the time limit for one that never answered.
    pub seconds: Vec<f64>,
    /// How many were not called ready in time.
    pub unready: usize,
    /// How often containers were started anew.
    pub restarts: i32,
    /// The memory of each tenant in bytes, at rest.
    pub memory: Vec<Memory>,
    /// The platform's own memory beside them.
    pub operators: Operators,
}

/// Creates the clusters and removes them again; nothing when none are asked for.
pub async fn run(bench: &mut Bench) -> Result<Option<AtOnce>> {
    let asked = bench.settings.at_once;
    if asked == 0 {
        return Ok(None);
    }
    bench.quiet.wait(&format!("{asked} clusters at once")).await?;
    let names: Vec<String> = (1..=asked).map(|number| format!("at-once-{number}")).collect();
    let period = period(asked);
    let created = join_all(names.iter().map(|name| user::create(name, None, period))).await;
    let mut seconds = Vec::new();
    let mut clusters = Vec::new();
    for (name, created) in names.iter().zip(created) {
        match created {
            Ok(Creation { cpid, answered, .. }) => {
                seconds.push(answered.as_secs_f64());
                clusters.push((name.clone(), cpid));
            }
            Err(error) => {
                say(&format!("{name}: {error:#}"));
                seconds.push(user::PATIENCE.as_secs_f64());
            }
        }
    }
    say(&format!("{asked} at once: {seconds:.1?} s"));
    let mut unready = asked - clusters.len();
    for (name, _) in &clusters {
        if let Err(error) = user::await_ready(&bench.platform, name).await {
            say(&format!("{error:#}"));
            unready += 1;
        }
    }
    bench.settle().await;
    let cpids: Vec<String> = clusters.iter().map(|(_, cpid)| cpid.clone()).collect();
    let mut memory = Vec::new();
    for cpid in &cpids {
        memory.push(cell::tenant_memory(&bench.hub, cpid).await?);
    }
    let found = AtOnce {
        asked,
        seconds,
        unready,
        restarts: cell::restarts(&bench.hub, &cpids).await?,
        memory,
        operators: bench.operators().await?,
    };
    cell::remove(&bench.platform, &bench.hub, &clusters).await?;
    Ok(Some(found))
}

/// The pause between two tries of one user among many: all together try as often as one alone, so that the
/// questions take no more of the machine.
fn period(asked: usize) -> Duration {
    user::PERIOD * u32::try_from(asked).unwrap_or(u32::MAX).max(1)
}
