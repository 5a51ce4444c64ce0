//! The step of pools: how many cells to build, by forecast over the lead time, and which cell to empty.

use compact_str::format_compact;

use crate::decide::Planning;
use crate::forecast::growth;
use crate::model::{Cell, Class, Name, Phase, Pool, Requirement, Tenant};
use crate::plan::{Drain, Order, Shortage};
use crate::report::{Decision, PoolReport, Refusal, Rule, counted};
use crate::resource::{MILLI, Resource, Vector};
use crate::room::{Binding, Room};
use crate::state::State;

/// The most cells that one plan orders for one pool: more is a fault in what is known, not growth.
const MOST_AT_ONCE: u32 = 100;

/// A pool's cells and what is asked of them.
struct Balance {
    active: u32,
    building: u32,
    /// What tenants take and were promised.
    need: Vector<f64>,
    /// What will come, where it can be forecast.
    growth: Option<Vector<f64>>,
    /// What the cells that are there and being built may hold.
    supply: Vector<f64>,
    /// What a further cell may hold.
    further: Vector<f64>,
    /// Tenants that found no room.
    unplaced: u32,
}

/// Looks at each pool.
pub(crate) fn run(planning: &mut Planning<'_>) {
    let state = planning.draft.state;
    for (name, pool) in &state.pools {
        let balance = Balance::of(planning, name, pool);
        let (binding, pressure) = balance.binding(state);
        planning
            .report
            .pools
            .push(balance.report(state, name, binding, pressure));
        let wanted = balance.wanted(state, pool);
        let is_short = if pool.is_short {
            pressure > state.policy.clear_share || wanted > 0
        } else {
            pressure > 1.0 || wanted > 0
        };
        if is_short != pool.is_short {
            let pool = name.clone();
            planning.plan.shortages.push(Shortage { pool, is_short });
        }
        if wanted > 0 {
            order(planning, name, pool, &balance, wanted, binding);
        } else if !is_short && (balance.growth.is_some() || pool.returns_idle) {
            retire(planning, name, pool, &balance);
        }
    }
}

/// Whether a pool's cells are something for a requirement, room and taints aside.
pub(crate) fn is_for(pool: &Pool, requirement: &Requirement) -> bool {
    let residency = requirement.residency.as_ref();
    pool.region == requirement.region
        && (residency.is_none() || pool.residency.as_ref() == residency)
        && requirement.compliance.is_subset(&pool.compliance)
}

/// Whether an empty cell of a pool has room for a tenant.
pub(crate) fn is_fitting(state: &State, pool: &Pool, tenant: &Tenant) -> bool {
    template(state, pool)
        .fit(&state.policy, &tenant.demand, tenant.availability)
        .is_room()
}

fn template(state: &State, pool: &Pool) -> Room {
    let cell = Cell::from_template(pool);
    Room::new(&cell, &state.classes, &state.policy)
}

impl Balance {
    fn of(planning: &Planning<'_>, name: &Name, pool: &Pool) -> Self {
        let state = planning.draft.state;
        let growth = growth(&pool.history, pool.lead_seconds, &state.policy);
        let mut balance = Self {
            active: 0,
            building: 0,
            need: Vector::splat(0.0),
            growth,
            supply: Vector::splat(0.0),
            further: Vector::splat(0.0),
            unplaced: 0,
        };
        balance.further = balance.holds(state, &template(state, pool));
        for (slot, standing) in state
            .slots_by_name()
            .filter(|(_, standing)| standing.cell.pool == *name)
        {
            let room = &planning.draft.held(slot).room;
            let load = room.load(&state.policy);
            let limit = match standing.cell.phase {
                Phase::Active | Phase::Building => balance.holds(state, room),
                // It goes on with what it has, and takes no more.
                Phase::Cordoned => *load,
                Phase::Draining => Vector::splat(0.0),
            };
            // What a cell with a faulty report holds is not known, and is enough for what it has.
            let is_known = standing.cell.fault.is_none();
            for r in Resource::ALL.into_iter().filter(|_| is_known) {
                balance.need[r] += load[r];
                balance.supply[r] += limit[r];
            }
            match standing.cell.phase {
                Phase::Building => balance.building += 1,
                Phase::Active | Phase::Cordoned => balance.active += 1,
                Phase::Draining => {}
            }
        }
        let homeless = planning
            .unplaced
            .iter()
            .filter(|tenant| first_pool(state, tenant) == Some(name));
        for tenant in homeless {
            balance.unplaced += 1;
            let mut sums = crate::demand::Sums::default();
            sums.add(&tenant.demand);
            for r in Resource::ALL {
                balance.need[r] += sums.moments(r).mean;
            }
        }
        balance
    }

