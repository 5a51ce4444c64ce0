//! Why a plan is what it is: for each decision what binds, who came second and what would change it; for each refusal
//! the rule.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::model::{Name, Seconds};
use crate::room::Binding;

/// A rule that forbids something. Its name in files and texts never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Rule {
    /// The cell is in another region.
    Region,
    /// The cell is outside the jurisdiction that the tenant's data must not leave.
    Residency,
    /// The pool lacks a label of compliance.
    Compliance,
    /// The cell has a taint that the tenant does not tolerate.
    Taint,
    /// Ranges of tenant and cell overlap.
    RangeOverlap,
    /// The cell is not there yet.
    Building,
    /// The cell takes no new tenants.
    Cordoned,
    /// The cell is being emptied.
    Draining,
    /// The cell is not ready.
    NotReady,
    /// The cell's report is too old.
    StaleReport,
    /// The cell's report is from the future.
    FutureReport,
    /// The cell's report cannot be used.
    BadReport,
    /// The cell's report lacks a dimension that the tenant takes.
    IncompleteReport,
    /// A tenant over all zones needs a cell of two or more.
    ZoneRedundancy,
    /// The account has as many tenants there as a cell takes.
    AccountSpread,
    /// There is no room, with one zone lost and what is kept free.
    Room,
    /// It would fit into no cell, not even an empty one.
    TooLarge,
    /// The region has no cell.
    NoCell,
    /// The cell that it runs in is not registered.
    LostCell,
    /// Too many switches in the cell's window.
    SwitchTokens,
    /// Too soon after the last change.
    Cooldown,
    /// Not yet long enough on this side of the class.
    Delay,
    /// Nothing usable is known of the tenant.
    Frozen,
    /// The class that was pinned is none.
    UnknownClass,
    /// As many moves are under way as a pool takes.
    MoveBudget,
    /// Ordering was stopped by hand.
    Stopped,
    /// The pool has as many cells as it may.
    Maximum,
    /// The provider's quota.
    Quota,
    /// The pool's money.
    Budget,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 29] = [
        Self::Region,
        Self::Residency,
        Self::Compliance,
        Self::Taint,
        Self::RangeOverlap,
        Self::Building,
        Self::Cordoned,
        Self::Draining,
        Self::NotReady,
        Self::StaleReport,
        Self::FutureReport,
        Self::BadReport,
        Self::IncompleteReport,
        Self::ZoneRedundancy,
        Self::AccountSpread,
        Self::Room,
        Self::TooLarge,
        Self::NoCell,
        Self::LostCell,
        Self::SwitchTokens,
        Self::Cooldown,
        Self::Delay,
        Self::Frozen,
        Self::UnknownClass,
        Self::MoveBudget,
        Self::Stopped,
        Self::Maximum,
        Self::Quota,
        Self::Budget,
    ];

    /// What makes the rule allow it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Region | Self::NoCell => "a cell in the tenant's region",
            Self::Residency => "a cell inside the tenant's jurisdiction",
            Self::Compliance => "a pool with the labels that the tenant demands",
            Self::Taint => "a toleration of the taint, or a cell without it",
            Self::RangeOverlap => "other ranges of the tenant, or of the pool",
            Self::Building => "the cell is ready",
            Self::Cordoned => "the cell is uncordoned",
            Self::Draining => "the cell is no longer emptied",
            Self::NotReady => "the cell's agent says that it is ready",
            Self::StaleReport => "the cell reports again",
            Self::FutureReport => "the clocks of cell and hub agree",
            Self::BadReport | Self::IncompleteReport => {
                "the cell reports every zone and dimension with numbers from 0"
            }
            Self::ZoneRedundancy => "a cell of two zones or more, or availability Single",
            Self::AccountSpread => "a further cell, or a greater accountLimit",
            Self::Room => "a new cell, or room in one",
            Self::TooLarge => "a pool with larger cells",
            Self::LostCell => "its cell registers again, or it is restored into another",
            Self::SwitchTokens => "the window moves on",
            Self::Cooldown | Self::Delay => "it lasts until then",
            Self::Frozen => "fresh signals of an apiserver that answers",
            Self::UnknownClass => "small, medium or large",
            Self::MoveBudget => "a move ends",
            Self::Stopped => "ordering is allowed again",
            Self::Maximum => "a greater maximum",
            Self::Quota => "a greater quota at the provider",
            Self::Budget => "a greater budget",
        }
    }

    /// Whether a further cell would mend it.
    pub(crate) fn is_want_of_cells(self) -> bool {
        matches!(
            self,
            Self::Room | Self::AccountSpread | Self::NoCell | Self::Region | Self::Cordoned | Self::Draining
        )
    }
}

/// A count with its noun.
pub(crate) fn counted(count: u32, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// How many of those who wait a text names; JSON has them all.
const NAMED: usize = 5;

/// The cell that came second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunnerUp {
    /// The cell.
    pub cell: Name,
    /// Its score; greater is better.
    pub score: f64,
}

/// Something that the plan does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What it is about.
    pub subject: String,
    /// What is done.
    pub action: String,
    /// Why.
    pub reason: String,
    /// What binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// The score of what was chosen; greater is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Who came second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<RunnerUp>,
    /// What would change the decision.
    pub would_change: String,
}

