//! How tenants come into the state and go: rows without gaps, an index by name, and what each takes where.

use std::hash::BuildHasher;

use hashbrown::hash_map::Entry;

use super::{Restless, Row, State};
use crate::class::{is_restless, judge};
use crate::model::{Choice, Claim, Name, Place, Tenant};

impl State {
    pub(super) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn row(&self, name: &str) -> Option<u32> {
        let is_it = |row: &u32| self.rows[*row as usize].tenant.name == name;
        self.index.find(self.hash(name), is_it).copied()
    }

    pub(super) fn put_tenant(&mut self, tenant: Tenant) {
        self.remove_tenant(&tenant.name);
        self.insert_tenant(tenant);
    }

    /// Takes in a tenant whose name is not there.
    pub(super) fn insert_tenant(&mut self, tenant: Tenant) {
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
        if matches!(tenant.place, Place::Moving(_)) {
            self.moving.insert(tenant.name.clone());
        }
        self.watch_class(&tenant, row);
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

    pub(super) fn remove_tenant(&mut self, name: &str) -> Option<Tenant> {
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
        self.moving.remove(&tenant.name);
        self.forget_class(&tenant.name);
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
        if let Some(restless) = self.restless.get_mut(&moved.tenant.name) {
            restless.row = row;
        }
        if let Some(standing) = home.and_then(|slot| self.slots[slot as usize].as_mut()) {
            standing.members[member] = row;
        }
    }

    /// Judges a tenant's class, and keeps the judgement while it may become another class.
    fn watch_class(&mut self, tenant: &Tenant, row: u32) {
        let judgement = judge(tenant, &self.classes, &self.policy, self.now);
        if !is_restless(tenant, &judgement) {
            return;
        }
        let restless = Restless {
            row,
            slot: tenant.place.home().and_then(|spot| self.slot(&spot.cell)),
            asked: tenant.asked,
            is_unknown: tenant.choice == Choice::Unknown,
            is_other_band: judgement.watch != tenant.watch,
            judgement,
        };
        self.restless.insert(tenant.name.clone(), restless);
        self.alarms.insert((judgement.until, tenant.name.clone()));
    }

    fn forget_class(&mut self, name: &Name) -> Option<u32> {
        let Restless { row, judgement, .. } = self.restless.remove(name)?;
        self.alarms.remove(&(judgement.until, name.clone()));
        Some(row)
    }

    /// Judges those anew whose judgement time may have changed.
    pub(super) fn judge_anew(&mut self) {
        let due = self.alarms.iter().take_while(|(until, _)| *until <= self.now);
        let due: Vec<Name> = due.map(|(_, name)| name.clone()).collect();
        for name in due {
            if let Some(row) = self.forget_class(&name) {
                let tenant = self.rows[row as usize].tenant.clone();
                self.watch_class(&tenant, row);
            }
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
}
