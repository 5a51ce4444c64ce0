//! What the planner is given: tenants, cells, pools, classes. Every value here is valid; `document` makes them so.

mod cells;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::demand::Demand;
use crate::policy::Policy;

pub use cells::{Cell, Phase, Pool, Zone};

/// Seconds since 1970.
pub type Seconds = i64;
/// A name of a tenant, cell, pool or zone.
pub type Name = CompactString;

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Input {
    /// The time of the plan.
    pub now: Seconds,
    /// How decisions are made.
    pub policy: Policy,
    /// What each class gives and takes, smallest first.
    pub classes: Classes,
    /// Pools of cells, by name.
    pub pools: BTreeMap<Name, Pool>,
    /// Cells, by name.
    pub cells: BTreeMap<Name, Cell>,
    /// Tenants, each name once.
    pub tenants: Vec<Tenant>,
}

/// A size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Where every tenant starts.
    Small,
    /// Some hundred nodes.
    Medium,
    /// Beyond.
    Large,
}

impl Class {
    /// All classes, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The class below, if there is one.
    pub fn below(self) -> Option<Self> {
        match self {
            Self::Small => None,
            Self::Medium => Some(Self::Small),
            Self::Large => Some(Self::Medium),
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        })
    }
}

/// What each class is, indexed by class.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes(pub [SizeClass; 3]);

impl Classes {
    /// One class.
    pub fn get(&self, class: Class) -> &SizeClass {
        &self.0[class as usize]
    }
}

/// What a class is.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeClass {
    /// What a tenant over all zones takes while nothing else is known.
    pub prior: Demand,
    /// What a tenant in one zone takes while nothing else is known.
    pub single: Demand,
    /// Up to which value of each signal, exclusive, the class is meant; none where it is the last.
    pub limits: [Option<u32>; SIGNALS],
}

impl SizeClass {
    /// What a tenant takes while nothing else is known.
    pub fn start(&self, availability: Availability) -> &Demand {
        match availability {
            Availability::ZoneRedundant => &self.prior,
            Availability::Single => &self.single,
        }
    }
}

/// How many signals there are.
pub const SIGNALS: usize = 5;

/// Something measured at a tenant that decides on its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// Nodes.
    Nodes,
    /// The 90th percentile of an apiserver's memory with 15% on top, in MiB.
    Memory,
    /// Seats that requests take in an apiserver.
    Seats,
    /// The size of the datastore, in MiB.
    Datastore,
    /// Open watches of an apiserver.
    Watches,
}

impl Signal {
    /// All signals, in the order of readings and limits.
    pub const ALL: [Self; SIGNALS] = [
        Self::Nodes,
        Self::Memory,
        Self::Seats,
        Self::Datastore,
        Self::Watches,
    ];

    /// The signal's name as files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Memory => "memory",
            Self::Seats => "seats",
            Self::Datastore => "datastore",
            Self::Watches => "watches",
        }
    }
}

/// What was last measured at a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// Values, in the order of the signals.
    pub values: [u32; SIGNALS],
    /// When.
    pub at: Seconds,
    /// Whether the tenant's apiserver answered.
    pub is_up: bool,
    /// Whether it was killed for memory, or refused requests for want of seats.
    pub is_emergency: bool,
}

/// On which side of its class a tenant has been, without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Band {
    /// Within it.
    Within,
    /// Above it.
    Above,
    /// Below it.
    Below,
}

/// A band and when it was entered: the memory of class decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// The band.
    pub band: Band,
    /// Since when.
    pub since: Seconds,
}

/// How a tenant's class is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// By its signals.
    Auto,
    /// Fixed by its owner.
    Pinned(Class),
    /// Fixed to something that is no class; signals decide, and the report says so.
    Unknown,
}

/// Over which zones a tenant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// Active in all zones of its cell; survives the loss of one.
    ZoneRedundant,
    /// In one zone.
    Single,
}

