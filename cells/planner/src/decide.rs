//! One plan: the steps in their order, each on top of what the steps before it decided.

use compact_str::format_compact;

use crate::draft::Draft;
use crate::model::{Claim, Name, Place, Spot, Tenant};
use crate::place::{Answer, Chosen, Refused, Search, unusable};
use crate::plan::{Placement, Plan};
use crate::report::{CellReport, Decision, Refusal, Report, Rule, counted};
use crate::state::State;
use crate::{class_step, move_step, pool_step};

/// A plan in the making.
pub(crate) struct Planning<'a> {
    pub draft: Draft<'a>,
    pub search: Search,
    pub plan: Plan,
    pub report: Report,
    /// Tenants that found no room, as they would be placed.
    pub unplaced: Vec<Tenant>,
    /// Tenants whose class changes and whose cell has no room for it.
    pub cramped: Vec<Tenant>,
}

/// Plans.
pub(crate) fn decide(state: &State, seed: u64) -> (Plan, Report) {
    let mut planning = Planning {
        draft: Draft::new(state),
        search: Search::new(state, seed),
        plan: Plan::default(),
        report: Report {
            now: state.now,
            ..Report::default()
        },
        unplaced: Vec::new(),
        cramped: Vec::new(),
    };
    planning.look_at_cells();
    planning.release();
    class_step::run(&mut planning);
    planning.place();
    move_step::run(&mut planning);
    pool_step::run(&mut planning);
    (planning.plan, planning.report)
}

/// What each cell answers to a tenant, by name, with what it has given back: to placing it, moving it or leaving it there.
pub(crate) fn explain(state: &State, tenant: &Tenant, seed: u64) -> Vec<Answer> {
    let mut draft = Draft::new(state);
    let standing = state.tenant(&tenant.name);
    for (standing, claim) in standing
        .into_iter()
        .flat_map(|standing| standing.claims().map(move |claim| (standing, claim)))
    {
        if let Some(slot) = state.slot(&claim.spot.cell) {
            draft.give(slot, standing, claim);
        }
    }
    // A tenant that runs is moved as what it takes; one that moves already, as what it will be.
    let (class, demand) = match &tenant.place {
        Place::Waiting | Place::Reserved { .. } => (tenant.class, state.demand_as(tenant, tenant.class)),
        Place::Running { .. } => (tenant.class, tenant.demand),
        Place::Moving(journey) => (journey.class, journey.demand),
    };
    let tenant = Tenant {
        demand,
        class,
        ..tenant.clone()
    };
    Search::new(state, seed).explain(&draft, &tenant)
}

