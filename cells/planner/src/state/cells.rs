//! How cells come into the state and go, without losing a tenant.

use std::collections::BTreeSet;

use super::{Held, Standing, State};
use crate::model::{Cell, Name, Tenant};
use crate::room::Room;

impl State {
    pub(super) fn put_cell(&mut self, name: Name, cell: Cell) {
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
    pub(super) fn remove_cell(&mut self, name: &Name) {
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
