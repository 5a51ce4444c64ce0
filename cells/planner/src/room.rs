//! Whether a cell has room: in each dimension and zone, with any one zone lost.
//!
//! A zone-redundant tenant takes an equal share of each zone, and of the zones that are left when one is lost. So a zone
//! must hold `D/(Z−1)` of what they take together and all of its own tenants in one zone:
//! `load + system + room for one tenant more ≤ κ·capacity`. With equal zones this is
//! `Σ load ≤ capacity·(1 − 1/Z)·κ` over the cell.

use std::cell::OnceCell;

use serde::Serialize;

use crate::demand::{Demand, Moments, Sums};
use crate::model::{Availability, Cell, Classes, Name, Zone};
use crate::policy::Policy;
use crate::resource::{DIMENSIONS, MILLI, Resource, Vector};

/// What binds: the dimension and zone with the least room.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The dimension.
    pub resource: Resource,
    /// The zone.
    pub zone: Name,
    /// Load by what may be taken; above 1 there is no room.
    pub utilisation: f64,
}

/// How full a cell would be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The greatest utilisation of any dimension and zone.
    pub max: f64,
    /// The standard deviation of the dimensions' utilisations, over those that are used.
    pub deviation: f64,
    /// The dimension and zone of the greatest.
    pub at: (Resource, u8),
    /// The zone for a tenant in one zone.
    pub zone: u8,
}

impl Fit {
    /// Whether there is room.
    pub fn is_room(&self) -> bool {
        self.max <= 1.0 + ROUNDING
    }
}

/// What the order of a sum may make of a load: a tenant that was found room has it also once it is counted in.
const ROUNDING: f64 = 1e-9;

/// What a cell has and what is taken of it.
#[derive(Debug, Clone)]
pub struct Room {
    zones: Vec<ZoneRoom>,
    /// What zone-redundant tenants take over all zones.
    redundant: Sums,
    /// The share of it that a zone takes when another is lost.
    share: f64,
    /// The zone with the least to take of each dimension, and what that is, in units; nothing when all zones are lost.
    tightest: Option<Box<Vector<(u8, f64)>>>,
    /// What was read off the sums since they last changed.
    reckoned: OnceCell<Box<Reckoned>>,
}

/// What is read off a room's sums.
#[derive(Debug, Clone)]
struct Reckoned {
    /// Of zone-redundant tenants, over all zones.
    redundant: Vector<Moments>,
    /// Of each zone's own tenants; nothing where no zone has one.
    single: Option<Vec<Vector<Moments>>>,
    /// The load of all, over all zones.
    load: Vector<f64>,
    /// How full it is; what is above is enough to reckon it.
    fill: OnceCell<Fit>,
}

#[derive(Debug, Clone)]
struct ZoneRoom {
    name: Name,
    /// What tenants may take, in units, beside the room that is kept.
    usable: Vector<f64>,
    known: Vector<bool>,
    is_lost: bool,
    /// What tenants in this zone alone take.
    single: Sums,
}

impl Room {
    /// An empty cell.
    pub fn new(cell: &Cell, classes: &Classes, policy: &Policy) -> Self {
        let lost = cell.zones.iter().filter(|zone| zone.is_lost).count();
        let share = share(cell.zones.len(), lost);
        let kept = cell.headroom.map(|class| &classes.get(class).prior);
        let zone = |zone: &Zone| ZoneRoom {
            name: zone.name.clone(),
            usable: Vector::from_fn(|r| {
                let kept = kept.map_or(0.0, |kept| f64::from(kept.mean[r]) / MILLI);
                zone.allotted(r, policy) - share.min(1.0) * kept
            }),
            known: zone.known,
            is_lost: zone.is_lost,
            single: Sums::default(),
        };
        let zones: Vec<ZoneRoom> = cell.zones.iter().map(zone).collect();
        Self {
            tightest: tightest(&zones),
            zones,
            redundant: Sums::default(),
            share,
            reckoned: OnceCell::new(),
        }
    }

