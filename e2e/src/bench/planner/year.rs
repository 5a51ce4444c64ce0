//! `scenarios/year.yaml` against a static threshold, and how tightly the scenarios' fleets are packed.

use std::path::Path;

use anyhow::{Context, Result};
use skep_planner::pack::{least, pack};
use skep_planner::sim::{Outcome, Scenario, Strategy, fleet_at_end, simulate};

use crate::bench::{Bound, Figure, Report};

/// Adds the figures.
pub fn add(report: &mut Report) -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let scenario = Scenario::parse(&text).with_context(|| format!("scenario {}", path.display()))?;
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        add_packing(report, &stem, &scenario)?;
        if stem == "year" {
            compare(report, &scenario)?;
        }
    }
    Ok(())
}

/// Each seed's fleet by itself, of which the worst is held to the bound, and all of them together.
fn add_packing(report: &mut Report, stem: &str, scenario: &Scenario) -> Result<()> {
    let mut fleets = Vec::new();
    for seed in &scenario.seeds {
        let (pool, classes, tenants) = fleet_at_end(scenario, *seed)?;
        let packed = f64::from(pack(&pool, &classes, &scenario.policy, &tenants));
        let bound = f64::from(least(&pool, &classes, &scenario.policy, &tenants));
        fleets.push((*seed, packed, bound));
    }
    let worst = fleets
        .iter()
        .max_by(|one, other| (one.1 / one.2).total_cmp(&(other.1 / other.2)));
    let (seed, packed, bound) = worst.context("a scenario without seeds")?;
    let name = format!("cells that the fleet of {stem} is packed into, the worst seed ({seed})");
    let figure = Figure::new(name, *packed, "cells").against(*bound);
    report.add(figure.held_to(Bound::Gate(1.03)));
    let (packed, bound) = fleets
        .iter()
        .fold((0.0, 0.0), |sum, fleet| (sum.0 + fleet.1, sum.1 + fleet.2));
    let name = format!("cells that the fleets of {stem} are packed into, all seeds");
    report.add(Figure::new(name, packed, "cells").against(bound));
    Ok(())
}

fn compare(report: &mut Report, scenario: &Scenario) -> Result<()> {
    let play = |strategy| -> Result<Vec<Outcome>> {
        let runs = scenario
            .seeds
            .iter()
            .map(|seed| simulate(scenario, strategy, *seed, &mut |_| {}));
        Ok(runs.collect::<Result<_, _>>()?)
    };
    let (ours, fixed) = (play(Strategy::Planner)?, play(Strategy::Static(80))?);
    let mean = |outcomes: &[Outcome], value: fn(&Outcome) -> f64| {
        let sum: f64 = outcomes.iter().map(value).sum();
        sum / f64::from(u32::try_from(outcomes.len()).unwrap_or(u32::MAX))
    };
    // Bounds are upper bounds: at least 1.08 times is at most 1/1.08.
    let name = "year: mean utilisation of static 80%, by that of the planner";
    let utilisation = mean(&ours, Outcome::utilisation);
    let figure = Figure::new(name, mean(&fixed, Outcome::utilisation), "").against(utilisation);
    report.add(figure.held_to(Bound::Goal(0.926)));
    let hot = mean(&ours, Outcome::hot_share) * 100.0;
    report.add(Figure::new("year: days of cells above 95%", hot, "%").held_to(Bound::Goal(0.3)));
    let refused: u32 = ours.iter().map(Outcome::refused).sum();
    let name = "year: tenants refused for lack of a cell";
    report.add(Figure::new(name, f64::from(refused), "tenants").held_to(Bound::Goal(0.0)));
    Ok(())
}
