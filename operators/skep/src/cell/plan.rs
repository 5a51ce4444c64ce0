//! `skep cell plan`: what the planner would do with this platform or with a fleet that a file describes, and why.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_planner::document::Document;
use skep_planner::model::Name;
use skep_planner::{Answer, Decision, Plan, Report, State};

use super::hub;
use crate::client::output::{Tabular, print_list, print_whole};
use crate::client::{Context, Failure};
use crate::input;

/// Options of `skep cell plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan the fleet of a file, such as docs/examples/fleet.yaml, instead of this platform.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Give the reasons: what binds, who came second, what would change it, and the rule of every refusal.
    #[arg(long)]
    explain: bool,
    /// Show what each cell answers to this tenant instead, with what it has already given back; CLUSTER or PROJECT/CLUSTER
    /// of this platform.
    #[arg(long)]
    tenant: Option<Name>,
    /// The seed of chance between equally good cells.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct Planned<'a> {
    plan: &'a Plan,
    report: &'a Report,
}

/// Plans, and shows the plan; nothing is done.
pub async fn plan(args: &PlanArgs, context: &Context) -> Result<(), Failure> {
    let format = context.global.output;
    let (whose, state) = match &args.file {
        Some(file) => (format!("fleet {}", file.display()), described(file)?),
        None => ("the platform".to_owned(), standing(context).await?),
    };
    if let Some(name) = &args.tenant {
        let is_short = args.file.is_none() && !name.contains('/');
        let name = if is_short {
            Name::from(format!("{}/{name}", context.global.project))
        } else {
            name.clone()
        };
        let tenant = state
            .tenant(&name)
            .ok_or_else(|| Failure::NotFound(format!("{whose} has no tenant {name}{}", remedy(args))))?;
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

/// Where the tenants of this platform are seen.
fn remedy(args: &PlanArgs) -> &'static str {
    if args.file.is_none() {
        "; `skep cluster list --project PROJECT` shows those of a project"
    } else {
        ""
    }
}

/// The fleet of a file.
fn described(file: &Path) -> Result<State, Failure> {
    let input = Document::parse(&input::read(file)?)
        .and_then(Document::check)
        .map_err(|error| Failure::Invalid(format!("fleet {}: {error}", file.display())))?;
    Ok(State::new(input))
}

/// The fleet of this platform; what cannot be read of it is told.
async fn standing(context: &Context) -> Result<State, Failure> {
    let view = hub::objects(context)
        .await?
        .view(jiff::Timestamp::now().as_second());
    for fault in &view.faults {
        eprintln!("{fault}");
    }
    Ok(view.state())
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
        let text = include_str!("../../../../docs/examples/fleet.yaml");
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