    /// What tenants may take of a cell. A forecast fills cells to the end, so that what stays over in a full one counts: on
    /// average half of the tenant that no longer fits.
    fn holds(&self, state: &State, room: &Room) -> Vector<f64> {
        let limit = room.limit();
        let next = &state.classes.get(Class::Small).prior.mean;
        match self.growth {
            None => limit,
            Some(_) => Vector::from_fn(|r| (limit[r] - f64::from(next[r]) / MILLI / 2.0).max(0.0)),
        }
    }

    fn coming(&self, r: Resource) -> f64 {
        self.growth.map_or(0.0, |growth| growth[r])
    }

    /// What may be taken of a capacity before cells are ordered.
    fn usable_share(&self, state: &State) -> f64 {
        match self.growth {
            Some(_) => 1.0,
            None => state.policy.order_share,
        }
    }

    /// The dimension with the greatest need by supply, and that; 1 is where cells are ordered.
    fn binding(&self, state: &State) -> (Resource, f64) {
        let share = self.usable_share(state);
        let pressure = |r: Resource| {
            let need = self.need[r] + self.coming(r);
            if need > 0.0 {
                need / (self.supply[r] * share)
            } else {
                0.0
            }
        };
        let mut worst = (Resource::Cpu, pressure(Resource::Cpu));
        for r in Resource::ALL {
            if pressure(r) > worst.1 {
                worst = (r, pressure(r));
            }
        }
        worst
    }

    /// How many cells more it takes.
    fn wanted(&self, state: &State, pool: &Pool) -> u32 {
        let share = self.usable_share(state);
        let mut most = 0.0_f64;
        for r in Resource::ALL {
            let missing = (self.need[r] + self.coming(r)) / share - self.supply[r];
            if missing > 0.0 && self.further[r] > 0.0 {
                most = most.max((missing / self.further[r]).ceil());
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded just before"
        )]
        let cells = most.min(f64::from(MOST_AT_ONCE)) as u32;
        let homeless = u32::from(self.unplaced > 0 && self.building == 0);
        let below = pool.minimum.saturating_sub(self.active + self.building);
        cells.max(homeless).max(below.min(MOST_AT_ONCE))
    }

    fn report(&self, state: &State, name: &Name, binding: Resource, pressure: f64) -> PoolReport {
        let is_forecast = self.growth.is_some();
        let warn = state.policy.warn_share / state.policy.order_share;
        PoolReport {
            pool: name.clone(),
            cells: self.active,
            building: self.building,
            resource: binding.name().to_owned(),
            need: self.need[binding],
            growth: self.coming(binding),
            supply: self.supply[binding],
            is_forecast,
            is_warned: if is_forecast {
                pressure > 1.0
            } else {
                pressure > warn
            },
        }
    }
}

/// The first pool by name whose empty cells would take a tenant.
fn first_pool<'a>(state: &'a State, tenant: &Tenant) -> Option<&'a Name> {
    let mut pools = state.pools.iter();
    let is_one = |pool: &Pool| is_for(pool, &tenant.requirement) && is_fitting(state, pool, tenant);
    pools.find(|(_, pool)| is_one(pool)).map(|(name, _)| name)
}

