//! Long and seeded runs that look for faults: each round has a seed and can be repeated by it.
//!
//! Rounds are written down in `target/soak/NAME.jsonl`, so that a run that was cut off goes on where it was: until a commit
//! changes what the soak tests.

pub mod etcd;
mod ledger;
pub mod planner;
mod points;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::report::last_change;
use crate::bench::setting;
use ledger::{Entry, Ledger, Totals};
use points::Points;

/// The soaks that there are, in the order in which all of them are run.
pub const NAMES: [&str; 2] = ["planner", "etcd"];

/// How long a part goes on.
#[derive(Clone, Copy)]
enum Goal {
    /// So many seconds of rounds, with the seeds from 1.
    Seconds(u64),
    /// So many seeds, from 1.
    Seeds(u64),
    /// All points at which something is interrupted.
    Points(Points),
}

/// One round by its seed; an error is a fault that was found.
type Round = Box<dyn Fn(u64) -> Result<Totals> + Send + Sync>;

/// A part of a soak: how long it goes on, and how it is made ready for its rounds.
struct Part {
    name: &'static str,
    goal: Goal,
    /// How many rounds run at a time.
    lanes: usize,
    prepare: fn() -> Result<Round>,
    /// What is tested, as paths from the root of the tree: a change of it makes all rounds worthless.
    tests: &'static [&'static str],
}

const PLANNER_TESTS: &[&str] = &["cells/planner", "scenarios", "e2e/src/soak", "Cargo.lock"];
const ETCD_TESTS: &[&str] = &[
    "operators/api",
    "operators/core",
    "operators/etcd",
    "operators/pki",
    "operators/runtime",
    "operators/snapshots",
    "operators/testing",
    "e2e/src/soak",
    "Cargo.lock",
];

const PLANNER: [Part; 1] = [Part {
    name: "planner",
    goal: Goal::Seconds(600),
    lanes: 1,
    prepare: || Ok(Box::new(planner::round)),
    tests: PLANNER_TESTS,
}];

const ETCD: [Part; 3] = [
    Part {
        name: "etcd-faults",
        goal: Goal::Seeds(100),
        lanes: 10,
        prepare: || {
            let soak = etcd::EtcdSoak::shared()?;
            Ok(Box::new(move |seed| soak.round(seed)))
        },
        tests: ETCD_TESTS,
    },
    Part {
        name: "etcd-changes",
        goal: Goal::Points(etcd::crashes(etcd::Fatal::Change)),
        lanes: 10,
        prepare: || {
            let soak = etcd::EtcdSoak::shared()?;
            Ok(Box::new(move |seed| soak.crash(etcd::Fatal::Change, seed)))
        },
        tests: ETCD_TESTS,
    },
    // Some thousand rounds, of which most leave what those before them leave: hours.
    Part {
        name: "etcd-crashes",
        goal: Goal::Points(etcd::crashes(etcd::Fatal::Call)),
        lanes: 10,
        prepare: || {
            let soak = etcd::EtcdSoak::shared()?;
            Ok(Box::new(move |seed| soak.crash(etcd::Fatal::Call, seed)))
        },
        tests: ETCD_TESTS,
    },
];

/// Runs a soak to its end, or the round of one seed, and says whether no fault was found. `SOAK_PART` is the one part to
/// run, `SOAK_ROUNDS` a sample of so many rounds instead of all.
///
/// # Errors
/// When a part cannot be made ready, or its ledger can be neither read nor written.
pub fn run(name: &str, seed: Option<u64>) -> Result<bool> {
    if name == "etcd" && !etcd::inside::is_inside() {
        return etcd::inside::run_again(&[name]);
    }
    let parts: &[Part] = if name == "etcd" { &ETCD } else { &PLANNER };
    let only = std::env::var("SOAK_PART").unwrap_or_default();
    let sample = setting("SOAK_ROUNDS", 0_u64)?;
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    ensure!(
        only.is_empty() || names.contains(&only.as_str()),
        "SOAK_PART: soak {name} has no part {only}; it has: {}",
        names.join(", ")
    );
    let mut is_well = true;
    for part in parts.iter().filter(|part| only.is_empty() || part.name == only) {
        is_well = is_well
            && match (seed, sample) {
                (Some(seed), _) => part.repeat(seed)?,
                (None, 0) => part.run()?,
                (None, rounds) => part.sample(rounds)?,
            };
    }
    Ok(is_well)
}

impl Part {
    /// Runs one round and writes nothing down.
    fn repeat(&self, seed: u64) -> Result<bool> {
        let entry = self.play(&(self.prepare)()?, seed);
        println!("{}: {}", self.name, entry.totals);
        Ok(entry.is_well())
    }