impl Planning<'_> {
    /// Names the cells of which nothing usable is known.
    fn look_at_cells(&mut self) {
        let state = self.draft.state;
        for (_, standing) in state.slots_by_name() {
            if let Some(rule) = unusable(state, standing) {
                let age = state.now.saturating_sub(standing.cell.reported);
                let detail = match rule {
                    Rule::BadReport => standing.cell.fault.clone().unwrap_or_default(),
                    Rule::FutureReport => format!("it reported {} s in the future", age.saturating_neg()),
                    _ => format!("it reported {age} s ago"),
                };
                self.report.cells.push(CellReport {
                    cell: standing.name.clone(),
                    rule,
                    detail,
                });
            }
        }
        for name in state.lost() {
            let subject = format_compact!("tenant {name}");
            let detail = "its cell is not registered; it stays what it is";
            self.refused(Refusal::new(subject, "planned", Rule::LostCell, detail));
        }
    }

    /// Gives back room whose time is over.
    fn release(&mut self) {
        let state = self.draft.state;
        let lapsed: Vec<Tenant> = state
            .lapsed()
            .filter_map(|name| state.tenant(name))
            .cloned()
            .collect();
        for tenant in lapsed {
            // The last claim is the one that is kept: the only one, or that of the journey's end.
            let Some(kept) = tenant.claims().last() else {
                continue;
            };
            if let Some(slot) = state.slot(&kept.spot.cell) {
                self.draft.give(slot, &tenant, kept);
            }
            self.decided(Decision {
                subject: format!("tenant {}", tenant.name),
                action: format!("its room in cell {} is given back", kept.spot.cell),
                reason: "it was not taken in time".to_owned(),
                binding: None,
                score: None,
                runner_up: None,
                would_change: "the reservation is renewed before it lapses".to_owned(),
            });
            self.plan.released.push(tenant.name.clone());
        }
    }

    /// Reserves room for those who wait, the first asked first.
    fn place(&mut self) {
        let state = self.draft.state;
        let again = self.plan.released.iter().filter_map(|name| state.tenant(name));
        let again = again.filter(|tenant| matches!(tenant.place, Place::Reserved { .. }));
        let waiting = state.waiting().filter_map(|name| state.tenant(name));
        let mut all: Vec<Tenant> = waiting.chain(again).cloned().collect();
        all.sort_by(|one, other| (one.asked, &one.name).cmp(&(other.asked, &other.name)));
        for tenant in all {
            let tenant = Tenant {
                demand: state.demand_as(&tenant, tenant.class),
                ..tenant
            };
            match self.search.choose(&self.draft, &tenant, None) {
                Ok(chosen) => self.reserve(&tenant, chosen),
                Err(refused) => {
                    let rule = self.refuse(&tenant, refused);
                    // A cell that does not report is not mended by another cell.
                    if rule.is_want_of_cells() {
                        self.unplaced.push(tenant);
                    }
                }
            }
        }
    }

    fn reserve(&mut self, tenant: &Tenant, chosen: Chosen) {
        let state = self.draft.state;
        let standing = state.standing(chosen.slot);
        let cell = standing.name.clone();
        self.hold(tenant, &chosen);
        let is_single = tenant.availability == crate::model::Availability::Single;
        let zone = is_single.then(|| standing.held.room.zone(chosen.zone));
        let until = state.now.saturating_add(state.policy.reservation_seconds);
        self.decided(Decision {
            subject: format!("tenant {}", tenant.name),
            action: match &zone {
                Some(zone) => format!("placed in cell {cell}, zone {zone}"),
                None => format!("placed in cell {cell}"),
            },
            reason: "it is one of the two best cells that every rule allows".to_owned(),
            would_change: match &chosen.runner_up {
                Some(second) => format!("another seed, or more load in {cell} than in {}", second.cell),
                None => "another cell that the rules allow".to_owned(),
            },
            binding: Some(chosen.binding),
            score: Some(chosen.score),
            runner_up: chosen.runner_up,
        });
        self.plan.placements.push(Placement {
            tenant: tenant.name.clone(),
            cell,
            zone,
            zone_position: chosen.zone,
            until,
        });
    }

    fn refuse(&mut self, tenant: &Tenant, refused: Refused) -> Rule {
        let Refused { cells, nearest } = refused;
        let is_fitting = self.is_fitting(tenant);
        let (rule, detail) = match &nearest {
            Some(_) if !is_fitting => (Rule::TooLarge, "it would fill more than an empty cell".to_owned()),
            Some((cell, _)) => (Rule::Room, format!("cell {cell} is the nearest to having room")),
            None => verdict(&cells),
        };
        let subject = format_compact!("tenant {}", tenant.name);
        self.refused(Refusal {
            binding: nearest.map(|(_, binding)| binding),
            cells,
            ..Refusal::new(subject, "placed", rule, detail)
        });
        rule
    }

    /// Whether it would fit into an empty cell of a pool that its requirement allows.
    fn is_fitting(&self, tenant: &Tenant) -> bool {
        let state = self.draft.state;
        let pools = state.pools.values();
        pools
            .filter(|pool| pool_step::is_for(pool, &tenant.requirement))
            .any(|pool| pool_step::is_fitting(state, pool, tenant))
    }

    /// Takes the chosen room.
    pub fn hold(&mut self, tenant: &Tenant, chosen: &Chosen) {
        let spot = Spot {
            cell: self.name(chosen.slot),
            zone: chosen.zone,
        };
        let claim = Claim {
            spot: &spot,
            demand: &tenant.demand,
            class: tenant.class,
        };
        self.draft.take(chosen.slot, tenant, claim);
    }

    pub fn refused(&mut self, refusal: Refusal) {
        self.report.refusals.push(refusal);
    }

    pub fn decided(&mut self, decision: Decision) {
        self.report.decisions.push(decision);
    }

    pub fn name(&self, slot: u32) -> Name {
        self.draft.state.standing(slot).name.clone()
    }
}