fn order(
    planning: &mut Planning<'_>,
    name: &Name,
    pool: &Pool,
    balance: &Balance,
    wanted: u32,
    binding: Resource,
) {
    let (allowed, rule) = allowance(pool, balance);
    let cells = wanted.min(allowed);
    if cells < wanted {
        let detail = match rule {
            Rule::Stopped => "ordering was stopped by hand".to_owned(),
            Rule::Maximum => format!("the pool may have {}", counted(pool.maximum, "cell")),
            Rule::Quota => format!(
                "the provider allows {} more",
                counted(pool.quota.unwrap_or(0), "cell")
            ),
            _ => format!(
                "{} dollars an hour are all that it may cost",
                pool.budget.unwrap_or(0.0)
            ),
        };
        let wanted = format_compact!("given {} more", counted(wanted - cells, "cell"));
        planning.refused(Refusal::new(format_compact!("pool {name}"), wanted, rule, detail));
    }
    if cells == 0 {
        return;
    }
    let below = pool.minimum > balance.active + balance.building;
    let (need, supply) = (balance.need[binding], balance.supply[binding]);
    let coming = balance.coming(binding);
    let days = pool.lead_seconds / 86_400;
    planning.decided(Decision {
        subject: format!("pool {name}"),
        action: format!(
            "{} ordered{}",
            counted(cells, "cell"),
            if pool.is_shadow { " (shadow)" } else { "" }
        ),
        reason: if below {
            format!("the pool has fewer than {}", counted(pool.minimum, "cell"))
        } else if balance.growth.is_some() {
            format!(
                "{binding}: {need:.1} taken and {coming:.1} to come in {days} days are more than {supply:.1}"
            )
        } else {
            format!("{binding}: {need:.1} taken of {supply:.1}, and the history is too short for a forecast")
        },
        binding: None,
        score: None,
        runner_up: None,
        would_change: format!("less growth of {binding}, a shorter lead time, or larger cells"),
    });
    planning.plan.orders.push(Order {
        pool: name.clone(),
        cells,
        is_shadow: pool.is_shadow,
    });
}

/// How many cells a pool may still get, and the rule that says so.
fn allowance(pool: &Pool, balance: &Balance) -> (u32, Rule) {
    let standing = balance.active + balance.building;
    let affordable = pool.budget.map(|budget| {
        let cells = (budget / pool.price.max(f64::MIN_POSITIVE))
            .floor()
            .clamp(0.0, f64::from(u32::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped just before"
        )]
        let cells = cells as u32;
        (cells.saturating_sub(standing), Rule::Budget)
    });
    let limits = [
        pool.is_stopped.then_some((0, Rule::Stopped)),
        Some((pool.maximum.saturating_sub(standing), Rule::Maximum)),
        pool.quota.map(|quota| (quota, Rule::Quota)),
        affordable,
    ];
    let least = limits.into_iter().flatten().min_by_key(|(cells, _)| *cells);
    least.unwrap_or((0, Rule::Maximum))
}

/// Empties the cell with the fewest tenants where the others have room for all that comes by forecast, and it pays; one that holds
/// none is given back without a forecast too, where its pool says so.
fn retire(planning: &mut Planning<'_>, name: &Name, pool: &Pool, balance: &Balance) {
    let state = planning.draft.state;
    let own = || {
        state
            .slots_by_name()
            .filter(|(_, standing)| standing.cell.pool == *name)
    };
    let is_busy = balance.building > 0 || own().any(|(_, standing)| standing.cell.phase == Phase::Draining);
    if is_busy || balance.active <= pool.minimum || balance.active <= 1 || pool.is_stopped {
        return;
    }
    let active = own().filter(|(_, standing)| standing.cell.phase == Phase::Active && !standing.cell.is_kept);
    let tenants = |slot: u32| planning.draft.held(slot).classes.iter().sum::<u32>();
    let Some((slot, standing)) = active.min_by_key(|(slot, standing)| (tenants(*slot), &standing.name))
    else {
        return;
    };
    let limit = planning.draft.held(slot).room.limit();
    let clear = state.policy.clear_share * balance.usable_share(state);
    let is_room = Resource::ALL.into_iter().all(|r| {
        let need = balance.need[r] + balance.coming(r);
        need <= clear * (balance.supply[r] - limit[r])
    });
    let saving = pool.price * state.policy.saving_hours;
    let disruption = f64::from(tenants(slot)) * state.policy.move_cost;
    let pays = saving > 0.0 && saving >= state.policy.drain_ratio * disruption;
    let is_empty = pool.returns_idle && tenants(slot) == 0;
    let is_worth = is_empty || (balance.growth.is_some() && pays);
    if !is_room || !is_worth {
        return;
    }
    let fit = planning.draft.held(slot).room.fill(&state.policy);
    let binding: Binding = planning.draft.held(slot).room.binding(&fit);
    let cell = standing.name.clone();
    planning.decided(Decision {
        subject: format!("cell {cell}"),
        action: format!("is emptied{}", if pool.is_shadow { " (shadow)" } else { "" }),
        reason: format!(
            "the other cells of pool {name} have room for all that comes, and ${saving:.0} are saved for {}",
            counted(tenants(slot), "move")
        ),
        binding: Some(binding),
        score: None,
        runner_up: None,
        would_change: "more growth, a greater minimum, or dearer moves".to_owned(),
    });
    planning.plan.drains.push(Drain {
        cell,
        is_shadow: pool.is_shadow,
    });
}