    /// Goes on where it was until the goal is reached or a fault is found.
    fn run(&self) -> Result<bool> {
        let commit = last_change(self.tests).unwrap_or_else(|| "unknown-dirty".to_owned());
        let ledger = Ledger::open(self.name, &commit)?;
        println!(
            "{} since {commit}: {} of {} done",
            self.name,
            self.goal.done(&ledger),
            self.goal
        );
        let next = |ledger: &Ledger, begun: &BTreeSet<u64>| self.goal.next(ledger, begun);
        Ok(self.run_lanes(ledger, self.goal.count(), next)?.0)
    }

    /// Runs some rounds that are spread over what there is.
    fn sample(&self, rounds: u64) -> Result<bool> {
        println!("{}: a sample of {rounds} rounds", self.name);
        let ledger = Ledger::fresh(self.name)?;
        let (is_well, ledger) = self.run_lanes(ledger, rounds, |ledger, begun| match self.goal {
            Goal::Points(points) => points.next_of_sample(ledger, begun, rounds),
            Goal::Seconds(_) | Goal::Seeds(_) => (1..=rounds).find(|seed| !begun.contains(seed)),
        })?;
        if let Goal::Points(points) = self.goal {
            let spared = ledger.done().iter().find(|entry| points.is_spared(entry));
            let seed = spared.map(|entry| entry.seed);
            ensure!(
                seed.is_none(),
                "{}: nothing was interrupted in round {seed:?}",
                self.name
            );
        }
        Ok(is_well)
    }

    /// Runs rounds side by side as long as there is a next one.
    fn run_lanes(
        &self,
        ledger: Ledger,
        count: u64,
        next: impl Fn(&Ledger, &BTreeSet<u64>) -> Option<u64> + Sync,
    ) -> Result<(bool, Ledger)> {
        let round = (self.prepare)()?;
        let bar = ProgressBar::new(count).with_style(ProgressStyle::with_template(
            "{bar:40} {pos}/{len}, {elapsed}, {msg}",
        )?);
        let progress = Mutex::new(Progress {
            ledger,
            begun: BTreeSet::new(),
            is_well: true,
        });
        let lane = || -> Result<()> {
            loop {
                let seed = {
                    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                    let next = next(&progress.ledger, &progress.begun).filter(|_| progress.is_well);
                    let Some(seed) = next else {
                        return Ok(());
                    };
                    progress.begun.insert(seed);
                    seed
                };
                bar.set_message(format!("seed {seed}"));
                let entry = self.play(&round, seed);
                if bar.is_hidden() {
                    println!("{} seed {seed}: {}", self.name, entry.totals);
                }
                let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                progress.is_well &= entry.is_well();
                progress.ledger.write(entry)?;
                bar.set_position(self.goal.done(&progress.ledger));
            }
        };
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..self.lanes).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().try_for_each(|lane| match lane.join() {
                Ok(outcome) => outcome,
                Err(_) => anyhow::bail!("a round broke off"),
            })
        })?;
        bar.finish_and_clear();
        let Progress { ledger, is_well, .. } = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let verdict = if is_well { "no fault" } else { "A FAULT" };
        let (rounds, seconds, totals) = (ledger.rounds(), ledger.seconds(), ledger.totals());
        println!(
            "{}: {rounds} rounds of {seconds:.0} s together, {verdict}: {totals}",
            self.name
        );
        Ok((is_well, ledger))
    }

    fn play(&self, round: &Round, seed: u64) -> Entry {
        let begun = Instant::now();
        let outcome = round(seed);
        let seconds = begun.elapsed().as_secs_f64();
        if let Err(fault) = &outcome {
            eprintln!("{} found a fault with seed {seed}: {fault:#}", self.name);
            let (soak, part) = (self.name.split('-').next().unwrap_or_default(), self.name);
            eprintln!("repeat it with: SOAK_PART={part} make soak T={soak} SEED={seed}");
        }
        let fault = outcome.as_ref().err().map(|fault| format!("{fault:#}"));
        Entry::new(seed, seconds, outcome.unwrap_or_default(), fault)
    }
}

/// Where a part is.
struct Progress {
    ledger: Ledger,
    begun: BTreeSet<u64>,
    is_well: bool,
}

impl Goal {
    /// The next seed, if the goal is not reached with those that were begun.
    fn next(self, ledger: &Ledger, begun: &BTreeSet<u64>) -> Option<u64> {
        let seed = ledger.next_seed(begun);
        match self {
            Self::Seconds(seconds) => (self.done(ledger) < seconds).then_some(seed),
            Self::Seeds(seeds) => (seed <= seeds).then_some(seed),
            Self::Points(points) => points.next(ledger, begun),
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Seconds(count) | Self::Seeds(count) => count,
            Self::Points(points) => points.about,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands of seconds"
    )]
    fn done(self, ledger: &Ledger) -> u64 {
        match self {
            Self::Seconds(_) => ledger.seconds() as u64,
            Self::Seeds(_) | Self::Points(_) => ledger.rounds() as u64,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(count) => write!(f, "{count} s are"),
            Self::Seeds(count) => write!(f, "{count} seeds are"),
            Self::Points(_) => f.write_str("all points are"),
        }
    }
}
