//! Tenants of a document.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use super::{DemandDocument, Fault};
use crate::model::{
    Availability, Band, Cell, Choice, Class, Classes, Journey, Name, Place, Readings, Requirement, Seconds,
    Signal, Spot, Tenant, Watch,
};

/// The most tenants that one entry stands for.
const MOST_OF_AN_ENTRY: u32 = 1_000_000;

/// A tenant, or many alike.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantDocument {
    /// Stands for so many tenants, named with `-0`, `-1`, …; one without a number when left out.
    #[serde(default)]
    pub count: Option<u32>,
    /// Who owns it; itself when left out.
    #[serde(default)]
    pub account: Option<Name>,
    /// The region.
    pub region: Name,
    /// The jurisdiction that its data must not leave.
    #[serde(default)]
    pub residency: Option<Name>,
    /// Labels of compliance that its pool must have.
    #[serde(default)]
    pub compliance: BTreeSet<Name>,
    /// Taints that it tolerates.
    #[serde(default)]
    pub tolerations: BTreeSet<Name>,
    /// Its own ranges.
    #[serde(default)]
    pub ranges: Vec<IpNet>,
    /// Over which zones it runs.
    #[serde(default)]
    pub availability: Option<Availability>,
    /// The class that it has.
    #[serde(default)]
    pub class: Option<Class>,
    /// `auto`, or a class that it shall have whatever its signals say.
    #[serde(default)]
    pub pin: Option<Name>,
    /// What it takes; what its class starts with when left out.
    #[serde(default)]
    pub demand: Option<DemandDocument>,
    /// When it was asked for.
    #[serde(default)]
    pub asked: Seconds,
    /// The cell that it runs in, or that keeps room for it.
    #[serde(default)]
    pub cell: Option<Name>,
    /// The zone of a tenant in one zone.
    #[serde(default)]
    pub zone: Option<Name>,
    /// Until when room is kept, for one that does not run yet or moves.
    #[serde(default)]
    pub reserved_until: Option<Seconds>,
    /// Where it moves.
    #[serde(default)]
    pub moving_to: Option<Name>,
    /// Its signals.
    #[serde(default)]
    pub signals: Option<SignalsDocument>,
    /// On which side of its class it is.
    #[serde(default)]
    pub band: Option<Band>,
    /// Since when.
    #[serde(default)]
    pub since: Seconds,
    /// When its class or cell was last changed.
    #[serde(default)]
    pub changed: Option<Seconds>,
    /// Whether that change was to a smaller class.
    #[serde(default)]
    pub went_down: bool,
}

/// What was last measured at a tenant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalsDocument {
    /// When.
    pub at: Seconds,
    /// Nodes.
    #[serde(default)]
    pub nodes: u32,
    /// Memory of an apiserver, in MiB.
    #[serde(default)]
    pub memory: u32,
    /// Seats of an apiserver.
    #[serde(default)]
    pub seats: u32,
    /// The datastore, in MiB.
    #[serde(default)]
    pub datastore: u32,
    /// Open watches.
    #[serde(default)]
    pub watches: u32,
    /// Whether the apiserver does not answer.
    #[serde(default)]
    pub down: bool,
    /// Whether it was killed for memory or refused requests.
    #[serde(default)]
    pub emergency: bool,
}

impl SignalsDocument {
    fn readings(&self) -> Readings {
        let value = |signal| match signal {
            Signal::Nodes => self.nodes,
            Signal::Memory => self.memory,
            Signal::Seats => self.seats,
            Signal::Datastore => self.datastore,
            Signal::Watches => self.watches,
        };
        Readings {
            values: Signal::ALL.map(value),
            at: self.at,
            is_up: !self.down,
            is_emergency: self.emergency,
        }
    }
}

/// Checks tenants; tenants with the same requirement share it.
pub fn tenants(
    documents: BTreeMap<Name, TenantDocument>,
    now: Seconds,
    classes: &Classes,
    cells: &BTreeMap<Name, Cell>,
    faults: &mut Vec<Fault>,
) -> Vec<Tenant> {
    let mut shared: HashMap<Requirement, Arc<Requirement>> = HashMap::new();
    let mut names = BTreeSet::new();
    let mut tenants = Vec::new();
    for (name, document) in documents {
        let tenant = document.check(&name, now, classes, cells, &mut shared, faults);
        let copies: Vec<Tenant> = match document.count {
            None => vec![tenant],
            Some(count) if count <= MOST_OF_AN_ENTRY => (0..count)
                .map(|number| copy(&tenant, &document, number))
                .collect(),
            Some(count) => {
                let message = format!("{count} is more than {MOST_OF_AN_ENTRY}");
                faults.push(Fault::new(format!("tenants.{name}.count"), message));
                Vec::new()
            }
        };
        for tenant in copies {
            if !names.insert(tenant.name.clone()) {
                let message = format!("tenant {} is there twice", tenant.name);
                faults.push(Fault::new(format!("tenants.{name}"), message));
            }
            tenants.push(tenant);
        }
    }
    tenants
}

