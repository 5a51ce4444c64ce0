//! Pools: those that are there, and one for the cells of each region that belong to none.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kube::ResourceExt;
use skep_api::cell_pool::Headroom;
use skep_api::{Cell, CellPool, OrderMode};
use skep_planner::Resource;
use skep_planner::document::Fault;
use skep_planner::model::{Class, Name, Pool, Zone};

use crate::Objects;
use crate::cells::{template, zones};

const MILLI: f64 = 1000.0;
const MINUTE: i64 = 60;
/// The most that a zone may promise of one dimension, in thousandths: as much as it may have.
const MOST_PROMISED: u64 = 1_000_000_000_000_000;

pub(crate) fn read(objects: &Objects, faults: &mut Vec<Fault>) -> BTreeMap<Name, Pool> {
    let mut pools = BTreeMap::new();
    let mut standing: BTreeMap<Name, u32> = BTreeMap::new();
    for cell in &objects.cells {
        *standing.entry(pool_name(cell, &objects.pools)).or_default() += 1;
    }
    for pool in &objects.pools {
        let count = standing.get(pool.name_any().as_str()).copied().unwrap_or(0);
        let read = pool_of(pool, count, faults);
        pools.insert(read.name.clone(), read);
    }
    let declared: BTreeSet<Name> = pools.keys().cloned().collect();
    let mut cells: Vec<&Cell> = objects.cells.iter().collect();
    cells.sort_by_key(|cell| cell.name_any());
    for cell in cells {
        faults.extend(misplaced(cell, &pools));
        let name = pool_name(cell, &objects.pools);
        let is_declared = declared.contains(&name);
        let policy = find(objects, &name);
        let pool = pools.entry(name.clone()).or_insert_with(|| none(name, cell));
        if pool.template.is_empty() {
            pool.template = template(cell, policy).unwrap_or_default();
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

/// The object of a pool; none of the pool of cells that belong to none.
pub(crate) fn find<'a>(objects: &'a Objects, name: &Name) -> Option<&'a CellPool> {
    objects.pools.iter().find(|pool| pool.name_any() == name.as_str())
}

/// What may be promised of what nodes can give.
pub(crate) fn stretch(zones: &mut [Zone], pool: Option<&CellPool>) {
    let Some(pool) = pool else { return };
    for (name, percent) in &pool.spec.overcommit_percent {
        let (Some(resource), Ok(percent)) = (
            Resource::ALL.into_iter().find(|resource| resource.name() == name),
            u64::try_from(*percent),
        ) else {
            continue;
        };
        for zone in &mut *zones {
            let promised = zone.capacity[resource].saturating_mul(percent.max(100)) / 100;
            zone.capacity[resource] = promised.min(MOST_PROMISED);
        }
    }
}

/// Of a pool with so many cells: whether orders are only shown, and how many may be carried out where that is limited.
fn orders(pool: &CellPool, standing: u32) -> (bool, Option<u32>) {
    match pool.spec.order.as_ref().map(|order| (order.mode, order.approved)) {
        None | Some((OrderMode::Shadow, _)) => (true, None),
        Some((OrderMode::Automatic, _)) => (false, None),
        Some((OrderMode::Approval, approved)) => {
            let left = u32::try_from(approved).unwrap_or(0).saturating_sub(standing);
            // What was not approved is shown, not refused.
            (left == 0, (left > 0).then_some(left))
        }
    }
}

fn pool_of(pool: &CellPool, standing: u32, faults: &mut Vec<Fault>) -> Pool {
    let name = Name::from(pool.name_any());
    let spec = &pool.spec;
    let declared = spec
        .zones
        .iter()
        .map(|zone| (zone.name.as_str(), &zone.allocatable, None));
    let mut template = zones(declared).unwrap_or_else(|message| {
        faults.push(Fault::new(format!("pools.{name}.zones"), message));
        Vec::new()
    });
    stretch(&mut template, Some(pool));
    let (is_shadow, quota) = orders(pool, standing);
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
        quota,
        budget: spec.budget_milli.map(money),
        is_stopped: spec.stopped,
        is_shadow,
        returns_idle: spec.order.is_some(),
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
        returns_idle: false,
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
