//! The step of moves: tenants whose new class finds no room, cells that are emptied, cells that are too full.

use compact_str::format_compact;

use crate::decide::Planning;
use crate::model::{Name, Phase, Place, Tenant};
use crate::place::Refused;
use crate::plan::Move;
use crate::report::{Decision, Refusal, Rule, counted};
use crate::room::Room;

/// Moves what must move, within each pool's budget.
pub(crate) fn run(planning: &mut Planning<'_>) {
    let mut budget = Budget::of(planning);
    for tenant in std::mem::take(&mut planning.cramped) {
        let reason = format!("its cell has no room for class {}", tenant.class);
        if !go(planning, &mut budget, &tenant, &reason) {
            planning.unplaced.push(tenant);
        }
    }
    let state = planning.draft.state;
    let draining = state
        .slots_by_name()
        .filter(|(_, standing)| standing.cell.phase == Phase::Draining);
    for (slot, standing) in draining {
        let mut leaving: Vec<&Tenant> = state
            .members_of(slot)
            .filter(|tenant| is_at_rest(planning, tenant))
            .collect();
        leaving.sort_by(|one, other| one.name.cmp(&other.name));
        let reason = format!("cell {} is being emptied", standing.name);
        for (position, tenant) in leaving.iter().enumerate() {
            if budget.is_spent(&standing.cell.pool) {
                stay(planning, &standing.name, leaving.len() - position);
                break;
            }
            go(planning, &mut budget, tenant, &reason);
        }
    }
    let full: Vec<u32> = state
        .slots_by_name()
        .filter(|(_, standing)| {
            // Of a cell whose report is faulty nobody knows whether it is full.
            standing.cell.phase != Phase::Draining
                && standing.cell.phase != Phase::Building
                && standing.cell.fault.is_none()
        })
        .map(|(slot, _)| slot)
        .filter(|slot| !planning.draft.held(*slot).room.fill(&state.policy).is_room())
        .collect();
    for slot in full {
        relieve(planning, &mut budget, slot);
    }
}

/// Tells that the rest of a cell's tenants wait for the budget.
fn stay(planning: &mut Planning<'_>, cell: &Name, count: usize) {
    let limit = planning.draft.state.policy.move_budget;
    let waiting = counted(u32::try_from(count).unwrap_or(u32::MAX), "tenant");
    let detail = format!(
        "{waiting} wait: its pool has {} under way",
        counted(limit, "move")
    );
    let subject = format_compact!("cell {cell}");
    planning.refused(Refusal::new(subject, "emptied faster", Rule::MoveBudget, detail));
}

/// Moves tenants out of a cell that is too full, until it would no longer be.
fn relieve(planning: &mut Planning<'_>, budget: &mut Budget, slot: u32) {
    let state = planning.draft.state;
    let standing = state.standing(slot);
    let mut room = planning.draft.held(slot).room.clone();
    for tenant in state.members_of(slot) {
        if let (Place::Moving(journey), false) =
            (&tenant.place, planning.plan.released.contains(&tenant.name))
        {
            room.give(&tenant.demand, tenant.availability, journey.from.zone);
        }
    }
    let mut others: Vec<&Tenant> = state
        .members_of(slot)
        .filter(|tenant| is_at_rest(planning, tenant))
        .collect();
    loop {
        let fit = room.fill(&state.policy);
        if fit.is_room() || others.is_empty() {
            return;
        }
        let pick = pick(&room, &mut others, fit.at.0, planning);
        let binding = room.binding(&fit);
        let reason = format!("cell {} is too full: {binding}", standing.name);
        if !go(planning, budget, pick, &reason) {
            return;
        }
        if let Some(spot) = pick.place.home() {
            room.give(&pick.demand, pick.availability, spot.zone);
        }
    }
}

/// The tenant whose leaving costs the least disturbance: the smallest that ends the excess alone, else the greatest.
fn pick<'a>(
    room: &Room,
    others: &mut Vec<&'a Tenant>,
    resource: crate::resource::Resource,
    planning: &Planning<'_>,
) -> &'a Tenant {
    let key = |tenant: &&Tenant| (tenant.demand.mean[resource], tenant.name.clone());
    others.sort_by_key(key);
    let policy = &planning.draft.state.policy;
    let ends = |tenant: &&Tenant| {
        let mut without = room.clone();
        let zone = tenant.place.home().map_or(0, |spot| spot.zone);
        without.give(&tenant.demand, tenant.availability, zone);
        without.fill(policy).is_room()
    };
    let first = others.partition_point(|tenant| !ends(tenant));
    others.remove(first.min(others.len() - 1))
}

