//! Etcd under its operator while everything fails: real etcds as plain processes, a real kube-apiserver, a real operator,
//! and clients that never stop writing.
//!
//! Whatever fails, no acknowledged write is lost, no revision goes back, no volume of a member goes, and once the faults
//! have stopped the cluster is whole and the operator writes nothing any more.

mod checks;
pub(crate) mod container;
mod crashes;
mod faults;
pub mod history;
pub(crate) mod hosts;
pub mod inside;
pub(crate) mod kubelet;
pub(crate) mod kv;
pub(crate) mod machine;
pub mod operator;
pub(crate) mod stage;
pub(crate) mod tally;
mod waits;
pub mod writers;

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::ledger::Totals;
pub use crashes::crashes;
use faults::Fault;
use stage::{Site, Stage};
pub use tally::Fatal;

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
        let directory = crate::bench::directory()?.with_file_name("soak").join("etcd");
        let stage = runtime.block_on(Stage::set(directory, &skep_testing::Options::default()))?;
        Ok(SHARED.get_or_init(|| Self { runtime, stage }))
    }

    /// Runs the round of a seed: steps with faults.
    ///
    /// # Errors
    /// What was lost, or never became whole.
    pub fn round(&self, seed: u64) -> Result<Totals> {
        self.runtime.block_on(round(&self.stage, seed))
    }

    /// Lets a cluster live through all phases, while the operator dies after one of its calls in one of them: at the point
    /// of a seed.
    ///
    /// # Errors
    /// What was lost, or never became whole.
    pub fn crash(&self, fatal: Fatal, seed: u64) -> Result<Totals> {
        let point = crashes(fatal).point(seed);
        self.runtime.block_on(crashes::crash(&self.stage, fatal, point))
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
    /// All members come to the newest version.
    Upgrade,
    /// All members are made anew with another limit of memory.
    Tune(u32),
    /// The database is full.
    Fill,
    /// A member has to leave its node.
    Move,
    /// The node of a member is gone for good.
    LoseNode,
}

/// The version that upgrades come from, and the one that they go to.
const VERSIONS: [&str; 2] = ["3.6.14", "3.7.3"];

async fn round(stage: &Stage, seed: u64) -> Result<Totals> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut totals = Totals::default();
    let mut members = *[1, 3, 3].choose(&mut chance).unwrap_or(&3);
    let mut version = *VERSIONS.choose(&mut chance).unwrap_or(&VERSIONS[1]);
    let mut site = Site::open(stage, &format!("s{seed}"), members, version, None).await?;
    site.wait_until_whole(members)
        .await
        .context("it was never formed")?;
    let writers = writers::Writers::start(&site.place, seed);
    for _ in 0..STEPS {
        let step = choose(members, version, &mut chance);
        match step {
            Step::Resize(to) => members = to,
            Step::Upgrade => version = VERSIONS[1],
            Step::Evict | Step::Wipe | Step::Tune(_) | Step::Fill | Step::Move | Step::LoseNode => {}
        }
        let (told, left) = take(&mut site, step, members, &mut chance)
            .await
            .with_context(|| format!("step {step:?}"))?;
        site.wait_until_whole(members)
            .await
            .with_context(|| format!("after step {step:?} with {told}"))?;
        if let Some(node) = left {
            site.has_left(&node).await?;
        }
        totals.add("steps", 1);
        totals.add("faults", u64::from(told != faults::NONE));
    }
    settle(&mut site, writers, silence(seed), &mut totals).await?;
    site.delete().await?;
    site.has_all_volumes().await?;
    site.close()?;
    Ok(totals)
}

/// A minute in the first of each twenty rounds, while others run beside it; ten minutes in each hundredth.
fn silence(seed: u64) -> Duration {
    match seed {
        seed if seed.is_multiple_of(100) => Duration::from_mins(10),
        seed if seed % 20 == 1 => Duration::from_mins(1),
        _ => SILENCE,
    }
}

fn choose_member(site: &Site<'_>, chance: &mut StdRng) -> Result<String> {
    let names = site.machines.names();
    names.choose(chance).cloned().context("there is no member")
}

/// What must hold once all is over.
async fn settle(
    site: &mut Site<'_>,
    writers: writers::Writers,
    silence: Duration,
    totals: &mut Totals,
) -> Result<()> {
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
    let checked = history.check(&inside::porcupine()?)?;
    ensure!(
        checked.writes > 20,
        "hardly a write was acknowledged: {checked:?}"
    );
    totals.add("acknowledged writes", checked.writes);
    totals.add("reads", checked.reads);
    totals.add("writes without an answer", checked.unknown);
    let silence = u64::try_from(checked.longest_silence.as_millis()).unwrap_or(u64::MAX);
    totals.add("milliseconds of longest silences", silence);
    Ok(())
}

fn wipe(site: &Site<'_>, pod: &str) {
    site.machines.change(pod, |machine| machine.is_to_be_wiped = true);
    if let Some(machine) = site.machines.get(pod) {
        machine.signal(nix::sys::signal::Signal::SIGKILL);
    }
}

fn choose(members: i32, version: &str, chance: &mut StdRng) -> Step {
    let mut steps = match members {
        1 => vec![
            Step::Resize(3),
            Step::Resize(3),
            Step::Evict,
            Step::Move,
            Step::Fill,
        ],
        _ => vec![
            Step::Resize(1),
            Step::Evict,
            Step::Wipe,
            Step::Wipe,
            Step::Move,
            Step::LoseNode,
            Step::Fill,
        ],
    };
    if version == VERSIONS[1] {
        steps.push(Step::Tune(chance.random_range(256..384)));
    } else {
        steps.extend([Step::Upgrade; 3]);
    }
    *steps.choose(chance).unwrap_or(&Step::Evict)
}

/// Takes a step and lets a fault happen in its first seconds; says which, and which node a member had to leave.
async fn take(
    site: &mut Site<'_>,
    step: Step,
    members: i32,
    chance: &mut StdRng,
) -> Result<(String, Option<String>)> {
    let victim = choose_member(site, chance)?;
    let mut left = None;
    match step {
        Step::Resize(members) => site.resize(members).await?,
        Step::Evict => site.delete_pod(&victim).await?,
        Step::Wipe => wipe(site, &victim),
        Step::Upgrade => site.upgrade(VERSIONS[1]).await?,
        Step::Tune(mebibytes) => site.tune(mebibytes).await?,
        Step::Move => left = site.relocate(&victim).await?,
        Step::Fill | Step::LoseNode => {}
    }
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..4000))).await;
    let fault = Fault::choose(chance, &site.machines.names());
    fault.happen(site, chance).await?;
    match step {
        Step::Wipe => site.wait_until_changed(&victim).await?,
        // After the fault: of three members one may be gone at a time.
        Step::LoseNode => site.lose_node_of(&victim, members).await?,
        // After the fault, so that it does not hold the step up.
        Step::Fill => site.fill(chance).await?,
        _ => {}
    }
    Ok((fault.to_string(), left))
}
