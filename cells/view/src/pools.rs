//! Pools: those that are there, and one for the cells of each region that belong to none.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kube::ResourceExt;
use skep_api::cell_pool::Headroom;
use skep_api::{Cell, CellPool};
use skep_planner::document::Fault;
use skep_planner::model::{Class, Name, Pool};

use crate::Objects;
use crate::cells::{template, zones};

const MILLI: f64 = 1000.0;
const MINUTE: i64 = 60;

pub(crate) fn read(objects: &Objects, faults: &mut Vec<Fault>) -> BTreeMap<Name, Pool> {
    let mut pools = BTreeMap::new();
    for pool in &objects.pools {
        let read = pool_of(pool, faults);
        pools.insert(read.name.clone(), read);
    }
    let declared: BTreeSet<Name> = pools.keys().cloned().collect();
    let mut cells: Vec<&Cell> = objects.cells.iter().collect();
    cells.sort_by_key(|cell| cell.name_any());
    for cell in cells {
        faults.extend(misplaced(cell, &pools));
        let name = pool_name(cell, &objects.pools);
        let is_declared = declared.contains(&name);
        let pool = pools.entry(name.clone()).or_insert_with(|| none(name, cell));
        if pool.template.is_empty() {
            pool.template = template(cell).unwrap_or_default();
        }
        // As many as there are: nobody orders for it.
        pool.maximum += u32::from(!is_declared);
        pool.ranges.extend(ranges(cell));
    }
    pools
}

/// What is wrong with the pool that a cell names.
fn misplaced(cell: &Cell, pools: &BTreeMap<Name, Pool>) -> Option<Fault> {
    let name = cell.spec.pool.as_deref()?;
    let region = &cell.spec.region;
    let message = match pools.get(name) {
        None => format!("there is no pool {name}"),
        Some(pool) if pool.region != region.as_str() => {
            format!(
                "pool {name} is in region {}, and the cell in {region}",
                pool.region
            )
        }
        Some(_) => return None,
    };
    Some(Fault::new(format!("cells.{}.pool", cell.name_any()), message))
}

/// The pool that a cell counts for: the one that it names, where that is there and in its region, or its region's own, which comes
/// after all others.
pub(crate) fn pool_name(cell: &Cell, pools: &[CellPool]) -> Name {
    let is_named =
        |pool: &&CellPool| Some(pool.name_any()) == cell.spec.pool && pool.spec.region == cell.spec.region;
    match pools.iter().find(is_named) {
        Some(pool) => pool.name_any().into(),
        None => Name::from(format!("~none-{}", cell.spec.region)),
    }
}

fn pool_of(pool: &CellPool, faults: &mut Vec<Fault>) -> Pool {
    let name = Name::from(pool.name_any());
    let spec = &pool.spec;
    let declared = spec
        .zones
        .iter()
        .map(|zone| (zone.name.as_str(), &zone.allocatable, None));
    let template = zones(declared).unwrap_or_else(|message| {
        faults.push(Fault::new(format!("pools.{name}.zones"), message));
        Vec::new()
    });
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    Pool {
        region: spec.region.as_str().into(),
        residency: None,
        compliance: BTreeSet::new(),
        ranges: Vec::new(),
        template,
        headroom: match spec.headroom {
            Headroom::None => None,
            Headroom::Small => Some(Class::Small),
            Headroom::Medium => Some(Class::Medium),
            Headroom::Large => Some(Class::Large),
        },
        price: money(spec.price_milli),
        lead_seconds: i64::from(spec.lead_minutes) * MINUTE,
        minimum: count(spec.min_cells),
        maximum: count(spec.max_cells),
        quota: None,
        budget: spec.budget_milli.map(money),
        is_stopped: spec.stopped,
        // No provider builds for it: people do.
        is_shadow: true,
        is_short: pool
            .status
            .as_ref()
            .is_some_and(|status| status.short_since.is_some()),
        history: Vec::new(),
        name,
    }
}

/// The pool of cells that belong to none: it keeps nothing free, and orders nothing.
fn none(name: Name, cell: &Cell) -> Pool {
    Pool {
        name,
        region: cell.spec.region.as_str().into(),
        residency: None,
        compliance: BTreeSet::new(),
        ranges: Vec::new(),
        template: Vec::new(),
        headroom: None,
        price: 0.0,
        lead_seconds: 0,
        minimum: 0,
        maximum: 0,
        quota: None,
        budget: None,
        is_stopped: false,
        is_shadow: true,
        is_short: false,
        history: Vec::new(),
    }
}

fn ranges(cell: &Cell) -> impl Iterator<Item = IpNet> {
    let network = &cell.spec.network;
    // A range that does not parse is the `cells` controller's to report.
    [&network.nodes, &network.pods, &network.services]
        .into_iter()
        .filter_map(|range| range.parse().ok())
}

#[expect(clippy::cast_precision_loss, reason = "dollars are compared to thousandths")]
fn money(milli: i64) -> f64 {
    milli as f64 / MILLI
}
