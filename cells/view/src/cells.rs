//! Cells and their zones, as their agents report them.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use skep_api::{Cell, CellPool};
use skep_core::quantity::{MEBIBYTE, amount};
use skep_core::reasons;
use skep_planner::document::{Fault, MOST_OF_A_ZONE, milli};
use skep_planner::model::{Cell as Planned, Name, Phase, Pool, Seconds, Zone};
use skep_planner::{Resource, Vector};
use skep_runtime::conditions::is_true;

use crate::Objects;
use crate::pools::{find, pool_name, stretch};

/// The dimensions that agents report, and how many of the quantity's unit one unit of the planner is.
const REPORTED: [(Resource, f64); 5] = [
    (Resource::Cpu, 1.0),
    (Resource::Memory, MEBIBYTE),
    (Resource::Pods, 1.0),
    (Resource::Volumes, 1.0),
    (Resource::Datastore, MEBIBYTE),
];

type Quantities = BTreeMap<String, String>;

pub(crate) fn read(
    objects: &Objects,
    pools: &BTreeMap<Name, Pool>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<Name, Planned> {
    let mut cells = BTreeMap::new();
    for cell in &objects.cells {
        let name = Name::from(cell.name_any());
        let pool = pool_name(cell, &objects.pools);
        let read = cell_of(cell, &pool, pools.get(&pool), find(objects, &pool));
        if let Some(fault) = &read.fault {
            faults.push(Fault::new(format!("cells.{name}.status.capacity"), fault.clone()));
        }
        cells.insert(name, read);
    }
    cells
}

fn cell_of(cell: &Cell, pool: &Name, policy: Option<&Pool>, object: Option<&CellPool>) -> Planned {
    let status = cell.status.as_ref();
    let last = status.and_then(|status| status.last_check_in.as_ref());
    let phase = match last {
        _ if cell.metadata.deletion_timestamp.is_some() => Phase::Draining,
        _ if cell.spec.cordoned => Phase::Cordoned,
        None => Phase::Building,
        Some(_) => Phase::Active,
    };
    let (zones, fault) = match reported(cell) {
        Ok(mut zones) => {
            stretch(&mut zones, object);
            (zones, None)
        }
        // A cell that never checked in is as its pool says, and so is one that says nothing of use.
        Err(fault) => (expected(cell, policy), last.map(|_| fault)),
    };
    Planned {
        pool: pool.clone(),
        phase,
        is_ready: status.is_some_and(|status| is_true(&status.conditions, reasons::READY)),
        reported: last.map_or(Seconds::MIN, |last| last.0.as_second()),
        fault,
        zones,
        headroom: policy.and_then(|pool| pool.headroom),
        taints: BTreeSet::new(),
        switches: Vec::new(),
        // Only what was ordered is given back.
        is_kept: cell.spec.provider.is_none(),
    }
}

/// The zones of a cell as its pool says; empty ones where that says nothing.
fn expected(cell: &Cell, policy: Option<&Pool>) -> Vec<Zone> {
    let template = policy.map_or(&[][..], |pool| &pool.template);
    if !template.is_empty() {
        return template.to_vec();
    }
    let empty = |name: &String| Zone {
        name: name.as_str().into(),
        capacity: Vector::splat(0),
        system: Vector::splat(0),
        known: Vector::splat(false),
        is_lost: false,
    };
    cell.spec.zones.iter().map(empty).collect()
}

/// The zones of a cell that reports them; nothing while it does not.
pub(crate) fn template(cell: &Cell, pool: Option<&CellPool>) -> Option<Vec<Zone>> {
    let mut zones = reported(cell)
        .ok()
        .filter(|zones| zones.iter().all(|zone| !zone.is_lost))?;
    stretch(&mut zones, pool);
    Some(zones)
}

fn reported(cell: &Cell) -> Result<Vec<Zone>, String> {
    let told = cell.status.as_ref().map_or(&[][..], |status| &status.capacity);
    if told.is_empty() {
        return Err("the agent reports no zone".to_owned());
    }
    for own in &cell.spec.zones {
        if !told.iter().any(|zone| zone.name == *own) {
            return Err(format!("zone {own} is missing"));
        }
    }
    // Nodes elsewhere are not the cell's to give.
    let own = told.iter().filter(|zone| cell.spec.zones.contains(&zone.name));
    let mut read = zones(own.map(|zone| (zone.name.as_str(), &zone.allocatable, Some(&zone.system))))?;
    for zone in &mut read {
        zone.is_lost = told.iter().any(|own| own.lost && own.name == zone.name);
    }
    Ok(read)
}

/// Zones by name: what each has, and what the cell itself takes of it.
pub(crate) fn zones<'a>(
    told: impl Iterator<Item = (&'a str, &'a Quantities, Option<&'a Quantities>)>,
) -> Result<Vec<Zone>, String> {
    let mut zones = BTreeMap::new();
    for (name, allocatable, system) in told {
        let zone = Zone {
            name: name.into(),
            capacity: amounts(name, allocatable)?,
            system: system.map_or(Ok(Vector::splat(0)), |system| amounts(name, system))?,
            known: Vector::from_fn(|r| allocatable.contains_key(r.name())),
            is_lost: false,
        };
        if zones.insert(name, zone).is_some() {
            return Err(format!("zone {name} is there twice"));
        }
    }
    Ok(zones.into_values().collect())
}

fn amounts(zone: &str, quantities: &Quantities) -> Result<Vector<u64>, String> {
    let mut vector = Vector::splat(0);
    for (name, quantity) in quantities {
        let known = REPORTED.iter().find(|(resource, _)| resource.name() == name);
        let Some((resource, unit)) = known else {
            return Err(format!(
                "{name} of zone {zone} is no dimension; those are {}",
                dimensions()
            ));
        };
        let units = amount(quantity).map(|amount| milli(amount / unit, MOST_OF_A_ZONE));
        let Some(Ok(thousandths)) = units else {
            return Err(format!(
                "{name} of zone {zone}: {quantity:?} is no quantity from 0"
            ));
        };
        vector[*resource] = thousandths;
    }
    Ok(vector)
}

fn dimensions() -> String {
    REPORTED.map(|(resource, _)| resource.name()).join(", ")
}