/// Something that the plan does not do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// What it is about.
    pub subject: Name,
    /// What was wanted.
    pub wanted: Name,
    /// The rule that forbids it.
    pub rule: Rule,
    /// The particulars.
    pub detail: String,
    /// What binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// How many cells each rule excluded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cells: BTreeMap<Rule, u32>,
    /// Who waits, the first to go first, where it is about more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Name>,
    /// What would change it.
    pub would_change: &'static str,
}

impl Refusal {
    /// A refusal by a rule, without a binding dimension and without counts.
    pub(crate) fn new(subject: Name, wanted: impl Into<Name>, rule: Rule, detail: impl Into<String>) -> Self {
        Self {
            subject,
            wanted: wanted.into(),
            rule,
            detail: detail.into(),
            binding: None,
            cells: BTreeMap::new(),
            tenants: Vec::new(),
            would_change: rule.remedy(),
        }
    }
}

/// A pool's capacity and need, in the dimension that binds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolReport {
    /// The pool.
    pub pool: Name,
    /// Cells that take or keep tenants.
    pub cells: u32,
    /// Cells that are being built.
    pub building: u32,
    /// The dimension with the greatest need.
    pub resource: String,
    /// What is taken and promised, in units.
    pub need: f64,
    /// What will come until an ordered cell is ready, in units.
    pub growth: f64,
    /// What may be taken of the cells that are there and being built, in units.
    pub supply: f64,
    /// Whether the growth is forecast from the history, or the history is too short.
    pub is_forecast: bool,
    /// Need by supply is above the share at which people are warned.
    pub is_warned: bool,
}

/// The report of one plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "a plan without its reasons cannot be checked"]
pub struct Report {
    /// The time of the plan, in seconds since 1970.
    pub now: Seconds,
    /// Pools.
    pub pools: Vec<PoolReport>,
    /// What is done.
    pub decisions: Vec<Decision>,
    /// What is not done.
    pub refusals: Vec<Refusal>,
    /// Cells whose reports cannot be used, and why.
    pub cells: Vec<CellReport>,
}

/// A cell of which nothing usable is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CellReport {
    /// The cell.
    pub cell: Name,
    /// The rule.
    pub rule: Rule,
    /// The particulars.
    pub detail: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            now: _,
            pools,
            decisions,
            refusals,
            cells,
        } = self;
        pools.iter().try_for_each(|pool| pool.fmt(f))?;
        for CellReport { cell, rule, detail } in cells {
            writeln!(f, "cell {cell}: {rule:?}: {detail}")?;
        }
        decisions.iter().try_for_each(|decision| decision.fmt(f))?;
        refusals.iter().try_for_each(|refusal| refusal.fmt(f))
    }
}

impl fmt::Display for PoolReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            cells,
            building,
            resource,
            need,
            growth,
            supply,
            is_forecast,
            is_warned,
        } = self;
        let cells = counted(*cells, "cell");
        write!(
            f,
            "pool {pool}: {cells} and {building} in building, {resource} binds: "
        )?;
        write!(f, "{need:.1} needed")?;
        match is_forecast {
            true => write!(f, " and {growth:.1} to come until an ordered cell is ready")?,
            false => write!(f, " (too short a history for a forecast)")?,
        }
        write!(f, ", {supply:.1} there")?;
        writeln!(f, "{}", if *is_warned { "; WARNING" } else { "" })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            action,
            reason,
            binding,
            score,
            runner_up,
            would_change,
        } = self;
        writeln!(f, "{subject}: {action}")?;
        writeln!(f, "  because {reason}")?;
        if let Some(binding) = binding {
            writeln!(f, "  {binding}")?;
        }
        match (score, runner_up) {
            (Some(score), Some(second)) => {
                writeln!(
                    f,
                    "  score {score:.3}; runner-up {} with {:.3}",
                    second.cell, second.score
                )?;
            }
            (Some(score), None) => writeln!(f, "  score {score:.3}; no runner-up")?,
            (None, _) => {}
        }
        writeln!(f, "  would change: {would_change}")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            wanted,
            rule,
            detail,
            binding,
            cells,
            tenants,
            would_change,
        } = self;
        writeln!(f, "{subject}: not {wanted}")?;
        writeln!(f, "  rule {rule:?}: {detail}")?;
        if let Some(binding) = binding {
            writeln!(f, "  {binding}")?;
        }
        if !cells.is_empty() {
            let counts: Vec<String> = cells
                .iter()
                .map(|(rule, count)| format!("{rule:?} {count}"))
                .collect();
            writeln!(f, "  cells excluded: {}", counts.join(", "))?;
        }
        if !tenants.is_empty() {
            let named = tenants.len().min(NAMED);
            write!(f, "  waiting: {}", tenants[..named].join(", "))?;
            match tenants.len() - named {
                0 => writeln!(f)?,
                more => writeln!(f, " and {more} more")?,
            }
        }
        writeln!(f, "  would change: {would_change}")
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            zone,
            utilisation,
        } = self;
        if utilisation.is_finite() {
            write!(
                f,
                "{resource} in zone {zone} binds at {:.1}%",
                utilisation * 100.0
            )
        } else {
            write!(f, "{resource} in zone {zone} binds: there is none")
        }
    }
}
