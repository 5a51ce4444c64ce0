//! What a plan means for one pool, and the status that says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::cell_pool::PoolBinding;
use skep_api::{CellPool, CellPoolStatus};
use skep_core::reasons;
use skep_planner::document::Fault;
use skep_planner::model::Name;
use skep_planner::{Plan, PoolReport, Report, Rule};
use skep_runtime::conditions::to_second;
use skep_runtime::{ConditionStatus, Conditions};
use skep_view::View;

use super::orders::idle;

/// The seed of chance between cells that are equally good: the pool's outlook is the same for all.
const SEED: u64 = 0;

/// What the planner says of one pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Outlook {
    /// What binds, and how many cells there are; nothing where the pool is not known.
    pub report: Option<PoolReport>,
    /// How many tenants its cells hold.
    pub tenants: usize,
    /// How many cells more are wanted and allowed.
    pub wanted: u32,
    /// How many of them are ordered.
    pub ordered: u32,
    /// The cells that are given back once they were empty for long enough.
    pub drains: Vec<Name>,
    /// Whether the cells do not suffice.
    pub is_short: bool,
    /// Why more cells are wanted, and what forbids some of them.
    pub reasons: Vec<String>,
    /// The rule that forbids cells that are wanted.
    pub forbidden: Option<Rule>,
    /// What is wrong with the pool's own fields.
    pub faults: Vec<String>,
}

impl Outlook {
    /// Plans, and picks what concerns each pool, by name.
    pub fn all(view: View) -> BTreeMap<Name, Self> {
        let faults = view.faults.clone();
        let mut tenants: BTreeMap<Name, usize> = BTreeMap::new();
        for home in view.input.tenants.iter().filter_map(|tenant| tenant.place.home()) {
            if let Some(cell) = view.input.cells.get(&home.cell) {
                *tenants.entry(cell.pool.clone()).or_default() += 1;
            }
        }
        let homes: BTreeMap<Name, Name> = view
            .input
            .cells
            .iter()
            .map(|(name, cell)| (name.clone(), cell.pool.clone()))
            .collect();
        let pools: Vec<(Name, bool)> = view
            .input
            .pools
            .iter()
            .map(|(name, pool)| (name.clone(), pool.is_short))
            .collect();
        let (plan, report) = view.state().plan(SEED);
        let outlook = |(name, stood): (Name, bool)| {
            let count = tenants.get(&name).copied().unwrap_or(0);
            let mut outlook = Self::of(&name, stood, count, (&plan, &report), &faults);
            let carried_out = plan.drains.iter().filter(|drain| !drain.is_shadow);
            let own = carried_out.filter(|drain| homes.get(&drain.cell) == Some(&name));
            outlook.drains = own.map(|drain| drain.cell.clone()).collect();
            (name, outlook)
        };
        pools.into_iter().map(outlook).collect()
    }

    fn of(
        name: &str,
        stood: bool,
        tenants: usize,
        (plan, report): (&Plan, &Report),
        faults: &[Fault],
    ) -> Self {
        let field = format!("pools.{name}.");
        let own = faults.iter().filter_map(|fault| {
            let field = fault.field.strip_prefix(&field)?;
            Some(format!("{field}: {}", fault.message))
        });
        let subject = format!("pool {name}");
        let decisions = report
            .decisions
            .iter()
            .filter(|decision| decision.subject == subject);
        let refusals = report
            .refusals
            .iter()
            .filter(|refusal| refusal.subject == subject);
        let told = decisions.map(|decision| decision.reason.clone());
        let turned = plan.shortages.iter().find(|shortage| shortage.pool == name);
        let orders = plan.orders.iter().filter(|order| order.pool == name);
        Self {
            report: report.pools.iter().find(|pool| pool.pool == name).cloned(),
            tenants,
            wanted: orders.clone().map(|order| order.cells).sum(),
            ordered: orders
                .filter(|order| !order.is_shadow)
                .map(|order| order.cells)
                .sum(),
            drains: Vec::new(),
            is_short: turned.map_or(stood, |turned| turned.is_short),
            reasons: told
                .chain(refusals.clone().map(|refusal| refusal.detail.clone()))
                .collect(),
            forbidden: refusals.map(|refusal| refusal.rule).next(),
            faults: own.collect(),
        }
    }

