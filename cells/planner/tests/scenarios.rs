//! Scripted scenarios, one a file, with the plan and report of each step beside them.
//!
//! `SKEP_GENERATE=1` writes what is seen. After each step the plan from scratch must be the same as the one that was
//! reached change by change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;
use skep_planner::document::{CellDocument, ClassDocument, Document, PoolDocument, TenantDocument};
use skep_planner::model::{Class, Name, Seconds};
use skep_planner::{Answer, Delta, Plan, Policy, Report, State, plan};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scenario {
    about: String,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    classes: Option<BTreeMap<Class, ClassDocument>>,
    #[serde(default)]
    pools: BTreeMap<Name, PoolDocument>,
    #[serde(default)]
    cells: BTreeMap<Name, CellDocument>,
    #[serde(default)]
    tenants: BTreeMap<Name, TenantDocument>,
    /// Whether counts are shown instead of every line.
    #[serde(default)]
    brief: bool,
    /// Tenants whose answers of all cells are shown.
    #[serde(default)]
    explain: Vec<Name>,
    #[serde(default)]
    steps: Vec<Step>,
}

/// What changes, all at once.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Step {
    at: Seconds,
    say: String,
    /// Whether the plan before is carried out first.
    #[serde(default)]
    carry_out: bool,
    #[serde(default)]
    pools: BTreeMap<Name, PoolDocument>,
    #[serde(default)]
    cells: BTreeMap<Name, CellDocument>,
    #[serde(default)]
    cells_gone: Vec<Name>,
    #[serde(default)]
    tenants: BTreeMap<Name, TenantDocument>,
    #[serde(default)]
    gone: Vec<Name>,
}

fn scenario(path: &Path) -> datatest_stable::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let scenario: Scenario = serde_saphyr::from_str(&text)?;
    let seen = play(scenario);
    let golden = path.with_extension("txt");
    if std::env::var_os("SKEP_GENERATE").is_some() {
        std::fs::write(&golden, &seen)?;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    if seen != expected {
        return Err(format!(
            "{} differs; SKEP_GENERATE=1 writes it. Seen:\n{seen}",
            golden.display()
        )
        .into());
    }
    Ok(())
}

fn play(scenario: Scenario) -> String {
    let mut out = format!("# {}\n", scenario.about.trim());
    let base = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/classes.yaml"
    ))
    .unwrap();
    let classes = scenario
        .classes
        .unwrap_or_else(|| serde_saphyr::from_str(&base).unwrap());
    let document = Document {
        now: 0,
        policy: scenario.policy,
        classes: classes.clone(),
        pools: scenario.pools,
        cells: scenario.cells,
        tenants: scenario.tenants,
    };
    let input = match document.check() {
        Ok(input) => input,
        Err(error) => {
            writeln!(out, "refused: {error}").unwrap();
            return out;
        }
    };
    let mut state = State::new(input);
    let (mut last, report) = state.plan(scenario.seed);
    show(&mut out, &last, &report, scenario.brief);
    for name in &scenario.explain {
        let tenant = state.tenant(name).unwrap();
        state
            .explain(tenant, scenario.seed)
            .iter()
            .for_each(|answer| tell(&mut out, name, answer));
    }
    for step in scenario.steps {
        writeln!(out, "\n## {} s: {}", step.at, step.say).unwrap();
        if step.carry_out {
            let now = state.now();
            last.deltas(&state)
                .into_iter()
                .for_each(|delta| state.take(now, delta));
        }
        let at = step.at;
        match changes(step, &state, &classes) {
            Ok(changes) => changes.into_iter().for_each(|delta| state.take(at, delta)),
            Err(error) => writeln!(out, "refused: {error}").unwrap(),
        }
        let (plan_by_change, report) = state.apply(at, Delta::Clock, scenario.seed);
        let from_scratch = plan(state.to_input(), scenario.seed);
        assert_eq!((&plan_by_change, &report), (&from_scratch.0, &from_scratch.1));
        show(&mut out, &plan_by_change, &report, scenario.brief);
        last = plan_by_change;
    }
    out
}

/// The changes of a step: its documents, checked against what stands.
fn changes(
    step: Step,
    state: &State,
    classes: &BTreeMap<Class, ClassDocument>,
) -> Result<Vec<Delta>, Box<dyn std::error::Error>> {
    let gone = step.gone.into_iter().map(Delta::TenantGone);
    let cells_gone = step.cells_gone.into_iter().map(Delta::CellGone);
    let mut faults = Vec::new();
    let mut input = state.to_input();
    for (name, pool) in step.pools {
        let pool = pool.check(&name, &mut faults);
        input.pools.insert(name, pool);
    }
    for (name, cell) in step.cells {
        let pool = input.pools[&cell.pool].clone();
        input.cells.insert(name, cell.check(&pool));
    }
    let classes = skep_planner::document::classes(classes, &mut faults);
    let tenants = skep_planner::document::tenants(step.tenants, step.at, &classes, &input.cells, &mut faults);
    if let Some(fault) = faults.into_iter().next() {
        return Err(Box::new(fault));
    }
    let pools = input.pools.into_values().map(|pool| Delta::Pool(Box::new(pool)));
    let cells = input
        .cells
        .into_iter()
        .map(|(name, cell)| Delta::Cell(name, Box::new(cell)));
    let tenants = tenants.into_iter().map(|tenant| Delta::Tenant(Box::new(tenant)));
    Ok(pools
        .chain(cells)
        .chain(tenants)
        .chain(gone)
        .chain(cells_gone)
        .collect())
}

fn show(out: &mut String, plan: &Plan, report: &Report, is_brief: bool) {
    if is_brief {
        count(out, plan, report);
        return;
    }
    write!(out, "{report}").unwrap();
    let plan = serde_json::to_value(plan).unwrap();
    for (part, entries) in plan.as_object().unwrap() {
        for entry in entries.as_array().unwrap() {
            writeln!(out, "> {part}: {entry}").unwrap();
        }
    }
}

fn count(out: &mut String, plan: &Plan, report: &Report) {
    let mut cells: BTreeMap<&Name, u32> = BTreeMap::new();
    for placement in &plan.placements {
        *cells.entry(&placement.cell).or_insert(0) += 1;
    }
    writeln!(out, "placed: {cells:?}").unwrap();
    let mut rules: BTreeMap<_, u32> = BTreeMap::new();
    for refusal in &report.refusals {
        *rules.entry(refusal.rule).or_insert(0) += 1;
    }
    writeln!(out, "refused: {rules:?}").unwrap();
    for order in &plan.orders {
        writeln!(out, "ordered: {} for pool {}", order.cells, order.pool).unwrap();
    }
    let first = plan.placements.iter().map(|placement| &placement.tenant).min();
    writeln!(out, "the first by name that is placed: {first:?}").unwrap();
}

fn tell(out: &mut String, tenant: &str, answer: &Answer) {
    let Answer {
        cell,
        rule,
        binding,
        score,
    } = answer;
    write!(out, "? {tenant} in {cell}: ").unwrap();
    match (rule, score) {
        (Some(rule), _) => write!(out, "excluded by {rule:?}").unwrap(),
        (None, score) => write!(out, "score {:.3}", score.unwrap_or_default()).unwrap(),
    }
    match binding {
        Some(binding) => writeln!(out, ", {binding}").unwrap(),
        None => writeln!(out).unwrap(),
    }
}

datatest_stable::harness! {
    { test = scenario, root = "tests/scenarios", pattern = r"\.yaml$" },
}