/// What a tenant demands of its place beside room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Requirement {
    /// The region.
    pub region: Name,
    /// The jurisdiction that its data must not leave, if there is one.
    pub residency: Option<Name>,
    /// Labels of compliance that the pool must have.
    pub compliance: BTreeSet<Name>,
    /// Taints that it tolerates.
    pub tolerations: BTreeSet<Name>,
    /// Its own ranges, which must not overlap with the cell's.
    pub ranges: Vec<IpNet>,
}

/// A cell and the position of a zone in it; the zone counts for tenants in one zone alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The cell.
    pub cell: Name,
    /// The position of the zone.
    pub zone: u8,
}

/// Where a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it waits.
    Waiting,
    /// Room is kept for it.
    Reserved {
        /// Where.
        at: Spot,
        /// Until when.
        until: Seconds,
    },
    /// It runs there.
    Running {
        /// Where.
        at: Spot,
    },
    /// It runs in one cell, and room is kept for it in another.
    Moving(Box<Journey>),
}

/// A move that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// Where it runs.
    pub from: Spot,
    /// Where it goes.
    pub to: Spot,
    /// Until when its room is kept there.
    pub until: Seconds,
    /// The class that it gets there.
    pub class: Class,
    /// What room is kept there.
    pub demand: Demand,
}

/// What a tenant takes somewhere.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Where.
    pub spot: &'a Spot,
    /// How much.
    pub demand: &'a Demand,
    /// As which class.
    pub class: Class,
}

impl Place {
    /// Where it takes room.
    pub fn spots(&self) -> impl Iterator<Item = &Spot> {
        let (first, second) = match self {
            Self::Waiting => (None, None),
            Self::Reserved { at, .. } | Self::Running { at } => (Some(at), None),
            Self::Moving(journey) => (Some(&journey.from), Some(&journey.to)),
        };
        first.into_iter().chain(second)
    }

    /// Where it runs or will run first.
    pub fn home(&self) -> Option<&Spot> {
        self.spots().next()
    }

    /// The place when kept room is given back.
    #[must_use]
    pub fn released(&self) -> Self {
        match self {
            Self::Waiting | Self::Reserved { .. } => Self::Waiting,
            Self::Running { at } => Self::Running { at: at.clone() },
            Self::Moving(journey) => Self::Running {
                at: journey.from.clone(),
            },
        }
    }

    /// Until when room is kept, if it is.
    pub fn until(&self) -> Option<Seconds> {
        match self {
            Self::Waiting | Self::Running { .. } => None,
            Self::Reserved { until, .. } => Some(*until),
            Self::Moving(journey) => Some(journey.until),
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Its name.
    pub name: Name,
    /// Who owns it.
    pub account: Name,
    /// What it takes.
    pub demand: Demand,
    /// What it demands of its place; tenants share these.
    pub requirement: Arc<Requirement>,
    /// Over which zones it runs.
    pub availability: Availability,
    /// Its class.
    pub class: Class,
    /// How its class is found.
    pub choice: Choice,
    /// When it was asked for.
    pub asked: Seconds,
    /// Where it is.
    pub place: Place,
    /// Its signals, once there are some.
    pub readings: Option<Readings>,
    /// On which side of its class it is.
    pub watch: Watch,
    /// When its class or cell was last changed; the beginning of time when never.
    pub changed: Seconds,
    /// Whether that change was to a smaller class.
    pub went_down: bool,
}

impl Tenant {
    /// What it takes and where; twice while it moves.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let here = self.place.home().map(|spot| Claim {
            spot,
            demand: &self.demand,
            class: self.class,
        });
        let there = match &self.place {
            Place::Moving(journey) => Some(Claim {
                spot: &journey.to,
                demand: &journey.demand,
                class: journey.class,
            }),
            Place::Waiting | Place::Reserved { .. } | Place::Running { .. } => None,
        };
        here.into_iter().chain(there)
    }
}