/// Whether it runs, is not under way and was not changed a moment ago.
fn is_at_rest(planning: &Planning<'_>, tenant: &Tenant) -> bool {
    let state = planning.draft.state;
    let rested = state.now.saturating_sub(tenant.changed) >= state.policy.cooldown_seconds;
    let is_switching = planning
        .plan
        .switches
        .iter()
        .any(|switch| switch.tenant == tenant.name);
    let is_leaving = planning.plan.moves.iter().any(|step| step.tenant == tenant.name);
    matches!(tenant.place, Place::Running { .. }) && rested && !is_switching && !is_leaving
}

/// Finds another cell for a tenant as it is given; false when it stays.
fn go(planning: &mut Planning<'_>, budget: &mut Budget, tenant: &Tenant, reason: &str) -> bool {
    let state = planning.draft.state;
    let Some(from) = tenant.place.home().map(|spot| spot.cell.clone()) else {
        return false;
    };
    let pool = state
        .cell(&from)
        .map(|cell| cell.pool.clone())
        .unwrap_or_default();
    if budget.is_spent(&pool) {
        let detail = format!("pool {pool} has {} moves under way", state.policy.move_budget);
        refuse(planning, tenant, Rule::MoveBudget, detail, None);
        return false;
    }
    let chosen = match planning.search.choose(&planning.draft, tenant, state.slot(&from)) {
        Ok(chosen) => chosen,
        Err(refused) => {
            let detail = format!("{reason}, and no other cell takes it");
            refuse(planning, tenant, Rule::Room, detail, Some(refused));
            return false;
        }
    };
    planning.hold(tenant, &chosen);
    budget.spend(&pool);
    let to = planning.name(chosen.slot);
    let until = state.now.saturating_add(state.policy.reservation_seconds);
    planning.decided(Decision {
        subject: format!("tenant {}", tenant.name),
        action: format!("moves from cell {from} to {to}"),
        reason: reason.to_owned(),
        binding: Some(chosen.binding),
        score: Some(chosen.score),
        runner_up: chosen.runner_up,
        would_change: format!("room in cell {from}"),
    });
    planning.plan.moves.push(Move {
        tenant: tenant.name.clone(),
        from,
        to,
        zone_position: chosen.zone,
        until,
        class: tenant.class,
    });
    true
}

fn refuse(
    planning: &mut Planning<'_>,
    tenant: &Tenant,
    rule: Rule,
    detail: String,
    refused: Option<Refused>,
) {
    let (cells, nearest) = refused
        .map(|refused| (refused.cells, refused.nearest))
        .unwrap_or_default();
    let subject = format_compact!("tenant {}", tenant.name);
    planning.refused(Refusal {
        binding: nearest.map(|(_, binding)| binding),
        cells,
        ..Refusal::new(subject, "moved", rule, detail)
    });
}

/// How many moves each pool may still begin.
struct Budget {
    limit: u32,
    spent: std::collections::BTreeMap<Name, u32>,
}

impl Budget {
    /// What the moves that are under way leave.
    fn of(planning: &Planning<'_>) -> Self {
        let state = planning.draft.state;
        let mut budget = Self {
            limit: state.policy.move_budget,
            spent: std::collections::BTreeMap::new(),
        };
        let moving = state
            .moving()
            .filter(|name| !planning.plan.released.contains(name));
        for tenant in moving.filter_map(|name| state.tenant(name)) {
            if let Place::Moving(journey) = &tenant.place
                && let Some(cell) = state.cell(&journey.from.cell)
            {
                budget.spend(&cell.pool);
            }
        }
        budget
    }

    fn is_spent(&self, pool: &Name) -> bool {
        self.spent.get(pool).copied().unwrap_or(0) >= self.limit
    }

    fn spend(&mut self, pool: &Name) {
        *self.spent.entry(pool.clone()).or_insert(0) += 1;
    }
}
