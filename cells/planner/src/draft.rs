//! The fleet as it will be when what was decided so far is carried out: changed cells over the standing ones.

use hashbrown::HashMap;

use crate::model::{Claim, Tenant};
use crate::state::{Held, State};

/// The state with decisions on top.
pub(crate) struct Draft<'a> {
    pub state: &'a State,
    changed: Vec<Option<Box<Held>>>,
    owned: HashMap<(u32, u32), u32>,
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
        if let Some(count) = self.count(tenant, slot) {
            *count += 1;
        }
    }

    /// Gives back a tenant's room.
    pub fn give(&mut self, slot: u32, tenant: &Tenant, claim: Claim<'_>) {
        self.change(slot).give(tenant.availability, claim);
        if let Some(count) = self.count(tenant, slot) {
            *count -= 1;
        }
    }

    /// How many tenants an account has in a cell.
    pub fn owned(&self, account: Option<u32>, slot: u32) -> u32 {
        let Some(account) = account else {
            return 0;
        };
        let changed = self.owned.get(&(account, slot)).copied();
        changed.unwrap_or_else(|| self.state.owned(account, slot))
    }

    fn change(&mut self, slot: u32) -> &mut Held {
        self.versions[slot as usize] += 1;
        let state = self.state;
        self.changed[slot as usize].get_or_insert_with(|| Box::new(state.standing(slot).held.clone()))
    }

    fn count(&mut self, tenant: &Tenant, slot: u32) -> Option<&mut u32> {
        let state = self.state;
        let account = state.account(&tenant.account)?;
        let entry = self.owned.entry((account, slot));
        Some(entry.or_insert_with(|| state.owned(account, slot)))
    }
}