    /// Whether it survives the loss of a zone.
    pub fn is_redundant(&self) -> bool {
        self.zones.len() > 1
    }

    /// Takes room for a tenant.
    pub fn take(&mut self, demand: &Demand, availability: Availability, zone: u8) {
        self.sums(availability, zone).add(demand);
    }

    /// Gives back a tenant's room.
    pub fn give(&mut self, demand: &Demand, availability: Availability, zone: u8) {
        self.sums(availability, zone).sub(demand);
    }

    fn sums(&mut self, availability: Availability, zone: u8) -> &mut Sums {
        self.reckoned.take();
        match availability {
            Availability::ZoneRedundant => &mut self.redundant,
            Availability::Single => match self.zones.get_mut(usize::from(zone)) {
                Some(zone) => &mut zone.single,
                // A zone that is no more: it weighs on all that are left.
                None => &mut self.redundant,
            },
        }
    }

    /// Takes over what another has, which has the same zones; what is taken stays.
    pub fn resize(&mut self, other: Self) {
        for (zone, other) in self.zones.iter_mut().zip(other.zones) {
            zone.usable = other.usable;
            zone.known = other.known;
            zone.is_lost = other.is_lost;
        }
        self.share = other.share;
        self.tightest = other.tightest;
        self.reckoned.take();
    }

    /// How full it is.
    pub fn fill(&self, policy: &Policy) -> Fit {
        let fill = &self.reckoned(policy).fill;
        *fill.get_or_init(|| self.measure(policy, None, None))
    }

    /// How full it would be with a further tenant, in the zone where that is the least.
    pub fn fit(&self, policy: &Policy, demand: &Demand, availability: Availability) -> Fit {
        match availability {
            Availability::ZoneRedundant => self.measure(policy, Some(demand), None),
            Availability::Single => {
                let zones = 0..u8::try_from(self.zones.len()).unwrap_or(u8::MAX);
                zones
                    .filter(|zone| !self.zones[usize::from(*zone)].is_lost)
                    .map(|zone| self.measure(policy, Some(demand), Some(zone)))
                    .min_by(|one, other| one.max.total_cmp(&other.max))
                    .unwrap_or(NO_ROOM)
            }
        }
    }

    /// The dimension and zone that bind.
    pub fn binding(&self, fit: &Fit) -> Binding {
        let (resource, zone) = fit.at;
        Binding {
            resource,
            zone: self.zones[usize::from(zone)].name.clone(),
            utilisation: fit.max,
        }
    }

    /// The first dimension that a tenant takes and a zone's report does not name.
    pub fn unknown(&self, demand: &Demand) -> Option<(Resource, Name)> {
        self.zones.iter().find_map(|zone| {
            let unknown = |r: &Resource| demand.mean[*r] > 0 && !zone.known[*r];
            let resource = Resource::ALL.into_iter().find(unknown)?;
            Some((resource, zone.name.clone()))
        })
    }

    /// The name of a zone.
    pub fn zone(&self, zone: u8) -> Name {
        self.zones[usize::from(zone)].name.clone()
    }

    /// What its tenants take in each dimension, as a load, with one zone lost; in units.
    pub fn load(&self, policy: &Policy) -> &Vector<f64> {
        &self.reckoned(policy).load
    }

    fn reckoned(&self, policy: &Policy) -> &Reckoned {
        self.reckoned.get_or_init(|| {
            let moments = |sums: &Sums| Vector::from_fn(|r| sums.moments(r));
            let has_single = self.zones.iter().any(|zone| zone.single != Sums::default());
            let mut all = self.redundant;
            for zone in &self.zones {
                all.merge(&zone.single);
            }
            Box::new(Reckoned {
                redundant: moments(&self.redundant),
                single: has_single.then(|| self.zones.iter().map(|zone| moments(&zone.single)).collect()),
                load: Vector::from_fn(|r| all.moments(r).load(policy)),
                fill: OnceCell::new(),
            })
        })
    }

