//! The simulator's files and what holds for every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use skep_planner::sim::{Scenario, Strategy, simulate};

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// A scenario, cut to its first days.
fn short(path: &Path) -> Scenario {
    let mut scenario = Scenario::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    scenario.days = 12;
    scenario
}

#[test]
fn every_scenario_is_read_and_the_same_seed_gives_the_same_days() {
    assert!(files().len() >= 5);
    for path in files() {
        let scenario = short(&path);
        let play = |seed| simulate(&scenario, Strategy::Planner, seed, &mut |_| {}).unwrap();
        assert_eq!(play(1), play(1), "{}", path.display());
        assert_ne!(play(1).days, play(2).days, "{}", path.display());
    }
}

#[test]
fn strategies_see_the_same_tenants_and_none_is_better_than_the_bound() {
    for path in files() {
        let scenario = short(&path);
        let play = |strategy| simulate(&scenario, strategy, 1, &mut |_| {}).unwrap();
        let bound = play(Strategy::Bound);
        for strategy in [Strategy::Static(80), Strategy::Planner] {
            let outcome = play(strategy);
            for (day, least) in outcome.days.iter().zip(&bound.days) {
                assert!(day.cells >= least.cells, "{}: day {}", path.display(), day.day);
                assert!(day.tenants <= least.tenants);
                if outcome.refused() == 0 {
                    assert_eq!(day.tenants, least.tenants);
                }
            }
        }
    }
}

#[test]
fn a_forecast_orders_before_room_runs_out_and_a_zone_may_be_lost() {
    let path = files()
        .into_iter()
        .find(|path| path.ends_with("zone-loss.yaml"))
        .unwrap();
    let mut scenario = short(&path);
    scenario.days = 50;
    let outcome = simulate(&scenario, Strategy::Planner, 1, &mut |_| {}).unwrap();
    assert_eq!(outcome.refused(), 0);
    let while_lost = &outcome.days[40..43];
    assert!(
        while_lost.iter().all(|day| day.hot == 0 && day.moves == 0),
        "{while_lost:?}"
    );
    assert!(outcome.most_cells() > scenario.cells);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_a_wrong_number_by_its_field() {
    let year = std::fs::read_to_string(
        files()
            .into_iter()
            .find(|path| path.ends_with("year.yaml"))
            .unwrap(),
    )
    .unwrap();
    let misspelt = year.replace("lifetimeDays:", "lifetimeDay:");
    let line = 1 + misspelt
        .lines()
        .position(|line| line.contains("lifetimeDay:"))
        .unwrap();
    let error = Scenario::parse(&misspelt).unwrap_err().to_string();
    assert!(
        error.contains("lifetimeDay") && error.contains(&format!("line {line}")),
        "{error}"
    );
    for (right, wrong, field) in [
        ("days: 365", "days: 0", "days"),
        ("weekend: 0.8", "weekend: -1", "tenants.weekend"),
        ("lifetimeDays: 300", "lifetimeDays: .nan", "tenants.lifetimeDays"),
        ("arrivalsADay: 12", "arrivalsADay: 90000", "tenants"),
        (
            "days: 365",
            "bursts: [{day: 1, tenants: 4000000000}]\ndays: 365",
            "bursts[0].tenants",
        ),
        ("seeds: [1, 2, 3]", "seeds: []", "seeds"),
        ("price: 9.216", "price: .inf", "pools.pool.price"),
    ] {
        let error = Scenario::parse(&year.replace(right, wrong))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("{field}: ")), "{wrong}: {error}");
    }
}
