//! One strategy through one scenario.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fleet::{Fleet, Life};
use super::known::Known;
use super::outcome::{Day, Outcome};
use super::scenario::{POOL, Scenario, ScenarioError, cell_name};
use super::strategy::Strategy;
use crate::demand::Demand;
use crate::document::Fault;
use crate::model::{
    Availability, Band, Cell, Choice, Class, Classes, Name, Phase, Place, Pool, Readings, Requirement,
    SIGNALS, Seconds, Tenant, Watch,
};
use crate::plan::Plan;
use crate::resource::{MILLI, Resource, Vector};
use crate::state::{Delta, State};

const DAY: Seconds = 86_400;
/// Above this a cell is too full for its own good.
const HOT: f64 = 0.95;

/// Told after each day: how many are done.
pub type Progress<'a> = &'a mut dyn FnMut(u32);

/// Runs a strategy through a scenario.
///
/// # Errors
/// When the scenario's fields are wrong.
pub fn simulate(
    scenario: &Scenario,
    strategy: Strategy,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Outcome, ScenarioError> {
    let mut world = World::new(scenario, strategy, seed)?;
    let mut days = Vec::new();
    for day in 0..scenario.days {
        let today = match strategy {
            Strategy::Bound => world.bound(day),
            Strategy::Static(_) | Strategy::Planner => world.day(day),
        };
        days.push(today);
        progress(day + 1);
    }
    Ok(Outcome { strategy, seed, days })
}

/// The pool, the classes and the tenants of a scenario at its end, each with what is known of it, as the planner has them.
///
/// # Errors
/// When the scenario's fields are wrong.
pub fn fleet_at_end(scenario: &Scenario, seed: u64) -> Result<(Pool, Classes, Vec<Tenant>), ScenarioError> {
    let mut world = World::new(scenario, Strategy::Planner, seed)?;
    for day in 0..scenario.days {
        world.day(day);
    }
    // A scenario has one pool, which nothing removes.
    let pool = world.state.pool(POOL).cloned();
    let pool = pool.ok_or_else(|| ScenarioError::Fields(vec![Fault::new("pool", "it is gone")]))?;
    Ok((
        pool,
        world.state.classes().clone(),
        world.state.tenants().cloned().collect(),
    ))
}

struct World<'a> {
    scenario: &'a Scenario,
    fleet: Rc<Fleet>,
    state: State,
    requirement: Arc<Requirement>,
    chance: ChaCha8Rng,
    seed: u64,
    next_cell: u32,
    /// When cells in building are ready.
    ready: BTreeMap<Name, Seconds>,
    known: HashMap<Name, Known>,
    refused: HashSet<Name>,
    /// How many lives have begun.
    born: usize,
    /// Who goes in which step.
    deaths: BTreeMap<u32, Vec<Name>>,
    today: Day,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, strategy: Strategy, seed: u64) -> Result<Self, ScenarioError> {
        let policy = strategy.policy(&scenario.policy);
        let input = scenario.input(&policy)?;
        let fleet = Fleet::new(scenario, &input.classes.get(Class::Small).prior.mean, seed);
        Ok(Self {
            scenario,
            fleet: Rc::new(fleet),
            state: State::new(input),
            requirement: Arc::new(Requirement {
                region: scenario.pool.region.clone(),
                ..Requirement::default()
            }),
            chance: ChaCha8Rng::seed_from_u64(seed.wrapping_add(1)),
            seed,
            next_cell: scenario.cells,
            ready: BTreeMap::new(),
            known: HashMap::new(),
            refused: HashSet::new(),
            born: 0,
            deaths: BTreeMap::new(),
            today: Day::default(),
        })
    }

    fn day(&mut self, day: u32) -> Day {
        self.today = Day {
            day,
            ..Day::default()
        };
        for step in 0..self.scenario.steps_a_day {
            let number = day * self.scenario.steps_a_day + step;
            let now = Seconds::from(number) * DAY / Seconds::from(self.scenario.steps_a_day);
            self.report_cells(day, now);
            self.come_and_go(number, now);
            let (plan, _) = self.state.apply(now, Delta::Clock, self.seed);
            self.count_refused(&plan);
            self.carry_out(&plan, now);
        }
        self.measure(day);
        self.today
    }

    /// Cells that are ready come in, and all report that can.
    fn report_cells(&mut self, day: u32, now: Seconds) {
        let lost: Vec<&Name> = self
            .scenario
            .zone_losses
            .iter()
            .filter(|loss| (loss.day..loss.day.saturating_add(loss.days)).contains(&day))
            .map(|loss| &loss.zone)
            .collect();
        let stale = self.scenario.stale_reports.iter();
        let stale = stale.filter(|times| (times.day..times.day.saturating_add(times.days)).contains(&day));
        let stale = stale.map(|times| times.share).fold(0.0, f64::max);
        let cells: Vec<(Name, Cell)> = self
            .state
            .cells()
            .map(|(name, cell, _)| (name.clone(), cell.clone()))
            .collect();
        let count = f64::from(u32::try_from(cells.len()).unwrap_or(u32::MAX));
        for (position, (name, mut cell)) in (0_u32..).zip(cells) {
            if cell.phase == Phase::Building && self.ready.get(&name).is_some_and(|ready| *ready <= now) {
                cell.phase = Phase::Active;
                self.ready.remove(&name);
            }
            if f64::from(position) >= stale * count {
                cell.reported = now;
            }
            for zone in &mut cell.zones {
                zone.is_lost = lost.contains(&&zone.name);
            }
            self.state.take(now, Delta::Cell(name, Box::new(cell)));
        }
    }

    fn come_and_go(&mut self, step: u32, now: Seconds) {
        for name in self.deaths.remove(&step).unwrap_or_default() {
            self.known.remove(&name);
            self.state.take(now, Delta::TenantGone(name));
        }
        let fleet = self.fleet.clone();
        while let Some(life) = fleet.lives.get(self.born).filter(|life| life.born <= step) {
            self.born += 1;
            self.deaths.entry(life.dies).or_default().push(life.name.clone());
            let tenant = self.tenant(life, now);
            self.state.take(now, Delta::Tenant(Box::new(tenant)));
        }
    }

    fn tenant(&self, life: &Life, now: Seconds) -> Tenant {
        Tenant {
            name: life.name.clone(),
            account: life.account.clone(),
            demand: self.state.classes().get(Class::Small).prior,
            requirement: self.requirement.clone(),
            availability: Availability::ZoneRedundant,
            class: Class::Small,
            choice: Choice::Auto,
            asked: now,
            place: Place::Waiting,
            readings: None,
            watch: Watch {
                band: Band::Within,
                since: now,
            },
            changed: Seconds::MIN / 2,
            went_down: false,
        }
    }

    fn count_refused(&mut self, plan: &Plan) {
        let placed: HashSet<&Name> = plan
            .placements
            .iter()
            .map(|placement| &placement.tenant)
            .collect();
        for name in self.state.waiting() {
            if !placed.contains(name) && self.refused.insert(name.clone()) {
                self.today.refused += 1;
            }
        }
    }

    /// Everything of a plan is done within its step, the building of cells excepted.
    fn carry_out(&mut self, plan: &Plan, now: Seconds) {
        for delta in plan.deltas(&self.state) {
            self.state.take(now, delta);
        }
        let arrived = plan.placements.iter().map(|placement| &placement.tenant);
        for name in arrived.chain(plan.moves.iter().map(|step| &step.tenant)) {
            let Some(mut tenant) = self.state.tenant(name).cloned() else {
                continue;
            };
            tenant.place = match tenant.place {
                Place::Reserved { at, .. } => Place::Running { at },
                Place::Moving(journey) => {
                    tenant.class = journey.class;
                    tenant.demand = journey.demand;
                    Place::Running { at: journey.to }
                }
                other => other,
            };
            self.state.take(now, Delta::Tenant(Box::new(tenant)));
        }
        self.today.moves += u32::try_from(plan.moves.len()).unwrap_or(u32::MAX);
        self.today.switches += u32::try_from(plan.switches.len()).unwrap_or(u32::MAX);
        for order in plan.orders.iter().filter(|order| !order.is_shadow) {
            (0..order.cells).for_each(|_| self.build(now));
        }
        let is_left =
            |(name, cell): &(&Name, &Cell)| cell.phase == Phase::Draining && self.state.members(name) == 0;
        let left: Vec<Name> = self
            .state
            .cells()
            .map(|(name, cell, _)| (name, cell))
            .filter(is_left)
            .map(|(name, _)| name.clone())
            .collect();
        for name in left {
            self.state.take(now, Delta::CellGone(name));
        }
    }

    fn build(&mut self, now: Seconds) {
        let Some(pool) = self.state.pool(POOL) else {
            return;
        };
        let cell = Cell {
            reported: now,
            ..Cell::from_template(pool)
        };
        let share = self.scenario.least_lead + (1.0 - self.scenario.least_lead) * self.chance.random::<f64>();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "lead times are days"
        )]
        let lead = (pool.lead_seconds as f64 * share) as Seconds;
        let name = cell_name(self.next_cell);
        self.next_cell += 1;
        self.ready.insert(name.clone(), now.saturating_add(lead));
        self.state.take(now, Delta::Cell(name, Box::new(cell)));
    }

    /// The day's loads become known, and the day's figures are taken.
    fn measure(&mut self, day: u32) {
        let now = self.state.now();
        let mut loads: BTreeMap<Name, Vector<f64>> = BTreeMap::new();
        let fleet = self.fleet.clone();
        for (position, load) in fleet.loads(day) {
            let life = &fleet.lives[position];
            let Some(tenant) = self.state.tenant(&life.name).cloned() else {
                continue;
            };
            let Some(cell) = tenant.place.home().map(|spot| spot.cell.clone()) else {
                continue;
            };
            self.today.tenants += 1;
            let sum = loads.entry(cell).or_default();
            *sum = Vector::from_fn(|r| sum[r] + load[r]);
            let learnt = self.learn(&tenant, &load);
            let values: [u32; SIGNALS] = [fleet.nodes(life, day), 0, 0, 0, 0];
            let tenant = Tenant {
                demand: learnt,
                readings: Some(Readings {
                    values,
                    at: now + DAY,
                    is_up: true,
                    is_emergency: false,
                }),
                ..tenant
            };
            self.state.take(now, Delta::Tenant(Box::new(tenant)));
        }
        self.figures(&loads);
        self.remember();
    }

    fn learn(&mut self, tenant: &Tenant, load: &Vector<f64>) -> Demand {
        let known = self.known.entry(tenant.name.clone());
        let known = known.or_insert_with(|| Known::new(load));
        let measured = known.learn(load);
        // A week tells little of a tenant: until then it is reckoned no smaller than its class.
        if known.days() < 7 {
            measured.max(&self.state.classes().get(tenant.class).prior)
        } else {
            measured
        }
    }

    fn figures(&mut self, loads: &BTreeMap<Name, Vector<f64>>) {
        let (mut load, mut hold) = (Vector::splat(0.0), Vector::splat(0.0));
        let price = self.state.pool(POOL).map_or(0.0, |pool| pool.price);
        for (name, cell, _) in self.state.cells() {
            self.today.cost += price * 24.0;
            if cell.phase == Phase::Building {
                self.today.building += 1;
                continue;
            }
            self.today.cells += 1;
            let own = loads.get(name).copied().unwrap_or_default();
            let holds = holds(&cell.zones);
            let fullness = fullness(&own, &holds);
            self.today.hot += u32::from(fullness > HOT);
            self.today.fullest = self.today.fullest.max(fullness);
            load = Vector::from_fn(|r| load[r] + own[r]);
            hold = Vector::from_fn(|r| hold[r] + holds[r]);
        }
        self.today.utilisation = fullness(&load, &hold);
    }

    /// Writes the day into the pool's history.
    fn remember(&mut self) {
        let mut taken = Vector::splat(0.0);
        for (_, _, room) in self.state.cells() {
            let load = room.load(self.state.policy());
            taken = Vector::from_fn(|r| taken[r] + load[r]);
        }
        let Some(pool) = self.state.pool(POOL) else {
            return;
        };
        let mut pool: Pool = pool.clone();
        pool.history.push(taken);
        let kept = pool.history.len().saturating_sub(90);
        pool.history.drain(..kept);
        let now = self.state.now();
        self.state.take(now, Delta::Pool(Box::new(pool)));
    }

    /// The fewest cells that could hold the day's loads.
    fn bound(&mut self, day: u32) -> Day {
        let mut sum = Vector::splat(0.0);
        let mut tenants = 0;
        for (_, load) in self.fleet.loads(day) {
            tenants += 1;
            sum = Vector::from_fn(|r| sum[r] + load[r]);
        }
        let Some(pool) = self.state.pool(POOL) else {
            return Day::default();
        };
        let hold = holds(&pool.template);
        let cells = fullness(&sum, &hold).ceil().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        let count = cells as u32;
        Day {
            day,
            tenants,
            cells: count,
            utilisation: fullness(&sum, &hold) / cells,
            fullest: fullness(&sum, &hold) / cells,
            cost: pool.price * 24.0 * cells,
            ..Day::default()
        }
    }
}

/// What tenants may take of a cell's zones when the largest is lost, without any further margin.
fn holds(zones: &[crate::model::Zone]) -> Vector<f64> {
    Vector::from_fn(|r: Resource| {
        #[expect(
            clippy::cast_precision_loss,
            reason = "capacities are compared to thousandths"
        )]
        let free = zones
            .iter()
            .map(|zone| zone.capacity[r].saturating_sub(zone.system[r]) as f64 / MILLI);
        let (sum, most) = free.fold((0.0, 0.0_f64), |(sum, most), free| (sum + free, most.max(free)));
        if zones.len() > 1 { sum - most } else { sum }
    })
}

fn fullness(load: &Vector<f64>, hold: &Vector<f64>) -> f64 {
    let used = load.iter().filter(|(_, load)| *load > 0.0);
    used.map(|(r, load)| load / hold[r].max(f64::MIN_POSITIVE))
        .fold(0.0, f64::max)
}
