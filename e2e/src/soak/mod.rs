//! Long and seeded runs that look for faults: each round has a seed and can be repeated by it.
//!
//! Rounds of a commit are written down in `target/soak/NAME.jsonl`, so that a run that was cut off goes on where it was.

mod ledger;
pub mod planner;

use std::time::Instant;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::report::commit;
use ledger::{Entry, Ledger, Totals};

/// The soaks that there are, in the order in which all of them are run.
pub const NAMES: [&str; 1] = ["planner"];

/// A soak: how long it goes on, and one round of it.
struct Soak {
    name: &'static str,
    /// For how long rounds are run, all in all, in seconds.
    seconds: f64,
    /// Runs the round of a seed; an error is a fault that was found.
    round: fn(u64) -> Result<Totals>,
}

fn named(name: &str) -> Result<Soak> {
    match name {
        "planner" => Ok(Soak {
            name: "planner",
            seconds: 600.0,
            round: planner::round,
        }),
        _ => bail!("there is no soak {name}; there are: {}", NAMES.join(", ")),
    }
}

/// Runs a soak to its end, or the round of one seed, and says whether no fault was found.
///
/// # Errors
/// When there is no such soak, or its ledger can be neither read nor written.
pub fn run(name: &str, seed: Option<u64>) -> Result<bool> {
    let soak = named(name)?;
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    let mut ledger = Ledger::open(name, &commit)?;
    if let Some(seed) = seed {
        let entry = soak.play(seed);
        println!("{}", entry.totals);
        return Ok(entry.is_well());
    }
    println!(
        "soak {name} at {commit}: {} of {:.0} s are done, {} rounds; it goes on with seed {}",
        ledger.seconds().round(),
        soak.seconds,
        ledger.rounds(),
        ledger.next_seed()
    );
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} s, {msg}")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands of seconds"
    )]
    let whole = |seconds: f64| seconds as u64;
    let bar = ProgressBar::new(whole(soak.seconds)).with_style(style);
    let mut is_well = true;
    while is_well && ledger.seconds() < soak.seconds {
        let seed = ledger.next_seed();
        bar.set_message(format!("seed {seed}"));
        let entry = soak.play(seed);
        is_well = entry.is_well();
        if bar.is_hidden() {
            println!("seed {seed}: {}", entry.totals);
        }
        ledger.write(entry)?;
        bar.set_position(whole(ledger.seconds().min(soak.seconds)));
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

impl Soak {
    fn play(&self, seed: u64) -> Entry {
        let begun = Instant::now();
        let outcome = (self.round)(seed);
        let seconds = begun.elapsed().as_secs_f64();
        if let Err(fault) = &outcome {
            eprintln!("{} found a fault with seed {seed}: {fault:#}", self.name);
            eprintln!("repeat it with: make soak T={} SEED={seed}", self.name);
        }
        let fault = outcome.as_ref().err().map(|fault| format!("{fault:#}"));
        Entry::new(seed, seconds, outcome.unwrap_or_default(), fault)
    }
}
