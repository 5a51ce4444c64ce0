//! `skep sim`: simulators. They read a file, print a table, and write figures and charts; no platform is needed.

mod charts;
mod files;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use skep_planner::sim::{Outcome, Scenario, Strategy, simulate};

use crate::client::output::{Tabular, print_list};
use crate::client::{Context, Failure};
use crate::input;

/// Simulators.
#[derive(Debug, Args)]
pub struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Compare when cells are built: static thresholds, the planner, and what is possible at best.
    Cells(CellsArgs),
}

#[derive(Debug, Args)]
struct CellsArgs {
    /// The scenario, such as scenarios/year.yaml.
    file: PathBuf,
    /// Where days.csv and the charts go; sim/NAME of the scenario when left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run this seed instead of the scenario's; can be given again.
    #[arg(long)]
    seed: Vec<u64>,
}

/// Runs a simulator.
pub fn run(args: SimArgs, context: &Context) -> Result<(), Failure> {
    match args.command {
        SimCommand::Cells(args) => cells(&args, context),
    }
}

fn cells(args: &CellsArgs, context: &Context) -> Result<(), Failure> {
    let file = args.file.display();
    let text = input::read(&args.file)?;
    let mut scenario =
        Scenario::parse(&text).map_err(|error| Failure::Invalid(format!("scenario {file}: {error}")))?;
    if !args.seed.is_empty() {
        scenario.seeds.clone_from(&args.seed);
    }
    let outcomes = play(&scenario)?;
    let rows: Vec<Row> = Strategy::ALL
        .into_iter()
        .map(|strategy| Row::of(strategy, &outcomes))
        .collect();
    print_list(context.global.output, &rows)?;
    let stem = args.file.file_stem().unwrap_or_default();
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("sim").join(stem));
    files::write(&out, &outcomes)?;
    charts::write(&out, &scenario, &outcomes)?;
    eprintln!("figures of each day and charts are in {}", out.display());
    Ok(())
}

/// Every strategy with every seed, a thread for each strategy.
fn play(scenario: &Scenario) -> Result<Vec<Outcome>, Failure> {
    let runs = Strategy::ALL.len() * scenario.seeds.len();
    let days = u64::try_from(runs).unwrap_or(u64::MAX) * u64::from(scenario.days);
    let bar = ProgressBar::new(days);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} days, {eta} left") {
        bar.set_style(style);
    }
    let mut outcomes = Vec::new();
    for seed in &scenario.seeds {
        let of_seed = std::thread::scope(|scope| {
            let play = |strategy| {
                let bar = &bar;
                scope.spawn(move || simulate(scenario, strategy, *seed, &mut |_| bar.inc(1)))
            };
            let threads = Strategy::ALL.map(play);
            threads.map(std::thread::ScopedJoinHandle::join)
        });
        for outcome in of_seed {
            let outcome = outcome.map_err(|_| Failure::Other("a simulation broke off".to_owned()))?;
            outcomes.push(outcome.map_err(Failure::from_error)?);
        }
    }
    bar.finish_and_clear();
    Ok(outcomes)
}

/// A strategy's means over all seeds; refused tenants are their sum.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    strategy: String,
    utilisation: f64,
    by_static80: f64,
    hot_share: f64,
    refused: u32,
    most_cells: f64,
    cost: f64,
    moves: f64,
    switches: f64,
}

impl Row {
    fn of(strategy: Strategy, outcomes: &[Outcome]) -> Self {
        let mean = |strategy: Strategy, value: &dyn Fn(&Outcome) -> f64| {
            let of_it = outcomes.iter().filter(|outcome| outcome.strategy == strategy);
            let (sum, count) = of_it.fold((0.0, 0.0), |(sum, count), outcome| {
                (sum + value(outcome), count + 1.0)
            });
            sum / f64::max(count, 1.0)
        };
        let utilisation = mean(strategy, &Outcome::utilisation);
        let refused = outcomes.iter().filter(|outcome| outcome.strategy == strategy);
        Self {
            strategy: strategy.to_string(),
            utilisation,
            by_static80: utilisation / mean(Strategy::Static(80), &Outcome::utilisation),
            hot_share: mean(strategy, &Outcome::hot_share),
            refused: refused.map(Outcome::refused).sum(),
            most_cells: mean(strategy, &|outcome| f64::from(outcome.most_cells())),
            cost: mean(strategy, &Outcome::cost),
            moves: mean(strategy, &|outcome| f64::from(outcome.moves())),
            switches: mean(strategy, &|outcome| f64::from(outcome.switches())),
        }
    }
}

impl Tabular for Row {
    const HEADINGS: &'static [&'static str] = &[
        "STRATEGY",
        "UTILISATION",
        "BY STATIC 80%",
        "ABOVE 95%",
        "REFUSED",
        "CELLS AT MOST",
        "COST",
        "MOVES",
        "SWITCHES",
    ];
    const NARROW: usize = 9;

    fn cells(&self) -> Vec<String> {
        vec![
            self.strategy.clone(),
            format!("{:.3}", self.utilisation),
            format!("{:.3}", self.by_static80),
            format!("{:.2}%", self.hot_share * 100.0),
            self.refused.to_string(),
            format!("{:.1}", self.most_cells),
            format!("${:.0}", self.cost),
            format!("{:.0}", self.moves),
            format!("{:.0}", self.switches),
        ]
    }

    fn name(&self) -> String {
        self.strategy.clone()
    }
}
