//! Etcd under its operator while everything fails: real etcds as plain processes, a real kube-apiserver, a real operator,
//! and clients that never stop writing.
//!
//! Whatever fails, no acknowledged write is lost, no revision goes back, no volume of a member goes, and once the faults
//! have stopped the cluster is whole and the operator writes nothing any more.

mod container;
mod faults;
mod hosts;
pub mod inside;
mod kubelet;
mod kv;
mod machine;
pub mod operator;
mod stage;
mod writers;

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::ledger::Totals;
use faults::Fault;
use stage::{Site, Stage};

/// For how long nothing may be written once all is whole, in most rounds.
const SILENCE: Duration = Duration::from_secs(6);
/// How many steps a round has.
const STEPS: u32 = 3;

/// The soak, with its stage.
pub struct EtcdSoak {
    runtime: tokio::runtime::Runtime,
    stage: Stage,
}

impl EtcdSoak {
    /// The one of this process, with its stage set; some ten seconds the first time.
    ///
    /// # Errors
    /// When something of it does not start.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<EtcdSoak> = OnceLock::new();
        if let Some(soak) = SHARED.get() {
            return Ok(soak);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let stage = runtime.block_on(Stage::set())?;
        Ok(SHARED.get_or_init(|| Self { runtime, stage }))
    }

    /// Runs the round of a seed: steps with faults.
    ///
    /// # Errors
    /// What was lost, or never became whole.
    pub fn round(&self, seed: u64) -> Result<Totals> {
        self.runtime.block_on(round(&self.stage, seed))
    }

    /// Forms a cluster, heals it and resizes it, while the operator dies after a given number of its calls.
    ///
    /// # Errors
    /// What was lost, or never became whole.
    pub fn crash(&self, calls: u64) -> Result<Totals> {
        self.runtime.block_on(crash(&self.stage, calls))
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
    let mut site = Site::open(stage, &format!("s{seed}"), members, None).await?;
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
    finish(site, writers, silence(seed), totals).await
}

/// A minute in the first of each twenty rounds, while others run beside it; ten minutes in each hundredth.
fn silence(seed: u64) -> Duration {
    match seed {
        seed if seed.is_multiple_of(100) => Duration::from_mins(10),
        seed if seed % 20 == 1 => Duration::from_mins(1),
        _ => SILENCE,
    }
}

/// Every part of a member's life: it is formed, joined, lost, replaced and removed.
async fn crash(stage: &Stage, calls: u64) -> Result<Totals> {
    let calls = u32::try_from(calls).context("so many calls are never made")?;
    let mut chance = StdRng::seed_from_u64(calls.into());
    let mut site = Site::open(stage, &format!("c{calls}"), 1, Some(calls)).await?;
    site.wait_until_whole(1).await.context("it was never formed")?;
    let writers = writers::Writers::start(&site.place, calls.into());
    site.resize(3).await?;
    site.wait_until_whole(3)
        .await
        .context("it never had three members")?;
    let victim = site
        .machines
        .names()
        .choose(&mut chance)
        .cloned()
        .context("there is no member")?;
    wipe(&site, &victim);
    site.wait_until_changed(&victim).await?;
    site.wait_until_whole(3).await.context("it never healed")?;
    site.resize(1).await?;
    site.wait_until_whole(1)
        .await
        .context("it never had one member again")?;
    let mut totals = Totals::default();
    totals.add(CRASHES, site.deaths.into());
    finish(site, writers, SILENCE, totals).await
}

/// How deaths of the operator are counted.
pub const CRASHES: &str = "deaths of the operator";

/// What must hold once all is over.
async fn finish(
    site: Site<'_>,
    writers: writers::Writers,
    silence: Duration,
    mut totals: Totals,
) -> Result<Totals> {
    let before = writers.history.acknowledged();
    tokio::time::timeout(Duration::from_secs(20), async {
        while writers.history.acknowledged() <= before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .context("no write was acknowledged after the last step")?;
    let history = tokio::time::timeout(Duration::from_mins(1), writers.stop())
        .await
        .context("clients do not end")?;
    site.is_silent(silence).await?;
    site.has_all_volumes().await?;
    let checked = history.check(site.porcupine())?;
    ensure!(
        checked.writes > 20,
        "hardly a write was acknowledged: {checked:?}"
    );
    totals.add("acknowledged writes", checked.writes);
    totals.add("reads", checked.reads);
    totals.add("writes without an answer", checked.unknown);
    let silence = u64::try_from(checked.longest_silence.as_millis()).unwrap_or(u64::MAX);
    totals.add("milliseconds of longest silences", silence);
    site.close().await?;
    Ok(totals)
}

fn wipe(site: &Site<'_>, pod: &str) {
    site.machines.change(pod, |machine| machine.is_to_be_wiped = true);
    if let Some(machine) = site.machines.get(pod) {
        machine.signal(nix::sys::signal::Signal::SIGKILL);
    }
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
        Step::Wipe => wipe(site, &victim),
    }
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..4000))).await;
    let fault = Fault::choose(chance, &site.machines.names());
    fault.happen(site, chance).await?;
    if step == Step::Wipe {
        site.wait_until_changed(&victim).await?;
    }
    Ok(fault.to_string())
}
