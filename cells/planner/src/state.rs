//! The fleet as the planner keeps it: every tenant once, sums per cell, and sets of what may need a decision.
//!
//! `State::new` reads everything once; `apply` touches only what a change touches. All sums are whole numbers, so that
//! both ways lead to the same state to the last bit.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::class::{Judgement, is_restless, judge};
use crate::decide::{decide, explain};
use crate::demand::Demand;
use crate::model::{Availability, Cell, Claim, Class, Classes, Input, Name, Place, Pool, Seconds, Tenant};
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
    /// Whose class may change, by time alone too.
    restless: BTreeSet<Name>,
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
            restless: BTreeSet::new(),
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
        tenant.demand.max(&self.classes.get(class).prior)
    }

    /// What a tenant is reckoned to take once it has another class: a class that is no greater changes nothing yet.
    pub fn demand_after(&self, tenant: &Tenant, class: Class) -> Demand {
        if class > tenant.class {
            self.demand_as(tenant, class)
        } else {
            tenant.demand
        }
    }

    /// What each cell answers to a tenant, by name, as if it was placed now.
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

    pub(crate) fn kept(&self) -> impl Iterator<Item = &Name> {
        self.kept.iter().map(|(_, name)| name)
    }

    /// Tenants whose class may change now or by time alone, judged anew.
    pub(crate) fn restless(&self) -> impl Iterator<Item = (&Tenant, Judgement)> {
        let tenants = self.restless.iter().filter_map(|name| self.tenant(name));
        tenants.filter_map(|tenant| {
            let judgement = judge(tenant, &self.classes, &self.policy, self.now);
            is_restless(tenant, &judgement).then_some((tenant, judgement))
        })
    }

    pub(crate) fn lost(&self) -> impl Iterator<Item = &Name> {
        self.lost.iter()
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    fn row(&self, name: &str) -> Option<u32> {
        let is_it = |row: &u32| self.rows[*row as usize].tenant.name == name;
        self.index.find(self.hash(name), is_it).copied()
    }

    fn put_tenant(&mut self, tenant: Tenant) {
        self.remove_tenant(&tenant.name);
        self.insert_tenant(tenant);
    }

    /// Takes in a tenant whose name is not there.
    fn insert_tenant(&mut self, tenant: Tenant) {
        #[expect(clippy::expect_used, reason = "so many tenants need a terabyte")]
        let row = u32::try_from(self.rows.len()).expect("fewer than 2^32 tenants");
        let next = u32::try_from(self.accounts.len()).unwrap_or(u32::MAX);
        let account = *self.accounts.entry_ref(&tenant.account).or_insert(next);
        let mut member = u32::MAX;
        for (position, claim) in tenant.claims().enumerate() {
            let Some(slot) = self.slot(&claim.spot.cell) else {
                self.lost.insert(tenant.name.clone());
                continue;
            };
            self.count_in(&tenant, account, claim, slot);
            // The first claim is where it is at home.
            if position == 0 {
                member = self.join(slot, row);
            }
        }
        if tenant.place == Place::Waiting {
            self.waiting.insert((tenant.asked, tenant.name.clone()));
        }
        if let Some(until) = tenant.place.until() {
            self.kept.insert((until, tenant.name.clone()));
        }
        let judgement = judge(&tenant, &self.classes, &self.policy, self.now);
        if is_restless(&tenant, &judgement) {
            self.restless.insert(tenant.name.clone());
        }
        let (rows, hasher) = (&self.rows, &self.hasher);
        let rehash = |row: &u32| hasher.hash_one(rows[*row as usize].tenant.name.as_str());
        let hash = hasher.hash_one(tenant.name.as_str());
        self.index.insert_unique(hash, row, rehash);
        self.rows.push(Row {
            tenant,
            member,
            account,
        });
    }

    fn remove_tenant(&mut self, name: &str) -> Option<Tenant> {
        let row = self.row(name)?;
        let Row { tenant, member, .. } = &self.rows[row as usize];
        let (home, member) = (tenant.place.home().cloned(), *member);
        if let Some(slot) = home.and_then(|spot| self.slot(&spot.cell)) {
            self.leave(slot, member);
        }
        if let Ok(entry) = self.index.find_entry(self.hash(name), |at| *at == row) {
            entry.remove();
        }
        let Row { tenant, account, .. } = self.rows.swap_remove(row as usize);
        self.follow(row);
        for claim in tenant.claims() {
            self.count_out(&tenant, account, claim);
        }
        self.waiting.remove(&(tenant.asked, tenant.name.clone()));
        if let Some(until) = tenant.place.until() {
            self.kept.remove(&(until, tenant.name.clone()));
        }
        self.restless.remove(&tenant.name);
        self.lost.remove(&tenant.name);
        Some(tenant)
    }

    /// Tells index and members that the last row is now this one, where there is one.
    fn follow(&mut self, row: u32) {
        let Some(moved) = self.rows.get(row as usize) else {
            return;
        };
        let last = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let hash = self.hash(&moved.tenant.name);
        let home = moved.tenant.place.home().and_then(|spot| self.slot(&spot.cell));
        let member = moved.member as usize;
        if let Some(entry) = self.index.find_mut(hash, |at| *at == last) {
            *entry = row;
        }
        if let Some(standing) = home.and_then(|slot| self.slots[slot as usize].as_mut()) {
            standing.members[member] = row;
        }
    }

    fn join(&mut self, slot: u32, row: u32) -> u32 {
        let Some(standing) = self.slots[slot as usize].as_mut() else {
            return u32::MAX;
        };
        standing.members.push(row);
        u32::try_from(standing.members.len() - 1).unwrap_or(u32::MAX)
    }

    fn leave(&mut self, slot: u32, member: u32) {
        let Some(standing) = self.slots[slot as usize].as_mut() else {
            return;
        };
        standing.members.swap_remove(member as usize);
        if let Some(row) = standing.members.get(member as usize) {
            self.rows[*row as usize].member = member;
        }
    }

    fn count_in(&mut self, tenant: &Tenant, account: u32, claim: Claim<'_>, slot: u32) {
        if let Some(standing) = self.slots[slot as usize].as_mut() {
            standing.held.take(tenant.availability, claim);
        }
        *self.owned.entry((account, slot)).or_insert(0) += 1;
    }

    fn count_out(&mut self, tenant: &Tenant, account: u32, claim: Claim<'_>) {
        let Some(slot) = self.slot(&claim.spot.cell) else {
            return;
        };
        if let Some(standing) = self.slots[slot as usize].as_mut() {
            standing.held.give(tenant.availability, claim);
        }
        if let Entry::Occupied(mut entry) = self.owned.entry((account, slot)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn put_cell(&mut self, name: Name, cell: Cell) {
        if let Some(slot) = self.slot(&name) {
            let standing = self.slots[slot as usize].as_mut();
            if let Some(standing) = standing.filter(|standing| standing.cell.has_zones_of(&cell)) {
                standing
                    .held
                    .room
                    .resize(Room::new(&cell, &self.classes, &self.policy));
                standing.cell = cell;
                return;
            }
        }
        // Its tenants are counted anew: zones are other ones, or the cell was not there.
        let there = self.take_out(&name);
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        let room = Room::new(&cell, &self.classes, &self.policy);
        let standing = Standing {
            name: name.clone(),
            cell,
            held: Held {
                room,
                classes: [0; 3],
            },
            members: Vec::new(),
        };
        match free {
            Some(free) => self.slots[free] = Some(standing),
            None => self.slots.push(Some(standing)),
        }
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.by_name.insert(name.clone(), slot);
        self.names.insert(name, slot);
        for tenant in there {
            self.put_tenant(tenant);
        }
    }

    /// Forgets a cell; its tenants stay and are lost.
    fn remove_cell(&mut self, name: &Name) {
        let there = self.take_out(name);
        for tenant in there {
            self.put_tenant(tenant);
        }
    }

    /// Forgets a cell and all tenants that name it, and returns these.
    fn take_out(&mut self, name: &Name) -> Vec<Tenant> {
        let members = self.slot(name).into_iter().flat_map(|slot| self.members_of(slot));
        let others = self.kept.iter().map(|(_, tenant)| tenant).chain(&self.lost);
        let others = others.filter_map(|tenant| self.tenant(tenant));
        let is_there = |tenant: &&Tenant| tenant.place.spots().any(|spot| spot.cell == *name);
        let names: BTreeSet<Name> = members
            .chain(others)
            .filter(is_there)
            .map(|tenant| tenant.name.clone())
            .collect();
        let there: Vec<Tenant> = names
            .iter()
            .filter_map(|tenant| self.remove_tenant(tenant))
            .collect();
        self.by_name.remove(name);
        if let Some(slot) = self.names.remove(name) {
            self.slots[slot as usize] = None;
        }
        there
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
