//! The fleet as it will be when what was decided so far is carried out: changed cells over the standing ones.

use hashbrown::HashMap;

use crate::model::{Claim, Name, Tenant};
use crate::state::{Held, State};

/// The state with decisions on top.
pub(crate) struct Draft<'a> {
    pub state: &'a State,
    changed: Vec<Option<Box<Held>>>,
    owned: HashMap<(Name, u32), u32>,
    /// How often each cell was changed, so that what was read off it is known to be old.
    versions: Vec<u32>,
}

impl<'a> Draft<'a> {
    pub fn new(state: &'a State) -> Self {
        let slots = state.slot_count();
        Self {
            state,
            changed: std::iter::repeat_with(|| None).take(slots).collect(),
            owned: HashMap::new(),
            versions: vec![0; slots],
        }
    }

    pub fn held(&self, slot: u32) -> &Held {
        match &self.changed[slot as usize] {
            Some(held) => held,
            None => &self.state.standing(slot).held,
        }
    }

    pub fn version(&self, slot: u32) -> u32 {
        self.versions[slot as usize]
    }

    /// Takes room for a tenant.
    pub fn take(&mut self, slot: u32, tenant: &Tenant, claim: Claim<'_>) {
        self.change(slot).take(tenant.availability, claim);
        *self.owned(tenant, slot) += 1;
    }

    /// Gives back a tenant's room.
    pub fn give(&mut self, slot: u32, tenant: &Tenant, claim: Claim<'_>) {
        self.change(slot).give(tenant.availability, claim);
        *self.owned(tenant, slot) -= 1;
    }

    /// How many tenants an account has in a cell.
    pub fn account_in(&self, account: &Name, slot: u32) -> u32 {
        if self.owned.is_empty() {
            self.state.account_in(account, slot)
        } else {
            let changed = self.owned.get(&(account.clone(), slot)).copied();
            changed.unwrap_or_else(|| self.state.account_in(account, slot))
        }
    }

    fn change(&mut self, slot: u32) -> &mut Held {
        self.versions[slot as usize] += 1;
        let state = self.state;
        self.changed[slot as usize].get_or_insert_with(|| Box::new(state.standing(slot).held.clone()))
    }

    fn owned(&mut self, tenant: &Tenant, slot: u32) -> &mut u32 {
        let state = self.state;
        let key = (tenant.account.clone(), slot);
        self.owned
            .entry(key)
            .or_insert_with(|| state.account_in(&tenant.account, slot))
    }
}
