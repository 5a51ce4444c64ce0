//! `skep cell`: what the planner would do, and why.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use skep_planner::document::Document;
use skep_planner::model::Name;
use skep_planner::{Answer, Decision, Plan, Report, State};

use crate::client::context::Format;
use crate::client::output::{Tabular, print_list, print_whole};
use crate::client::{Context, Failure};
use crate::input;

/// Cells.
#[derive(Debug, Args)]
pub struct CellArgs {
    #[command(subcommand)]
    command: CellCommand,
}

#[derive(Debug, Subcommand)]
enum CellCommand {
    /// Plan a fleet that a file describes: placements, classes, moves, cells to build and to empty. Nothing is done.
    Plan(PlanArgs),
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// The fleet, such as docs/examples/fleet.yaml.
    #[arg(long)]
    file: PathBuf,
    /// Give the reasons: what binds, who came second, what would change it, and the rule of every refusal.
    #[arg(long)]
    explain: bool,
    /// Show what each cell answers to this tenant instead, with what it has already given back.
    #[arg(long)]
    tenant: Option<Name>,
    /// The seed of chance between equally good cells.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs a command of cells.
pub fn run(args: CellArgs, context: &Context) -> Result<(), Failure> {
    match args.command {
        CellCommand::Plan(args) => plan(&args, context.global.output),
    }
}

#[derive(Serialize)]
struct Planned<'a> {
    plan: &'a Plan,
    report: &'a Report,
}

fn plan(args: &PlanArgs, format: Format) -> Result<(), Failure> {
    let file = args.file.display();
    let input = Document::parse(&input::read(&args.file)?)
        .and_then(Document::check)
        .map_err(|error| Failure::Invalid(format!("fleet {file}: {error}")))?;
    let state = State::new(input);
    if let Some(name) = &args.tenant {
        let tenant = state
            .tenant(name)
            .ok_or_else(|| Failure::NotFound(format!("fleet {file} has no tenant {name}")))?;
        return Ok(print_list(format, &state.explain(tenant, args.seed))?);
    }
    let (plan, report) = state.plan(args.seed);
    let (plan, report) = (&plan, &report);
    if print_whole(format, &Planned { plan, report })? {
        return Ok(());
    }
    if args.explain {
        print!("{report}");
        return Ok(());
    }
    print_list(format, &report.decisions)?;
    let refused = report.refusals.len() + report.cells.len();
    if refused > 0 {
        eprintln!("{refused} more could not be decided or done; --explain says by which rules");
    }
    Ok(())
}

impl Tabular for Decision {
    const HEADINGS: &'static [&'static str] = &["SUBJECT", "ACTION", "BECAUSE", "WOULD CHANGE"];
    const NARROW: usize = 3;

    fn cells(&self) -> Vec<String> {
        let Self {
            subject,
            action,
            reason,
            would_change,
            ..
        } = self;
        [subject, action, reason, would_change].map(Clone::clone).to_vec()
    }

    fn name(&self) -> String {
        self.subject.clone()
    }
}

impl Tabular for Answer {
    const HEADINGS: &'static [&'static str] = &["CELL", "SCORE", "RULE", "BINDS", "WOULD CHANGE"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        let Self {
            cell,
            rule,
            binding,
            score,
        } = self;
        let dash = || "-".to_owned();
        vec![
            cell.to_string(),
            score.map_or_else(dash, |score| format!("{score:.3}")),
            rule.map_or_else(dash, |rule| format!("{rule:?}")),
            binding.as_ref().map_or_else(dash, ToString::to_string),
            rule.map_or_else(dash, |rule| rule.remedy().to_owned()),
        ]
    }

    fn name(&self) -> String {
        self.cell.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_a_placement_a_refusal_and_a_cell_that_does_not_report() {
        let text = include_str!("../../../docs/examples/fleet.yaml");
        let input = Document::parse(text).and_then(Document::check).unwrap();
        let state = State::new(input);
        let (_, report) = state.plan(0);
        let decisions: Vec<String> = report
            .decisions
            .iter()
            .map(|decision| decision.cells().join(" "))
            .collect();
        assert_eq!(decisions.len(), 1);
        assert!(
            decisions[0].starts_with("tenant new placed in cell eu-"),
            "{decisions:?}"
        );
        let refusals: Vec<&str> = report
            .refusals
            .iter()
            .map(|refusal| refusal.subject.as_str())
            .collect();
        assert_eq!(refusals, ["tenant abroad"]);
        let answers = state.explain(state.tenant("new").unwrap(), 0);
        let last = answers.last().map(Tabular::cells).unwrap();
        assert_eq!(last[..3], ["eu-3", "-", "StaleReport"]);
        assert_eq!(last[4], "the cell reports again");
    }
}
