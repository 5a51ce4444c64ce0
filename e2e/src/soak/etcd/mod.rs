//! Etcd under its operator while everything fails: real etcds as plain processes, a real kube-apiserver, a real operator,
//! and clients that never stop writing.
//!
//! Whatever fails, no acknowledged write is lost, no revision goes back, no volume of a member goes, and once the faults
//! have stopped the cluster is whole and the operator writes nothing any more.

mod faults;
pub mod inside;
mod kubelet;
mod kv;
mod machine;
pub mod operator;
mod stage;
mod writers;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::ledger::Totals;
use faults::Fault;
use stage::{Site, Stage};

/// How long after the last fault the operator must be found silent.
const SILENCE: Duration = Duration::from_secs(8);
/// How many steps a round has.
const STEPS: u32 = 3;

/// The soak, with its stage.
pub struct EtcdSoak {
    runtime: tokio::runtime::Runtime,
    stage: Stage,
}

impl EtcdSoak {
    /// Sets the stage; some ten seconds.
    ///
    /// # Errors
    /// When something of it does not start.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let stage = runtime.block_on(Stage::set())?;
        Ok(Self { runtime, stage })
    }

    /// Runs the round of a seed.
    ///
    /// # Errors
    /// What was lost, or never became whole.
    pub fn round(&mut self, seed: u64) -> Result<Totals> {
        self.runtime.block_on(round(&self.stage, seed))
    }
}

/// What is done to a cluster on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Another number of members.
    Resize(i32),
    /// A pod is deleted, as in a drain.
    Evict,
    /// A member loses its data.
    Wipe,
}

async fn round(stage: &Stage, seed: u64) -> Result<Totals> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut totals = Totals::default();
    let mut members = *[1, 3, 3].choose(&mut chance).unwrap_or(&3);
    let mut site = Site::open(stage, &format!("s{seed}"), members).await?;
    site.wait_until_whole(members)
        .await
        .context("it was never formed")?;
    let writers = writers::Writers::start(&site.place, seed);
    for _ in 0..STEPS {
        let step = choose(members, &mut chance);
        if let Step::Resize(to) = step {
            members = to;
        }
        let told = take(&mut site, step, &mut chance)
            .await
            .with_context(|| format!("step {step:?}"))?;
        site.wait_until_whole(members)
            .await
            .with_context(|| format!("after step {step:?} with {told}"))?;
        totals.add("steps", 1);
        totals.add("faults", u64::from(told != faults::NONE));
    }
    let before = writers.history.acknowledged();
    tokio::time::timeout(Duration::from_secs(20), async {
        while writers.history.acknowledged() <= before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .context("no write was acknowledged after the last step")?;
    let history = tokio::time::timeout(Duration::from_secs(60), writers.stop())
        .await
        .context("clients do not end")?;
    site.is_silent(SILENCE).await?;
    site.has_all_volumes().await?;
    let checked = history.check(&stage.porcupine)?;
    ensure!(
        checked.writes > 20,
        "hardly a write was acknowledged: {checked:?}"
    );
    let silence = u64::try_from(checked.longest_silence.as_millis()).unwrap_or(u64::MAX);
    totals.add("milliseconds of longest silences", silence);
    totals.add("acknowledged writes", checked.writes);
    totals.add("reads", checked.reads);
    totals.add("writes without an answer", checked.unknown);
    site.close().await?;
    Ok(totals)
}

fn choose(members: i32, chance: &mut StdRng) -> Step {
    let steps: &[Step] = match members {
        1 => &[Step::Resize(3), Step::Evict],
        _ => &[Step::Resize(1), Step::Evict, Step::Wipe, Step::Wipe],
    };
    *steps.choose(chance).unwrap_or(&Step::Evict)
}

/// Takes a step and lets a fault happen in its first seconds; says which.
async fn take(site: &mut Site<'_>, step: Step, chance: &mut StdRng) -> Result<String> {
    let victim = site
        .machines
        .names()
        .choose(chance)
        .cloned()
        .context("there is no member")?;
    match step {
        Step::Resize(members) => site.resize(members).await?,
        Step::Evict => site.delete_pod(&victim).await?,
        Step::Wipe => {
            site.machines
                .change(&victim, |machine| machine.is_to_be_wiped = true);
            if let Some(machine) = site.machines.get(&victim) {
                machine.signal(nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..4000))).await;
    let fault = Fault::choose(chance, site.machines.names());
    fault.happen(site, chance).await?;
    Ok(fault.to_string())
}
