//! The planner on fleets of up to a million tenants: time of a full plan and of one change, memory, packing, and a year of
//! decisions.
//!
//! The bounds are times and bytes of the product's promise; the year's reference is a static threshold in the same run.

mod fleet;
mod year;

use std::time::Instant;

use anyhow::{Context, Result};
use skep_planner::model::Seconds;
use skep_planner::{State, plan};

use super::{Bound, Figure, Report, Spread, load, setting};
use fleet::Size;

/// The fleets: how many tenants on how many cells, and the most that a full plan may take, in seconds.
const FLEETS: [(Size, f64); 3] = [
    (
        Size {
            tenants: 10_000,
            cells: 40,
        },
        0.05,
    ),
    (
        Size {
            tenants: 100_000,
            cells: 400,
        },
        0.5,
    ),
    (
        Size {
            tenants: 1_000_000,
            cells: 2_000,
        },
        5.0,
    ),
];
const SEED: u64 = 1;
const NOW: Seconds = 1_000_000;

/// Runs it and says whether its gates hold.
pub async fn run() -> Result<bool> {
    let rounds = setting("PLANNER_ROUNDS", 5_usize)?;
    let changes = setting("PLANNER_CHANGES", 4_000_u32)?;
    let mut report = Report::new("planner");
    load::Quiet::from_environment()?.begin().await?;
    let mut quiet = load::Quiet::from_environment()?;
    quiet.begin().await?;
    let mut medians = Vec::new();
    for (size, bound) in FLEETS {
        let mut samples = Vec::new();
        for _ in 0..rounds {
            let input = fleet::input(size);
            let begun = Instant::now();
            let (plan, _) = plan(input, SEED);
            samples.push(begun.elapsed().as_secs_f64());
            anyhow::ensure!(
                !plan.placements.is_empty() && !plan.switches.is_empty(),
                "the fleet asks for nothing"
            );
        }
        let spread = Spread::of(&samples).context("no round was run")?;
        medians.push(spread.median);
        let name = format!("full plan, {} tenants on {} cells", size.tenants, size.cells);
        report.add(Figure::of(name, spread, "s").held_to(Bound::Gate(bound)));
    }
    report.add(growth(&medians).held_to(Bound::Gate(1.2)));
    let (mut state, bytes) = fleet::state(FLEETS[2].0)?;
    report
        .add(Figure::new("memory of a tenant, 1000000 tenants", bytes, "bytes").held_to(Bound::Gate(400.0)));
    let p99 = apply(&mut state, changes);
    report.add(Figure::new("one change, 1000000 tenants, p99", p99, "ms").held_to(Bound::Gate(5.0)));
    drop(state);
    year::add(&mut report)?;
    report.print();
    let path = report.write()?;
    println!("{}", path.display());
    Ok(report.holds())
}

/// The power of the number of tenants with which the time of a full plan grows; 1 is linear.
fn growth(medians: &[f64]) -> Figure {
    let first = medians.first().copied().unwrap_or(1.0);
    let last = medians.last().copied().unwrap_or(1.0);
    Figure::new(
        "growth of a full plan from 10000 to 1000000 tenants, power",
        (last / first).ln() / 100_f64.ln(),
        "",
    )
}

/// The 99th percentile of the time of single changes, in milliseconds.
fn apply(state: &mut State, changes: u32) -> f64 {
    let mut times: Vec<f64> = (0..changes)
        .map(|number| {
            let delta = fleet::change(state, number);
            let now = NOW + Seconds::from(number / 1000);
            let begun = Instant::now();
            let (plan, _) = state.apply(now, delta, SEED);
            let time = begun.elapsed().as_secs_f64() * 1000.0;
            for delta in plan.deltas(state) {
                state.take(now, delta);
            }
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or(f64::INFINITY)
}
