//! What was run already since one commit: a line of JSON for each round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What was counted, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals(pub BTreeMap<String, u64>);

impl Totals {
    /// Counts up.
    pub fn add(&mut self, name: &str, count: u64) {
        *self.0.entry(name.to_owned()).or_insert(0) += count;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self
            .0
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        f.write_str(&counts.join(", "))
    }
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(default)]
    commit: String,
    /// The seed.
    pub seed: u64,
    seconds: f64,
    /// What was counted.
    pub totals: Totals,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Entry {
    /// A round that was run just now.
    pub fn new(seed: u64, seconds: f64, totals: Totals, fault: Option<String>) -> Self {
        Self {
            commit: String::new(),
            seed,
            seconds,
            totals,
            fault,
        }
    }

    /// Whether it found no fault.
    pub fn is_well(&self) -> bool {
        self.fault.is_none()
    }
}

/// The rounds of one commit that found no fault.
pub struct Ledger {
    file: File,
    commit: String,
    done: Vec<Entry>,
}

impl Ledger {
    /// Reads what was run of a commit; a tree that differs from its commit begins anew.
    pub fn open(name: &str, commit: &str) -> Result<Self> {
        let directory = crate::bench::directory()?.with_file_name("soak");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("{name}.jsonl"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self {
            file: file.with_context(|| format!("cannot write {}", path.display()))?,
            commit: commit.to_owned(),
            done: done(&text, commit),
        })
    }

    /// One that knows of nothing.
    pub fn fresh(name: &str) -> Result<Self> {
        Self::open(name, "sample-dirty")
    }

    /// One with these rounds.
    #[cfg(test)]
    pub fn of(done: Vec<Entry>) -> Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            commit: String::new(),
            done,
        })
    }

    /// Writes a round down; one with a fault is run again next time.
    pub fn write(&mut self, mut entry: Entry) -> Result<()> {
        entry.commit.clone_from(&self.commit);
        let line = serde_json::to_string(&entry)? + "\n";
        self.file
            .write_all(line.as_bytes())
            .context("cannot write the ledger")?;
        if entry.is_well() {
            self.done.push(entry);
        }
        Ok(())
    }

    /// The least seed that was neither run nor begun.
    pub fn next_seed(&self, begun: &BTreeSet<u64>) -> u64 {
        let mut seeds = 1..u64::MAX;
        let next = seeds.find(|seed| !self.has(*seed) && !begun.contains(seed));
        next.unwrap_or(u64::MAX)
    }

    /// The rounds that found no fault.
    pub fn done(&self) -> &[Entry] {
        &self.done
    }

    /// Whether a seed's round was run.
    pub fn has(&self, seed: u64) -> bool {
        self.done.iter().any(|entry| entry.seed == seed)
    }

    /// The least that a round counted by a name.
    pub fn least(&self, name: &str) -> Option<u64> {
        let counts = self.done.iter().filter_map(|entry| entry.totals.0.get(name));
        counts.min().copied()
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.done.len()
    }

    /// How long all rounds took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.done.iter().fold(0.0, |sum, entry| sum + entry.seconds)
    }

    /// What all rounds counted.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (name, count) in self.done.iter().flat_map(|entry| &entry.totals.0) {
            totals.add(name, *count);
        }
        totals
    }
}

/// The rounds of a commit that found nothing; a line that was cut off is none.
fn done(text: &str, commit: &str) -> Vec<Entry> {
    let entries = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let is_own = |entry: &Entry| entry.commit == commit && entry.is_well() && !commit.ends_with("-dirty");
    entries.filter(is_own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_after_what_was_done_of_its_commit() {
        let line = |commit: &str, seed, fault: Option<&str>| {
            let mut entry = Entry::new(seed, 2.5, Totals::default(), fault.map(str::to_owned));
            entry.totals.add("cases", 10);
            commit.clone_into(&mut entry.commit);
            serde_json::to_string(&entry).unwrap_or_default()
        };
        let text = [
            line("a", 1, None),
            line("b", 2, None),
            line("a", 2, Some("it fell")),
            line("a", 3, None),
            r#"{"commit":"a","seed":4,"sec"#.to_owned(),
        ]
        .join("\n");
        let ledger = |commit: &str| Ledger::of(done(&text, commit)).expect("a ledger");
        let seeds = |commit| {
            ledger(commit)
                .done
                .iter()
                .map(|entry| entry.seed)
                .collect::<Vec<_>>()
        };
        assert_eq!(seeds("a"), [1, 3]);
        assert_eq!(
            ledger("a").next_seed(&BTreeSet::new()),
            2,
            "the round with the fault is run again"
        );
        assert_eq!(ledger("a").totals().to_string(), "20 cases");
        assert_eq!(ledger("a").next_seed(&BTreeSet::from([2])), 4);
        assert_eq!(ledger("a").least("cases"), Some(10));
        assert_eq!(ledger("a").least("crashes"), None);
        assert_eq!(ledger("b").next_seed(&BTreeSet::new()), 1);
        assert!(seeds("b-dirty").is_empty());
    }
}
