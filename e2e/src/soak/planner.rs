//! Fuzzing of the planner: documents with mutations are read, checked and planned from, time passes, things come, change and
//! go, and change by change the plan is what it is from scratch.

#[path = "../../../cells/planner/tests/world/moments.rs"]
mod moments;
mod watchdog;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use skep_planner::document::{Document, DocumentError};
use skep_planner::model::Input;
use skep_planner::{Delta, State, plan};

use super::ledger::Totals;
use moments::{Moment, moment};
use watchdog::Watchdog;

/// Documents of a round.
const CASES: u32 = 40_000;

/// After so long a case counts as hung; most take a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);

/// Values that are at the edge of something.
const VALUES: [&str; 32] = [
    "0",
    "1",
    "2",
    "0.5",
    "-1",
    "-0.0",
    "1e-9",
    "1e9",
    "1e18",
    "1e300",
    "1e400",
    ".nan",
    ".inf",
    "-.inf",
    "1000000000000",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "null",
    "true",
    "''",
    "x",
    "[]",
    "{}",
    "[0, null]",
    "10.0.0.0/8",
    "small",
    "draining",
    "*zones",
    "\u{1f41d}",
];

/// One change of a document's text.
#[derive(Debug, Clone)]
enum Mutation {
    /// Another value of a field.
    Value(Index, Index),
    /// A whole number as a value.
    Number(Index, i64),
    /// A line is missing.
    Drop(Index),
    /// A line is there twice.
    Double(Index),
    /// A line is that of another document.
    Graft(Index, Index, Index),
    /// A character is another.
    Character(Index, char),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<Index>(), any::<Index>()).prop_map(|(at, value)| Mutation::Value(at, value)),
        8 => (any::<Index>(), -5..5000_i64).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => (any::<Index>(), any::<i64>()).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => any::<Index>().prop_map(Mutation::Drop),
        1 => any::<Index>().prop_map(Mutation::Double),
        1 => any::<(Index, Index, Index)>().prop_map(|(at, from, line)| Mutation::Graft(at, from, line)),
        1 => (any::<Index>(), any::<char>()).prop_map(|(at, other)| Mutation::Character(at, other)),
    ]
}

impl Mutation {
    fn mutate(&self, text: &mut String, corpus: &[String]) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            return;
        }
        match self {
            Self::Value(at, value) => set(text, *at, VALUES[value.index(VALUES.len())]),
            Self::Number(at, number) => set(text, *at, &number.to_string()),
            Self::Drop(at) => {
                lines.remove(at.index(lines.len()));
                *text = lines.join("\n");
            }
            Self::Double(at) => {
                let at = at.index(lines.len());
                lines.insert(at, lines[at].clone());
                *text = lines.join("\n");
            }
            Self::Graft(at, from, line) => {
                let others: Vec<&str> = corpus[from.index(corpus.len())].lines().collect();
                let at = at.index(lines.len());
                others[line.index(others.len())].clone_into(&mut lines[at]);
                *text = lines.join("\n");
            }
            Self::Character(at, other) => {
                let starts: Vec<(usize, char)> = text.char_indices().collect();
                let (start, old) = starts[at.index(starts.len())];
                text.replace_range(start..start + old.len_utf8(), &other.to_string());
            }
        }
    }
}

/// Gives one of a text's fields another value: what stands between `: ` and the end of the item.
fn set(text: &mut String, at: Index, value: &str) {
    let starts: Vec<usize> = text.match_indices(": ").map(|(start, _)| start + 2).collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[at.index(starts.len())];
    let end = text[start..]
        .find([',', '}', '\n', '#'])
        .map_or(text.len(), |end| start + end);
    text.replace_range(start..end, value);
}

/// The scripted scenarios' documents, with classes, and without what is only the script's.
fn corpus() -> Result<Vec<String>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cells/planner/tests");
    let classes = std::fs::read_to_string(directory.join("fixtures/classes.yaml"))?;
    let files =
        std::fs::read_dir(directory.join("scenarios")).context("cannot read the scripted scenarios")?;
    let mut paths: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.sort();
    let yaml = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let texts = yaml.map(|path| -> Result<String> {
        let text = std::fs::read_to_string(path)?;
        Ok(document(&text, &classes))
    });
    texts.collect()
}

fn document(text: &str, classes: &str) -> String {
    const KEYS: [&str; 6] = ["now:", "policy:", "classes:", "pools:", "cells:", "tenants:"];
    let mut is_kept = false;
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let is_top = !line.starts_with([' ', '#', '-']);
        if is_top {
            is_kept = KEYS.iter().any(|key| line.starts_with(key));
        }
        if is_kept {
            lines.push(line);
        }
    }
    let own = lines.join("\n");
    if own.contains("\nclasses:") || own.starts_with("classes:") {
        return own;
    }
    format!("classes:\n{}\n{own}", indent(classes))
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// Two documents and what happens between them.
#[derive(Debug, Clone)]
struct Case {
    /// Where it begins.
    first: String,
    /// What it becomes.
    second: String,
    /// When time alone passes, before the second document.
    pauses: Vec<Moment>,
    /// When the second document's changes come, a part of them each time.
    parts: Vec<Moment>,
    /// Which of the changes is the first.
    turn: Index,
    /// The seed of plans.
    seed: u64,
}