    /// What its tenants may take in each dimension together, with one zone lost; in units, never below 0.
    pub fn limit(&self) -> Vector<f64> {
        match &self.tightest {
            None => Vector::splat(0.0),
            Some(tightest) => Vector::from_fn(|r| (tightest[r].1 / self.share).max(0.0)),
        }
    }

    /// How full it would be with a further tenant, which is in one zone where that is named.
    fn measure(&self, policy: &Policy, further: Option<&Demand>, at: Option<u8>) -> Fit {
        let is_redundant = further.is_some() && at.is_none();
        let Some(tightest) = self
            .tightest
            .as_ref()
            .filter(|_| !is_redundant || self.is_redundant())
        else {
            return NO_ROOM;
        };
        let reckoned = self.reckoned(policy);
        // Where no tenant is in one zone alone, all zones carry the same: the tightest binds.
        let is_alike = at.is_none() && reckoned.single.is_none();
        let mut worst = [0.0_f64; DIMENSIONS];
        let mut fit = Fit {
            max: 0.0,
            zone: at.unwrap_or(0),
            ..NO_ROOM
        };
        for r in Resource::ALL {
            let added = further.map_or(Moments::default(), |further| Moments::of(further, r));
            let shared = match at {
                None => reckoned.redundant[r].plus(added),
                Some(_) => reckoned.redundant[r],
            };
            let is_unused = reckoned.single.is_none() && shared.plus(added) == Moments::default();
            if is_unused {
                continue;
            }
            let shared = shared.scaled(self.share);
            let mut count = |load: f64, usable: f64, position: u8| {
                let utilisation = utilisation(load, usable);
                worst[r as usize] = worst[r as usize].max(utilisation);
                if utilisation > fit.max {
                    (fit.max, fit.at) = (utilisation, (r, position));
                }
            };
            if is_alike {
                let (position, usable) = tightest[r];
                count(shared.load(policy), usable, position);
                continue;
            }
            for (position, zone) in (0_u8..).zip(&self.zones).filter(|(_, zone)| !zone.is_lost) {
                let single = reckoned.single.as_ref();
                let own = single.map_or(Moments::default(), |single| single[usize::from(position)][r]);
                let own = if at == Some(position) {
                    own.plus(added)
                } else {
                    own
                };
                count(shared.plus(own).load(policy), zone.usable[r], position);
            }
        }
        fit.deviation = deviation(&worst);
        fit
    }
}

const NO_ROOM: Fit = Fit {
    max: f64::INFINITY,
    deviation: 0.0,
    at: (Resource::Cpu, 0),
    zone: 0,
};

/// The share of a zone-redundant tenant that a zone takes when another is lost, or when those are lost that are; all of it
/// where one zone is left.
fn share(zones: usize, lost: usize) -> f64 {
    let left = zones.saturating_sub(lost.max(1)).max(1);
    1.0 / f64::from(u8::try_from(left).unwrap_or(u8::MAX))
}

/// Of the zones that are left, the first with the least to take of each dimension.
fn tightest(zones: &[ZoneRoom]) -> Option<Box<Vector<(u8, f64)>>> {
    let there = || (0_u8..).zip(zones).filter(|(_, zone)| !zone.is_lost);
    let first = there().next()?.0;
    let of = |r: Resource| {
        let takes = there().map(|(position, zone)| (position, zone.usable[r]));
        let least = takes.min_by(|one, other| one.1.total_cmp(&other.1));
        least.unwrap_or((first, 0.0))
    };
    Some(Box::new(Vector::from_fn(of)))
}

fn utilisation(load: f64, usable: f64) -> f64 {
    if load <= 0.0 {
        0.0
    } else if usable <= 0.0 {
        f64::INFINITY
    } else {
        load / usable
    }
}

/// The standard deviation over the dimensions that are used at all.
fn deviation(utilisations: &[f64]) -> f64 {
    let used = utilisations
        .iter()
        .filter(|value| **value > 0.0 && value.is_finite());
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in used {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    if count == 0.0 {
        return 0.0;
    }
    let mean: f64 = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt()
}
