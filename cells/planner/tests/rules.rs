//! Every rule is shown by a scenario.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use skep_planner::Rule;

#[test]
fn every_rule_has_a_scenario_that_shows_its_report() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let paths = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let reports = paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let text: String = reports
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let is_shown = |rule: &Rule| text.contains(&format!("{rule:?}"));
    let missing: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| !is_shown(rule)).collect();
    assert!(missing.is_empty(), "no scenario shows {missing:?}");
}
