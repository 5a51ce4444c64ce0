//! Long and seeded runs that look for faults: each round has a seed and can be repeated by it.
//!
//! Rounds of a commit are written down in `target/soak/NAME.jsonl`, so that a run that was cut off goes on where it was.

pub mod etcd;
mod ledger;
pub mod planner;

use std::fmt;
use std::time::Instant;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::report::commit;
use ledger::{Entry, Ledger, Totals};

/// The soaks that there are, in the order in which all of them are run.
pub const NAMES: [&str; 2] = ["planner", "etcd"];

/// How long a soak goes on.
#[derive(Clone, Copy)]
enum Goal {
    Seconds(u64),
    Rounds(u64),
}

/// One round by its seed; an error is a fault that was found.
type Round = Box<dyn FnMut(u64) -> Result<Totals>>;

/// A soak: how long it goes on, and how it is made ready for its rounds.
struct Soak {
    name: &'static str,
    goal: Goal,
    /// Whether it runs in namespaces of its own.
    is_apart: bool,
    prepare: fn() -> Result<Round>,
}

const SOAKS: [Soak; 2] = [
    Soak {
        name: "planner",
        goal: Goal::Seconds(600),
        is_apart: false,
        prepare: || Ok(Box::new(planner::round)),
    },
    Soak {
        name: "etcd",
        goal: Goal::Rounds(100),
        is_apart: true,
        prepare: || {
            let mut soak = etcd::EtcdSoak::new()?;
            Ok(Box::new(move |seed| soak.round(seed)))
        },
    },
];

fn named(name: &str) -> Result<&'static Soak> {
    let soak = SOAKS.iter().find(|soak| soak.name == name);
    soak.with_context(|| format!("there is no soak {name}; there are: {}", NAMES.join(", ")))
}

/// Runs a soak to its end, or the round of one seed, and says whether no fault was found.
///
/// # Errors
/// When there is no such soak, or its ledger can be neither read nor written.
pub fn run(name: &str, seed: Option<u64>) -> Result<bool> {
    let soak = named(name)?;
    if soak.is_apart && !etcd::inside::is_inside() {
        return etcd::inside::run_again(&[name]);
    }
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    let mut ledger = Ledger::open(name, &commit)?;
    let mut round = (soak.prepare)()?;
    if let Some(seed) = seed {
        let entry = soak.play(&mut round, seed);
        println!("{}", entry.totals);
        return Ok(entry.is_well());
    }
    println!(
        "soak {name} at {commit}: {} of {} are done; it goes on with seed {}",
        soak.goal.done(&ledger),
        soak.goal,
        ledger.next_seed()
    );
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}, {elapsed}, {msg}")?;
    let bar = ProgressBar::new(soak.goal.count()).with_style(style);
    let mut is_well = true;
    while is_well && soak.goal.done(&ledger) < soak.goal.count() {
        let seed = ledger.next_seed();
        bar.set_message(format!("seed {seed}"));
        let entry = soak.play(&mut round, seed);
        is_well = entry.is_well();
        if bar.is_hidden() {
            println!("seed {seed}: {}", entry.totals);
        }
        ledger.write(entry)?;
        bar.set_position(soak.goal.done(&ledger));
    }
    bar.finish_and_clear();
    println!(
        "{name}: {} rounds in {:.0} s, {}: {}",
        ledger.rounds(),
        ledger.seconds(),
        if is_well { "no fault" } else { "A FAULT" },
        ledger.totals()
    );
    Ok(is_well)
}

impl Goal {
    fn count(self) -> u64 {
        match self {
            Self::Seconds(count) | Self::Rounds(count) => count,
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
            Self::Rounds(_) => ledger.rounds() as u64,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(count) => write!(f, "{count} s"),
            Self::Rounds(count) => write!(f, "{count} rounds"),
        }
    }
}

impl Soak {
    fn play(&self, round: &mut Round, seed: u64) -> Entry {
        let begun = Instant::now();
        let outcome = round(seed);
        let seconds = begun.elapsed().as_secs_f64();
        if let Err(fault) = &outcome {
            eprintln!("{} found a fault with seed {seed}: {fault:#}", self.name);
            eprintln!("repeat it with: make soak T={} SEED={seed}", self.name);
        }
        let fault = outcome.as_ref().err().map(|fault| format!("{fault:#}"));
        Entry::new(seed, seconds, outcome.unwrap_or_default(), fault)
    }
}