fn cases(corpus: &[String]) -> impl Strategy<Value = Case> {
    let text = || {
        (any::<Index>(), proptest::collection::vec(mutation(), 0..4)).prop_map(|(base, mutations)| {
            let mut text = corpus[base.index(corpus.len())].clone();
            for mutation in &mutations {
                mutation.mutate(&mut text, corpus);
            }
            text
        })
    };
    let moments = |most: usize| proptest::collection::vec(moment(), 1..=most);
    let all = (
        text(),
        text(),
        moments(4),
        moments(4),
        any::<Index>(),
        any::<u64>(),
    );
    all.prop_map(|(first, second, pauses, parts, turn, seed)| Case {
        first,
        second,
        pauses,
        parts,
        turn,
        seed,
    })
}

/// Runs the round of a seed.
///
/// # Errors
/// The least document that makes the planner fall or plan otherwise change by change, or the first that makes it hang for ten
/// seconds.
pub fn round(seed: u64) -> Result<Totals> {
    rounds(seed, CASES)
}

fn rounds(seed: u64, cases: u32) -> Result<Totals> {
    let corpus = corpus()?;
    let totals = RefCell::new(Totals::default());
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let watchdog = Watchdog::new(PATIENCE, |case: Case| case.run());
    let outcome = runner.run(&self::cases(&corpus), |case| {
        let Some(counted) = watchdog.run(case)? else {
            return Ok(());
        };
        let counted = counted?;
        for name in ["documents", counted] {
            totals.borrow_mut().add(name, 1);
        }
        Ok(())
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))?;
    let totals = totals.into_inner();
    let planned = totals.0.get(PLANNED).copied().unwrap_or(0);
    ensure!(
        planned > u64::from(cases / 20),
        "hardly a document was right: {totals}"
    );
    Ok(totals)
}

const PLANNED: &str = "planned";

fn read(text: &str) -> Result<Input, &'static str> {
    match Document::parse(text).and_then(Document::check) {
        Ok(input) => Ok(input),
        Err(DocumentError::Form(_)) => Err("refused for their form"),
        Err(DocumentError::Fields(_)) => Err("refused for their fields"),
    }
}

impl Case {
    /// Plans from the first document while time passes, then takes the second in as changes while more of it does; says what
    /// became of the first.
    fn run(self) -> Result<&'static str, TestCaseError> {
        let input = match read(&self.first) {
            Ok(input) => input,
            Err(refused) => return Ok(refused),
        };
        let mut state = State::new(input);
        step(&mut state, Delta::Clock, self.seed)?;
        for pause in &self.pauses {
            pass(&mut state, pause);
            step(&mut state, Delta::Clock, self.seed)?;
        }
        let Ok(second) = read(&self.second) else {
            return Ok(PLANNED);
        };
        state.take(second.now, Delta::Clock);
        let mut deltas = changes(&state, second);
        if !deltas.is_empty() {
            let first = self.turn.index(deltas.len());
            deltas.rotate_left(first);
        }
        let size = deltas.len().div_ceil(self.parts.len().max(1)).max(1);
        for (part, moment) in deltas.chunks(size).zip(&self.parts) {
            pass(&mut state, moment);
            let now = state.now();
            let Some((last, others)) = part.split_last() else {
                continue;
            };
            for delta in others {
                state.take(now, delta.clone());
            }
            step(&mut state, last.clone(), self.seed)?;
        }
        Ok(PLANNED)
    }
}

fn pass(state: &mut State, moment: &Moment) {
    let now = moment.at(state);
    state.take(now, Delta::Clock);
}

/// What makes the one of the other; pools, which nothing removes, and classes and policy, which nothing changes, excepted.
fn changes(state: &State, second: Input) -> Vec<Delta> {
    let cells_gone: Vec<Delta> = state
        .cells()
        .filter(|(name, ..)| !second.cells.contains_key(*name))
        .map(|(name, ..)| Delta::CellGone(name.clone()))
        .collect();
    let kept: BTreeSet<&str> = second.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    // By name, so that a seed's changes come in the same order again.
    let gone: BTreeSet<_> = state
        .tenants()
        .filter(|tenant| !kept.contains(tenant.name.as_str()))
        .map(|tenant| tenant.name.clone())
        .collect();
    let pools = second.pools.into_values().map(|pool| Delta::Pool(Box::new(pool)));
    let cells = second
        .cells
        .into_iter()
        .map(|(name, cell)| Delta::Cell(name, Box::new(cell)));
    let tenants = second
        .tenants
        .into_iter()
        .map(|tenant| Delta::Tenant(Box::new(tenant)));
    pools
        .chain(cells)
        .chain(tenants)
        .chain(gone.into_iter().map(Delta::TenantGone))
        .chain(cells_gone)
        .collect()
}

/// One change, its plan, and what it leads to.
fn step(state: &mut State, delta: Delta, seed: u64) -> Result<(), TestCaseError> {
    let now = state.now();
    let (made, report) = state.apply(now, delta, seed);
    let (anew, told_anew) = plan(state.to_input(), seed);
    prop_assert_eq!(&made, &anew);
    prop_assert_eq!(&report, &told_anew);
    // What people and programs see of it can be written.
    prop_assert!(serde_json::to_string(&report).is_ok());
    prop_assert!(report.pools.is_empty() || !report.to_string().is_empty());
    for delta in made.deltas(state) {
        state.take(now, delta);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_document_makes_the_planner_fall() {
        let totals = rounds(1, 300).expect("no fault");
        assert_eq!(totals.0["documents"], 300);
    }

    #[test]
    fn every_document_of_the_corpus_that_is_not_wrong_by_design_is_right() {
        let corpus = corpus().expect("a corpus");
        let right = corpus.iter().filter(|text| read(text).is_ok()).count();
        assert!(right + 3 >= corpus.len(), "{right} of {}", corpus.len());
    }
}