    /// The reason of the condition `Sufficient`.
    pub fn reason(&self) -> String {
        let is_warned = self.report.as_ref().is_some_and(|report| report.is_warned);
        match (self.is_short, self.forbidden) {
            (true, Some(rule)) => format!("{rule:?}"),
            (true, None) => reasons::SHORT.to_owned(),
            (false, _) if is_warned => reasons::FILLING.to_owned(),
            (false, _) => reasons::AS_DESIRED.to_owned(),
        }
    }

    /// The scarcest dimension, and what is taken of what may be taken of it, 0 to 1 and more.
    pub fn utilisation(&self) -> Option<(&str, f64)> {
        let report = self.report.as_ref()?;
        let need = report.need + report.growth;
        let share = if need <= 0.0 { 0.0 } else { need / report.supply };
        Some((&report.resource, share))
    }
}

/// Builds the status.
pub(super) fn build_status(pool: &CellPool, outlook: &Outlook, now: Timestamp) -> CellPoolStatus {
    let observed = pool.status.clone().unwrap_or_default();
    let conditions = Conditions::new(&observed.conditions, pool.metadata.generation, now);
    let valid = if outlook.faults.is_empty() {
        (
            ConditionStatus::True,
            reasons::AS_DESIRED,
            "every field can be acted upon".to_owned(),
        )
    } else {
        (
            ConditionStatus::False,
            reasons::INVALID_SPEC,
            outlook.faults.join("; "),
        )
    };
    let is_sufficient = ConditionStatus::from_bool(!outlook.is_short);
    let mut conditions = conditions
        .set(
            reasons::SUFFICIENT,
            is_sufficient,
            &outlook.reason(),
            message(outlook),
        )
        .set(reasons::VALID, valid.0, valid.1, valid.2)
        .build();
    conditions.sort_by_key(|condition| condition.type_ != reasons::SUFFICIENT);
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    CellPoolStatus {
        observed_generation: pool.metadata.generation,
        cells: count(outlook.report.as_ref().map_or(0, |report| report.cells)),
        tenants: i32::try_from(outlook.tenants).unwrap_or(i32::MAX),
        wanted: count(outlook.wanted),
        binding: outlook.utilisation().map(|(resource, share)| PoolBinding {
            resource: resource.to_owned(),
            percent: percent(share),
        }),
        idle: idle(pool, &outlook.drains, now),
        short_since: outlook
            .is_short
            .then(|| observed.short_since.unwrap_or(Time(to_second(now)))),
        conditions,
    }
}

/// What the pool's cells are like, what is wanted, and what forbids it.
fn message(outlook: &Outlook) -> String {
    let taken = taken(outlook);
    let is_warned = outlook.report.as_ref().is_some_and(|report| report.is_warned);
    match (outlook.is_short, outlook.forbidden) {
        (true, Some(_)) => format!("{taken}: {}", outlook.reasons.join("; ")),
        (true, None) => {
            let building = outlook.report.as_ref().map_or(0, |report| report.building);
            let wanted = match outlook.wanted {
                0 if building > 0 => format!("{building} being built"),
                more if more > 0 && more == outlook.ordered => format!("{more} more ordered"),
                0 => "another cell was wanted and is not yet superfluous".to_owned(),
                1 => "1 cell more is wanted; build it, and name this pool in its Cell".to_owned(),
                more => {
                    format!("{more} cells more are wanted; build them, and name this pool in their Cells")
                }
            };
            let because = outlook.reasons.iter().map(|reason| format!("{reason}; "));
            format!("{taken}: {}{wanted}", because.collect::<String>())
        }
        (false, _) if is_warned => format!("{taken}; soon another cell is wanted"),
        (false, _) => taken,
    }
}

/// The scarcest dimension in words.
fn taken(outlook: &Outlook) -> String {
    let (Some(report), Some((resource, share))) = (&outlook.report, outlook.utilisation()) else {
        return "the planner does not know the pool yet".to_owned();
    };
    if report.cells + report.building == 0 {
        return "the pool has no cell".to_owned();
    }
    let need = report.need + report.growth;
    let supply = report.supply;
    format!(
        "{resource} binds: {need:.2} of {supply:.2} is taken, {}%",
        percent(share)
    )
}

/// Whole percent, at most 999.
#[expect(clippy::cast_possible_truncation, reason = "clamped just before")]
fn percent(share: f64) -> i32 {
    (share * 100.0).round().clamp(0.0, 999.0) as i32
}

#[cfg(test)]
mod tests;
