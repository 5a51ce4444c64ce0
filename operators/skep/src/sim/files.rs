//! The figures of every day, as CSV.

use std::path::Path;

use anyhow::{Context as _, Result};
use skep_planner::sim::Outcome;

/// Writes `days.csv`: a line for each strategy, seed and day.
pub fn write(out: &Path, outcomes: &[Outcome]) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let path = out.join("days.csv");
    let mut writer =
        csv::Writer::from_path(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let heading = [
        "strategy",
        "seed",
        "day",
        "tenants",
        "cells",
        "building",
        "utilisation",
        "fullest",
        "hot",
        "refused",
        "moves",
        "switches",
        "cost",
    ];
    writer.write_record(heading)?;
    for outcome in outcomes {
        for day in &outcome.days {
            writer.write_record([
                outcome.strategy.to_string(),
                outcome.seed.to_string(),
                day.day.to_string(),
                day.tenants.to_string(),
                day.cells.to_string(),
                day.building.to_string(),
                format!("{:.4}", day.utilisation),
                format!("{:.4}", day.fullest),
                day.hot.to_string(),
                day.refused.to_string(),
                day.moves.to_string(),
                day.switches.to_string(),
                format!("{:.2}", day.cost),
            ])?;
        }
    }
    writer
        .flush()
        .with_context(|| format!("cannot write {}", path.display()))
}
