//! What is to be done, and the changes of what is known that carry it out.

use serde::Serialize;

use crate::model::{Band, Class, Input, Journey, Name, Phase, Place, Seconds, Spot, Watch};
use crate::report::Report;
use crate::state::{Delta, State};

/// What is to be done. Everything is in an order that the input's order does not change.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Reservations that lapsed.
    pub released: Vec<Name>,
    /// On which side of their class tenants are now.
    pub watches: Vec<WatchChange>,
    /// Classes that change.
    pub switches: Vec<Switch>,
    /// Room that is reserved for tenants that wait.
    pub placements: Vec<Placement>,
    /// Tenants that go to another cell.
    pub moves: Vec<Move>,
    /// Cells to build.
    pub orders: Vec<Order>,
    /// Cells to empty.
    pub drains: Vec<Drain>,
    /// Pools that are short of cells now, or no longer.
    pub shortages: Vec<Shortage>,
}

/// A tenant's band.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchChange {
    /// The tenant.
    pub tenant: Name,
    /// The band.
    pub band: Band,
    /// Since when.
    pub since: Seconds,
}

/// A change of class within the cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Switch {
    /// The tenant.
    pub tenant: Name,
    /// Its cell.
    pub cell: Name,
    /// The class that it has.
    pub from: Class,
    /// The class that it gets.
    pub to: Class,
    /// Whether it took one of the cell's tokens.
    pub took_token: bool,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The tenant.
    pub tenant: Name,
    /// The cell.
    pub cell: Name,
    /// The zone, of a tenant in one zone.
    pub zone: Option<Name>,
    /// The zone's position.
    #[serde(skip)]
    pub zone_position: u8,
    /// Until when room is kept.
    pub until: Seconds,
}

/// A tenant that goes to another cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// The tenant.
    pub tenant: Name,
    /// Where it runs.
    pub from: Name,
    /// Where it goes.
    pub to: Name,
    /// The zone's position there.
    #[serde(skip)]
    pub zone_position: u8,
    /// Until when room is kept there.
    pub until: Seconds,
    /// The class that it gets there.
    pub class: Class,
}

/// Cells to build.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The pool.
    pub pool: Name,
    /// How many.
    pub cells: u32,
    /// Whether it is shown and not carried out.
    pub is_shadow: bool,
}

/// A cell to empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// The cell.
    pub cell: Name,
    /// Whether it is shown and not carried out.
    pub is_shadow: bool,
}

/// Whether a pool is short of cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    /// The pool.
    pub pool: Name,
    /// Whether it is.
    pub is_short: bool,
}

/// Plans from everything that is known; the same input and seed give the same plan, whatever the input's order.
pub fn plan(input: Input, seed: u64) -> (Plan, Report) {
    State::new(input).plan(seed)
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The changes that carry the plan out, orders of cells excepted: those are the provider's.
    pub fn deltas(&self, state: &State) -> Vec<Delta> {
        let now = state.now();
        let mut tenants = std::collections::BTreeMap::new();
        let mut change = |name: &Name, edit: &mut dyn FnMut(&mut crate::model::Tenant)| {
            let standing = tenants
                .entry(name.clone())
                .or_insert_with(|| state.tenant(name).cloned());
            if let Some(tenant) = standing {
                edit(tenant);
            }
        };
        for name in &self.released {
            change(name, &mut |tenant| tenant.place = tenant.place.released());
        }
        for WatchChange { tenant, band, since } in &self.watches {
            let watch = Watch {
                band: *band,
                since: *since,
            };
            change(tenant, &mut |tenant| tenant.watch = watch);
        }
        for switch in &self.switches {
            change(&switch.tenant, &mut |tenant| {
                tenant.went_down = switch.to < switch.from;
                tenant.demand = state.demand_after(tenant, switch.to);
                tenant.class = switch.to;
                tenant.changed = now;
                tenant.watch = Watch {
                    band: Band::Within,
                    since: now,
                };
            });
        }
        for placement in &self.placements {
            let at = Spot {
                cell: placement.cell.clone(),
                zone: placement.zone_position,
            };
            let place = Place::Reserved {
                at,
                until: placement.until,
            };
            change(&placement.tenant, &mut |tenant| {
                tenant.place = place.clone();
                tenant.demand = state.demand_as(tenant, tenant.class);
            });
        }
        for step in &self.moves {
            let to = Spot {
                cell: step.to.clone(),
                zone: step.zone_position,
            };
            change(&step.tenant, &mut |tenant| {
                if let Some(from) = tenant.place.home().cloned() {
                    tenant.place = Place::Moving(Box::new(Journey {
                        from,
                        to: to.clone(),
                        until: step.until,
                        class: step.class,
                        demand: state.demand_after(tenant, step.class),
                    }));
                    tenant.changed = now;
                    tenant.went_down = false;
                }
            });
        }
        let tenants = tenants
            .into_values()
            .flatten()
            .map(|tenant| Delta::Tenant(Box::new(tenant)));
        tenants
            .chain(self.cell_deltas(state))
            .chain(self.pool_deltas(state))
            .collect()
    }

    fn cell_deltas<'a>(&'a self, state: &'a State) -> impl Iterator<Item = Delta> + 'a {
        let mut cells = std::collections::BTreeMap::new();
        let mut edit = |name: &Name, edit: &mut dyn FnMut(&mut crate::model::Cell)| {
            let standing = cells
                .entry(name.clone())
                .or_insert_with(|| state.cell(name).cloned());
            if let Some(cell) = standing {
                edit(cell);
            }
        };
        for switch in self.switches.iter().filter(|switch| switch.took_token) {
            edit(&switch.cell, &mut |cell| cell.switches.push(state.now()));
        }
        for drain in self.drains.iter().filter(|drain| !drain.is_shadow) {
            edit(&drain.cell, &mut |cell| cell.phase = Phase::Draining);
        }
        let window = state.now().saturating_sub(state.policy().switch_window_seconds);
        cells.into_iter().filter_map(move |(name, cell)| {
            let mut cell = cell?;
            cell.switches.retain(|at| *at > window);
            Some(Delta::Cell(name, Box::new(cell)))
        })
    }

    fn pool_deltas<'a>(&'a self, state: &'a State) -> impl Iterator<Item = Delta> + 'a {
        self.shortages.iter().filter_map(|Shortage { pool, is_short }| {
            let mut standing = state.pool(pool)?.clone();
            standing.is_short = *is_short;
            Some(Delta::Pool(Box::new(standing)))
        })
    }
}
