//! How few cells a fleet fits into: by packing, and at the very least.

use std::cmp::Ordering;

use crate::demand::{Demand, Sums};
use crate::model::{Availability, Cell, Classes, Pool, Tenant};
use crate::policy::Policy;
use crate::resource::{MILLI, Resource, Vector};
use crate::room::Room;

/// Packs tenants into new cells of a pool, one cell after the other, and returns how many cells it takes; tenants that no
/// empty cell holds are left out.
///
/// Each cell takes tenants from the largest on, those whose demand swings before those whose demand is steady, because
/// swings even out where they are together. When one does not fit, two others replace the last where they leave less over
/// (best two fit; Friesen and Langston, 1991). Then whoever still fits comes in (first fit, decreasing), and the last is
/// replaced once more.
pub fn pack(pool: &Pool, classes: &Classes, policy: &Policy, tenants: &[Tenant]) -> u32 {
    let empty = Room::new(&Cell::from_template(pool), classes, policy);
    let limit = empty.limit();
    let mut left: Vec<Item<'_>> = tenants
        .iter()
        .filter(|tenant| empty.fit(policy, &tenant.demand, tenant.availability).is_room())
        .map(|tenant| Item::of(tenant, &limit))
        .collect();
    left.sort_by(Item::compare);
    let mut cells = 0;
    while !left.is_empty() {
        let mut cell = Packing {
            policy,
            room: empty.clone(),
            last: None,
        };
        let fitting = left.iter().position(|item| !cell.take(*item));
        left.drain(..fitting.unwrap_or(left.len()));
        cell.replace_last(&mut left);
        left.retain(|item| !cell.take(*item));
        cell.replace_last(&mut left);
        cells += 1;
    }
    cells
}

/// A tenant and the largest share of an empty cell that it takes of any dimension.
#[derive(Clone, Copy)]
struct Item<'a> {
    tenant: &'a Tenant,
    size: f64,
}

impl<'a> Item<'a> {
    fn of(tenant: &'a Tenant, limit: &Vector<f64>) -> Self {
        let Demand { mean, .. } = &tenant.demand;
        let taken = Resource::ALL.into_iter().filter(|r| mean[*r] > 0);
        let shares = taken.map(|r| f64::from(mean[r]) / MILLI / limit[r].max(f64::MIN_POSITIVE));
        let size = shares.fold(0.0, f64::max);
        Self { tenant, size }
    }

    /// Those that swing first, then the larger first, then by name.
    fn compare(&self, other: &Self) -> Ordering {
        let by_swing = other.swings().cmp(&self.swings());
        let by_size = other.size.total_cmp(&self.size);
        by_swing
            .then(by_size)
            .then_with(|| self.tenant.name.cmp(&other.tenant.name))
    }

    fn swings(&self) -> bool {
        let Demand { deviation, .. } = &self.tenant.demand;
        Resource::ALL.into_iter().any(|r| deviation[r] > 0)
    }
}

/// A cell in packing, and who came in last into which zone.
#[derive(Clone)]
struct Packing<'a> {
    policy: &'a Policy,
    room: Room,
    last: Option<(Item<'a>, u8)>,
}

impl<'a> Packing<'a> {
    /// Takes a tenant if there is room.
    fn take(&mut self, item: Item<'a>) -> bool {
        let Item { tenant, .. } = item;
        let fit = self.room.fit(self.policy, &tenant.demand, tenant.availability);
        if fit.is_room() {
            self.room.take(&tenant.demand, tenant.availability, fit.zone);
            self.last = Some((item, fit.zone));
        }
        fit.is_room()
    }

    /// Replaces the last by the two that use up the most, if two use up more.
    fn replace_last(&mut self, left: &mut Vec<Item<'a>>) {
        let Some((last, zone)) = self.last else {
            return;
        };
        let mut without = self.clone();
        let Tenant {
            demand, availability, ..
        } = last.tenant;
        without.room.give(demand, *availability, zone);
        let full = without.room.fill(self.policy).max;
        // What each adds to this cell, its deviation too.
        let share = |item: &Item<'_>| {
            let Tenant {
                demand, availability, ..
            } = item.tenant;
            without.room.fit(self.policy, demand, *availability).max - full
        };
        let shares: Vec<f64> = left.iter().map(share).collect();
        let mut best = share(&last);
        let mut pair = None;
        for (one, other) in pairs(&shares, 1.0 - full) {
            let both = shares[one] + shares[other];
            let mut cell = without.clone();
            if both > best && cell.take(left[one]) && cell.take(left[other]) {
                best = both;
                pair = Some((one, other));
                *self = cell;
            }
        }
        if let Some((one, other)) = pair {
            left.remove(one.max(other));
            left.remove(one.min(other));
            let position = left.partition_point(|item| item.compare(&last).is_lt());
            left.insert(position, last);
        }
    }
}

/// For each share the largest other that is not too large together with it, by position.
fn pairs(shares: &[f64], free: f64) -> Vec<(usize, usize)> {
    let mut by_size: Vec<usize> = (0..shares.len()).collect();
    by_size.sort_by(|one, other| shares[*one].total_cmp(&shares[*other]));
    let mut smaller = 0;
    let mut pairs = Vec::new();
    for (position, larger) in by_size.iter().enumerate().rev() {
        while smaller < position && shares[by_size[smaller]] + shares[*larger] <= free {
            smaller += 1;
        }
        if let Some(other) = smaller.min(position).checked_sub(1) {
            pairs.push((by_size[other], *larger));
        }
    }
    pairs
}

/// No packing takes fewer cells: the greatest, over the dimensions, of the fleet's load by what a cell may hold, rounded up.
///
/// The load of all tenants together is never more than the sum of the loads of its parts, so that it bounds every packing.
/// Tenants that no empty cell holds are left out, and those in one zone too: of them a cell may hold more.
pub fn least(pool: &Pool, classes: &Classes, policy: &Policy, tenants: &[Tenant]) -> u32 {
    let empty = Room::new(&Cell::from_template(pool), classes, policy);
    let limit = empty.limit();
    let mut sums = Sums::default();
    let is_counted = |tenant: &&Tenant| {
        tenant.availability == Availability::ZoneRedundant
            && empty.fit(policy, &tenant.demand, tenant.availability).is_room()
    };
    for tenant in tenants.iter().filter(is_counted) {
        sums.add(&tenant.demand);
    }
    let cells = |r: Resource| {
        let load = sums.moments(r).load(policy);
        // A full cell may be over its limit by what rounding makes of it.
        if load > 0.0 {
            (load / limit[r] - 1e-6).ceil()
        } else {
            0.0
        }
    };
    let most = Resource::ALL.into_iter().map(cells).fold(0.0, f64::max);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float's cast saturates"
    )]
    let most = most as u32;
    most
}
