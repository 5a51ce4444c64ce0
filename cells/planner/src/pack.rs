//! How few cells a fleet fits into: by packing, and at the very least.

use crate::demand::{Demand, Sums};
use crate::model::{Cell, Classes, Pool, Tenant};
use crate::policy::Policy;
use crate::resource::Resource;
use crate::room::Room;

/// Packs tenants into new cells of a pool, the largest first, each into the first cell with room, and returns how many
/// cells it takes; tenants that no empty cell holds are left out.
pub fn pack(pool: &Pool, classes: &Classes, policy: &Policy, tenants: &[Tenant]) -> u32 {
    let empty = Room::new(&Cell::from_template(pool), classes, policy);
    let limit = empty.limit();
    // A tenant's size is its largest share of a cell, so that what binds is packed first.
    let size = |demand: &Demand| {
        let share = |r: Resource| f64::from(demand.mean[r]) / limit[r].max(f64::MIN_POSITIVE);
        let shares = Resource::ALL
            .into_iter()
            .filter(|r| demand.mean[*r] > 0)
            .map(share);
        shares.fold(0.0, f64::max)
    };
    let mut order: Vec<&Tenant> = tenants.iter().collect();
    order.sort_by(|one, other| {
        let by_size = size(&other.demand).total_cmp(&size(&one.demand));
        by_size.then_with(|| one.name.cmp(&other.name))
    });
    let mut cells: Vec<Room> = Vec::new();
    for tenant in order {
        let fit = |room: &Room| room.fit(policy, &tenant.demand, tenant.availability);
        let position = match cells.iter().position(|room| fit(room).is_room()) {
            Some(position) => position,
            None if fit(&empty).is_room() => {
                cells.push(empty.clone());
                cells.len() - 1
            }
            None => continue,
        };
        let room = &mut cells[position];
        let zone = room.fit(policy, &tenant.demand, tenant.availability).zone;
        room.take(&tenant.demand, tenant.availability, zone);
    }
    u32::try_from(cells.len()).unwrap_or(u32::MAX)
}

/// No packing takes fewer cells: the greatest, over the dimensions, of the fleet's load by what a cell may hold, rounded up.
///
/// The load of all tenants together is never more than the sum of the loads of its parts, so that it bounds every packing.
pub fn least(pool: &Pool, classes: &Classes, policy: &Policy, tenants: &[Tenant]) -> u32 {
    let limit = Room::new(&Cell::from_template(pool), classes, policy).limit();
    let mut sums = Sums::default();
    for tenant in tenants {
        sums.add(&tenant.demand);
    }
    let cells = |r: Resource| {
        let load = sums.moments(r).load(policy);
        if load > 0.0 { (load / limit[r]).ceil() } else { 0.0 }
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
