//! Fuzzing of the planner: documents with mutations are read, checked and planned from, and change by change the plan is
//! what it is from scratch.

use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use skep_planner::document::{Document, DocumentError};
use skep_planner::model::Input;
use skep_planner::{Delta, State, plan};

use super::ledger::Totals;

/// Documents of a round.
const CASES: u32 = 40_000;

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

/// Runs the round of a seed.
///
/// # Errors
/// The least document that makes the planner fall, hang for ten seconds, or plan otherwise change by change.
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
    let one = || (any::<Index>(), proptest::collection::vec(mutation(), 0..4));
    let mutated = |(base, mutations): (Index, Vec<Mutation>)| {
        let mut text = corpus[base.index(corpus.len())].clone();
        for mutation in &mutations {
            mutation.mutate(&mut text, &corpus);
        }
        text
    };
    let strategy =
        (one(), one(), any::<u64>()).prop_map(|(one, other, seed)| (mutated(one), mutated(other), seed));
    let outcome = runner.run(&strategy, |(first, second, seed)| {
        let begun = Instant::now();
        let counted = case(&first, &second, seed)?;
        prop_assert!(begun.elapsed().as_secs() < 10, "it took {:?}", begun.elapsed());
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

/// Plans from the first document, then takes the second in as changes; says what became of the first.
fn case(first: &str, second: &str, seed: u64) -> Result<&'static str, TestCaseError> {
    let input = match read(first) {
        Ok(input) => input,
        Err(refused) => return Ok(refused),
    };
    let mut state = State::new(input);
    step(&mut state, Delta::Clock, seed)?;
    if let Ok(second) = read(second) {
        let pools = second.pools.into_values().map(|pool| Delta::Pool(Box::new(pool)));
        let cells = second
            .cells
            .into_iter()
            .map(|(name, cell)| Delta::Cell(name, Box::new(cell)));
        let tenants = second
            .tenants
            .into_iter()
            .map(|tenant| Delta::Tenant(Box::new(tenant)));
        let mut deltas: Vec<Delta> = pools.chain(cells).chain(tenants).collect();
        let last = deltas.pop().unwrap_or(Delta::Clock);
        for delta in deltas {
            state.take(second.now, delta);
        }
        step(&mut state, last, seed)?;
    }
    Ok(PLANNED)
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