fn copy(tenant: &Tenant, document: &TenantDocument, number: u32) -> Tenant {
    let name = Name::from(format!("{}-{number}", tenant.name));
    let account = document.account.clone().unwrap_or_else(|| name.clone());
    Tenant {
        name,
        account,
        ..tenant.clone()
    }
}

impl TenantDocument {
    /// Checks it; what is wrong counts as nothing and is named.
    pub fn check(
        &self,
        name: &Name,
        now: Seconds,
        classes: &Classes,
        cells: &BTreeMap<Name, Cell>,
        shared: &mut HashMap<Requirement, Arc<Requirement>>,
        faults: &mut Vec<Fault>,
    ) -> Tenant {
        let field = format!("tenants.{name}");
        let class = self.class.unwrap_or(Class::Small);
        let availability = self.availability();
        let demand = match &self.demand {
            Some(demand) => demand.check(&format!("{field}.demand"), faults),
            None => *classes.get(class).start(availability),
        };
        let requirement = Requirement {
            region: self.region.clone(),
            residency: self.residency.clone(),
            compliance: self.compliance.clone(),
            tolerations: self.tolerations.clone(),
            ranges: self.ranges.clone(),
        };
        let requirement = shared
            .entry(requirement.clone())
            .or_insert_with(|| Arc::new(requirement))
            .clone();
        let band = self.band.unwrap_or(Band::Within);
        Tenant {
            name: name.clone(),
            account: self.account.clone().unwrap_or_else(|| name.clone()),
            demand,
            requirement,
            availability,
            class,
            choice: choice(self.pin.as_deref()),
            asked: self.asked,
            place: self.place(&field, now, cells, classes, faults),
            readings: self.signals.as_ref().map(SignalsDocument::readings),
            watch: Watch {
                band,
                since: self.since,
            },
            changed: self.changed.unwrap_or(Seconds::MIN / 2),
            went_down: self.went_down,
        }
    }

    fn availability(&self) -> Availability {
        self.availability.unwrap_or(Availability::ZoneRedundant)
    }

    fn place(
        &self,
        field: &str,
        now: Seconds,
        cells: &BTreeMap<Name, Cell>,
        classes: &Classes,
        faults: &mut Vec<Fault>,
    ) -> Place {
        let mut spot = |part: &str, name: &Name| match cells.get(name) {
            None => {
                faults.push(Fault::new(
                    format!("{field}.{part}"),
                    format!("there is no cell {name}"),
                ));
                None
            }
            Some(cell) => {
                let zone = match &self.zone {
                    None => Some(0),
                    Some(zone) => cell.zones.iter().position(|own| own.name == *zone),
                };
                let position = zone.and_then(|zone| u8::try_from(zone).ok());
                if position.is_none() {
                    let zone = self.zone.as_deref().unwrap_or_default();
                    faults.push(Fault::new(
                        format!("{field}.zone"),
                        format!("cell {name} has no zone {zone}"),
                    ));
                }
                position.map(|zone| Spot {
                    cell: name.clone(),
                    zone,
                })
            }
        };
        let at = self.cell.as_ref().and_then(|cell| spot("cell", cell));
        let to = self.moving_to.as_ref().and_then(|cell| spot("movingTo", cell));
        let class = self.class.unwrap_or(Class::Small);
        match (at, to, self.reserved_until) {
            (None, None, None) => Place::Waiting,
            (Some(at), None, None) => Place::Running { at },
            (Some(at), None, Some(until)) => Place::Reserved { at, until },
            (Some(from), Some(to), until) => Place::Moving(Box::new(Journey {
                from,
                to,
                until: until.unwrap_or(now.saturating_add(1)),
                class,
                demand: *classes.get(class).start(self.availability()),
            })),
            (None, ..) => {
                faults.push(Fault::new(
                    format!("{field}.cell"),
                    "it is missing beside reservedUntil or movingTo",
                ));
                Place::Waiting
            }
        }
    }
}

fn choice(pin: Option<&str>) -> Choice {
    match pin {
        None | Some("auto") => Choice::Auto,
        Some(pin) => {
            let class = Class::ALL.into_iter().find(|class| class.to_string() == pin);
            class.map_or(Choice::Unknown, Choice::Pinned)
        }
    }
}
