//! The fleet as the planner keeps it: every tenant once, sums per cell, and sets of what may need a decision.
//!
//! `State::new` reads everything once; `apply` touches only what a change touches. All sums are whole numbers, so that
//! both ways lead to the same state to the last bit.

mod cells;
mod tenants;

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::class::Judgement;
use crate::decide::{decide, explain};
use crate::demand::Demand;
use crate::model::{Availability, Cell, Claim, Class, Classes, Input, Name, Pool, Seconds, Tenant};
use crate::place::Answer;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::report::Report;
use crate::room::Room;

/// A change of what is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// Time alone passes.
    Clock,
    /// A tenant comes or changes.
    Tenant(Box<Tenant>),
    /// A tenant goes.
    TenantGone(Name),
    /// A cell comes or changes.
    Cell(Name, Box<Cell>),
    /// A cell goes; its tenants are what they are, and are reported as lost.
    CellGone(Name),
    /// A pool comes or changes.
    Pool(Box<Pool>),
}

/// What a cell has, and who is there.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Its room.
    pub room: Room,
    /// Tenants of each class that take room.
    pub classes: [u32; 3],
}

/// A cell with what is held there.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub name: Name,
    pub cell: Cell,
    pub held: Held,
    /// Rows of the tenants that run there first.
    pub members: Vec<u32>,
}

/// A tenant, its position among the members of its cell, and its account.
#[derive(Debug, Clone)]
struct Row {
    tenant: Tenant,
    member: u32,
    account: u32,
}

/// A tenant whose class may change, as it was judged.
#[derive(Debug, Clone)]
pub(crate) struct Restless {
    row: u32,
    /// Its cell, where that is there.
    pub slot: Option<u32>,
    /// When it was asked for.
    pub asked: Seconds,
    /// Its override names no class.
    pub is_unknown: bool,
    /// The band to remember is another than the one that is.
    pub is_other_band: bool,
    pub judgement: Judgement,
}

/// The fleet.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) now: Seconds,
    pub(crate) policy: Policy,
    pub(crate) classes: Classes,
    pub(crate) pools: BTreeMap<Name, Pool>,
    slots: Vec<Option<Standing>>,
    names: BTreeMap<Name, u32>,
    /// The same, to look up.
    by_name: HashMap<Name, u32>,
    rows: Vec<Row>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    accounts: HashMap<Name, u32>,
    /// Tenants of an account in a cell.
    owned: HashMap<(u32, u32), u32>,
    /// Who waits, the first asked first.
    waiting: BTreeSet<(Seconds, Name)>,
    /// Kept room, the first to lapse first.
    kept: BTreeSet<(Seconds, Name)>,
    /// Who is on the way to another cell.
    moving: BTreeSet<Name>,
    /// Whose class may change, by time alone too.
    restless: BTreeMap<Name, Restless>,
    /// When these are to be judged anew, the first first.
    alarms: BTreeSet<(Seconds, Name)>,
    /// Whose cell is not there.
    lost: BTreeSet<Name>,
}

impl State {
    /// Reads everything.
    pub fn new(input: Input) -> Self {
        let Input {
            now,
            policy,
            classes,
            pools,
            cells,
            tenants,
        } = input;
        let mut state = Self {
            now,
            policy,
            classes,
            pools,
            slots: Vec::with_capacity(cells.len()),
            names: BTreeMap::new(),
            by_name: HashMap::new(),
            rows: Vec::with_capacity(tenants.len()),
            index: HashTable::with_capacity(tenants.len()),
            hasher: DefaultHashBuilder::default(),
            accounts: HashMap::new(),
            owned: HashMap::with_capacity(tenants.len()),
            lost: BTreeSet::new(),
            waiting: BTreeSet::new(),
            kept: BTreeSet::new(),
            moving: BTreeSet::new(),
            restless: BTreeMap::new(),
            alarms: BTreeSet::new(),
        };
        for (name, cell) in cells {
            state.put_cell(name, cell);
        }
        for tenant in tenants {
            state.insert_tenant(tenant);
        }
        state
    }

    /// Takes a change in, at a time that is not before the last, and plans anew.
    pub fn apply(&mut self, now: Seconds, delta: Delta, seed: u64) -> (Plan, Report) {
        self.take(now, delta);
        self.plan(seed)
    }

    /// Takes a change in without planning: for many changes of one moment.
    pub fn take(&mut self, now: Seconds, delta: Delta) {
        self.now = self.now.max(now);
        self.judge_anew();
        match delta {
            Delta::Clock => {}
            Delta::Tenant(tenant) => self.put_tenant(*tenant),
            Delta::TenantGone(name) => {
                self.remove_tenant(&name);
            }
            Delta::Cell(name, cell) => self.put_cell(name, *cell),
            Delta::CellGone(name) => self.remove_cell(&name),
            Delta::Pool(pool) => {
                self.pools.insert(pool.name.clone(), *pool);
            }
        }
    }