/// The rule that came the furthest: the last of the order in which rules are asked.
fn verdict(cells: &std::collections::BTreeMap<Rule, u32>) -> (Rule, String) {
    match cells.last_key_value() {
        Some((rule, count)) => {
            let excluded = counted(*count, "cell");
            (
                *rule,
                format!("it excludes {excluded}; rules before it exclude the others"),
            )
        }
        None => (Rule::NoCell, "there is no cell at all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::document::Document;

    const FLEET: &str = "
policy: {z: 0, accountLimit: 2}
classes:
  small:
    prior: {mean: {cpu: 4}}
    criteria: {nodes: [0, 9], memory: [0, 9], seats: [0, 9], datastore: [0, 9], watches: [0, 9]}
  medium:
    prior: {mean: {cpu: 6}}
    criteria: {nodes: [9, 10], memory: [9, 10], seats: [9, 10], datastore: [9, 10], watches: [9, 10]}
  large:
    prior: {mean: {cpu: 8}}
    criteria: {nodes: [10, null], memory: [10, null], seats: [10, null], datastore: [10, null], watches: [10, null]}
pools:
  eu: {region: eu, price: 1, leadSeconds: 1, maximum: 2, zones: {a: &zone {capacity: {cpu: 20}}, b: *zone, c: *zone}}
cells:
  one: {pool: eu}
  two: {pool: eu}
tenants:
  first: {region: eu, cell: one, account: both, demand: {mean: {cpu: 3}}}
  second: {region: eu, cell: one, account: both, demand: {mean: {cpu: 24}}}
  moves: {region: eu, cell: one, movingTo: two, demand: {mean: {cpu: 1}}}
  waits: {region: eu, demand: {mean: {cpu: 1}}}
";

    /// What each cell answers, in percent.
    fn answers(name: &str) -> String {
        let input = Document::parse(FLEET).and_then(Document::check).expect("a fleet");
        let state = State::new(input);
        let tenant = state.tenant(name).expect("a tenant");
        let mut out = String::new();
        for Answer {
            cell, rule, binding, ..
        } in state.explain(tenant, 0)
        {
            let percent = binding.map_or(0.0, |binding| binding.utilisation * 100.0);
            write!(out, "{cell} {percent:.0} {rule:?}; ").expect("memory");
        }
        out
    }

    // A cell's zones take 19 − 8/2 = 15 each, and half of each tenant: 30 in all.

    #[test]
    fn what_a_tenant_has_already_is_not_counted_twice() {
        assert_eq!(answers("first"), "one 93 None; two 23 None; ");
        assert_eq!(answers("second"), "one 93 None; two 93 None; ");
    }

    #[test]
    fn a_tenant_that_moves_is_what_it_will_be_and_has_room_in_one_cell() {
        assert_eq!(answers("moves"), "one 103 Some(Room); two 13 None; ");
    }

    #[test]
    fn a_tenant_that_waits_takes_no_less_than_its_class_starts_with() {
        assert_eq!(answers("waits"), "one 107 Some(Room); two 27 None; ");
    }
}