    /// Everything that is known, as `State::new` reads it; tenants in no order.
    pub fn to_input(&self) -> Input {
        let cells = self
            .slots_by_name()
            .map(|(_, standing)| (standing.name.clone(), standing.cell.clone()));
        Input {
            now: self.now,
            policy: self.policy,
            classes: self.classes.clone(),
            pools: self.pools.clone(),
            cells: cells.collect(),
            tenants: self.tenants().cloned().collect(),
        }
    }

    /// The plan for what is known now.
    pub fn plan(&self, seed: u64) -> (Plan, Report) {
        decide(self, seed)
    }

    /// The time of what is known.
    pub fn now(&self) -> Seconds {
        self.now
    }

    /// How decisions are made.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What each class is.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// What a tenant is reckoned to take in a class: what it takes, and no less than the class starts with.
    pub fn demand_as(&self, tenant: &Tenant, class: Class) -> Demand {
        tenant
            .demand
            .max(self.classes.get(class).start(tenant.availability))
    }

    /// What a tenant is reckoned to take once it has another class: a class that is no greater changes nothing yet.
    pub fn demand_after(&self, tenant: &Tenant, class: Class) -> Demand {
        if class > tenant.class {
            self.demand_as(tenant, class)
        } else {
            tenant.demand
        }
    }

    /// What each cell answers to a tenant, by name, with what it has given back: to placing it, moving it or leaving it there.
    pub fn explain(&self, tenant: &Tenant, seed: u64) -> Vec<Answer> {
        explain(self, tenant, seed)
    }

    /// A tenant.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.row(name).map(|row| &self.rows[row as usize].tenant)
    }

    /// How many tenants there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no tenant.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All tenants, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.rows.iter().map(|row| &row.tenant)
    }

    /// A cell.
    pub fn cell(&self, name: &str) -> Option<&Cell> {
        self.slot(name).map(|slot| &self.standing(slot).cell)
    }

    /// A pool.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// All cells by name, with their room.
    pub fn cells(&self) -> impl Iterator<Item = (&Name, &Cell, &Room)> {
        self.slots_by_name()
            .map(|(_, standing)| (&standing.name, &standing.cell, &standing.held.room))
    }

    /// How many tenants run in a cell.
    pub fn members(&self, cell: &str) -> usize {
        self.slot(cell)
            .map_or(0, |slot| self.standing(slot).members.len())
    }

    pub(crate) fn slots_by_name(&self) -> impl Iterator<Item = (u32, &Standing)> {
        self.names.values().map(|slot| (*slot, self.standing(*slot)))
    }

    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slot(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn standing(&self, slot: u32) -> &Standing {
        #[expect(clippy::expect_used, reason = "slots are handed out for standing cells alone")]
        self.slots[slot as usize].as_ref().expect("a standing cell")
    }

    pub(crate) fn members_of(&self, slot: u32) -> impl Iterator<Item = &Tenant> {
        self.standing(slot)
            .members
            .iter()
            .map(|row| &self.rows[*row as usize].tenant)
    }

    /// The number of an account that has or had a tenant.
    pub(crate) fn account(&self, name: &Name) -> Option<u32> {
        self.accounts.get(name).copied()
    }

    /// How many tenants an account has in a cell.
    pub(crate) fn owned(&self, account: u32, slot: u32) -> u32 {
        self.owned.get(&(account, slot)).copied().unwrap_or(0)
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Name> {
        self.waiting.iter().map(|(_, name)| name)
    }

    pub(crate) fn lapsed(&self) -> impl Iterator<Item = &Name> {
        let due = self.kept.iter().take_while(|(until, _)| *until <= self.now);
        due.map(|(_, name)| name)
    }

    pub(crate) fn moving(&self) -> impl Iterator<Item = &Name> {
        self.moving.iter()
    }

    /// Tenants whose class may change now or by time alone, by name.
    pub(crate) fn restless(&self) -> impl Iterator<Item = (&Name, &Restless)> {
        self.restless.iter()
    }

    pub(crate) fn tenant_of(&self, restless: &Restless) -> &Tenant {
        &self.rows[restless.row as usize].tenant
    }

    pub(crate) fn lost(&self) -> impl Iterator<Item = &Name> {
        self.lost.iter()
    }
}

impl Held {
    pub(crate) fn take(&mut self, availability: Availability, claim: Claim<'_>) {
        self.room.take(claim.demand, availability, claim.spot.zone);
        self.classes[claim.class as usize] += 1;
    }

    pub(crate) fn give(&mut self, availability: Availability, claim: Claim<'_>) {
        self.room.give(claim.demand, availability, claim.spot.zone);
        self.classes[claim.class as usize] -= 1;
    }
}
