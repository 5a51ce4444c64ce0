//! Fleets of any size: cells three quarters full, tenants of three classes and of accounts of ten.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use skep_planner::document::Document;
use skep_planner::model::{
    Availability, Band, Choice, Class, Input, Name, Phase, Place, Readings, Requirement, Seconds, Spot,
    Tenant, Watch,
};
use skep_planner::{Delta, State};

use super::NOW;

/// How large a fleet is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub tenants: u32,
    pub cells: u32,
}

/// Pool and classes; a cell of 500 tenants of the mix below is some three quarters full.
const GROUND: &str = "
now: 1000000
policy: {accountLimit: 1000}
classes:
  small:
    prior: {mean: {cpu: 0.5, memory: 3072, pods: 8, podAddresses: 8}, deviation: {cpu: 0.15, memory: 250}}
    criteria: {nodes: [0, 20], memory: [0, 500], seats: [0, 100], datastore: [0, 400], watches: [0, 1000]}
  medium:
    prior: {mean: {cpu: 2, memory: 12288, pods: 9, podAddresses: 9}, deviation: {cpu: 0.6, memory: 1000}}
    criteria: {nodes: [20, 200], memory: [500, 2000], seats: [100, 400], datastore: [400, 2000], watches: [1000, 10000]}
  large:
    prior: {mean: {cpu: 8, memory: 49152, pods: 12, podAddresses: 12}, deviation: {cpu: 2.4, memory: 4000}}
    criteria: {nodes: [200, null], memory: [2000, null], seats: [400, null], datastore: [2000, null], watches: [10000, null]}
pools:
  pool:
    region: region
    price: 9
    leadSeconds: 1209600
    maximum: 100000
    zones:
      a: &zone
        capacity: {cpu: 600, memory: 2000000, pods: 4000, podAddresses: 4000}
        system: {cpu: 10, memory: 20000, pods: 60, podAddresses: 60}
      b: *zone
      c: *zone
cells:
  cell: {pool: pool, reported: 1000000}
";

/// A fleet in which all are placed, but 0.1% that are new; of 1% the signals ask for another class.
pub fn input(size: Size) -> Input {
    let mut input = ground(size);
    let classes = input.classes.clone();
    let requirement = Arc::new(requirement());
    input.tenants = (0..size.tenants)
        .map(|number| tenant(number, size, &requirement, &classes))
        .collect();
    input
}

/// The same fleet made tenant by tenant, all of it placed, and the bytes that each takes.
pub fn state(size: Size) -> Result<(State, f64)> {
    let ground = ground(size);
    let classes = ground.classes.clone();
    let requirement = Arc::new(requirement());
    let before = anonymous_kib()?;
    let mut state = State::new(ground);
    for number in 0..size.tenants {
        let mut tenant = tenant(number, size, &requirement, &classes);
        tenant.place = running(number, size);
        state.take(NOW, Delta::Tenant(Box::new(tenant)));
    }
    let bytes = (anonymous_kib()? - before) * 1024.0 / f64::from(size.tenants);
    Ok((state, bytes))
}

/// One change: a tenant's load, a tenant that comes, one that goes, or signals that ask for another class.
pub fn change(state: &State, number: u32) -> Delta {
    let name = |number: u32| Name::from(format!("t{number:07}"));
    let other = number.wrapping_mul(7919) % 1_000_000;
    let standing = state.tenant(&name(other)).cloned();
    let fallback = || Delta::Clock;
    match number % 4 {
        0 => standing.map_or_else(fallback, |mut tenant| {
            tenant.demand.mean[skep_planner::Resource::Cpu] += number % 100;
            Delta::Tenant(Box::new(tenant))
        }),
        1 => standing.map_or_else(fallback, |tenant| {
            let place = Place::Waiting;
            let name = Name::from(format!("n{number:07}"));
            Delta::Tenant(Box::new(Tenant {
                name,
                place,
                ..tenant
            }))
        }),
        2 => Delta::TenantGone(name(other)),
        _ => standing.map_or_else(fallback, |mut tenant| {
            tenant.readings = Some(readings(25 + number % 10));
            Delta::Tenant(Box::new(tenant))
        }),
    }
}

fn ground(size: Size) -> Input {
    #[expect(clippy::expect_used, reason = "a constant that a test reads too")]
    let mut input = Document::parse(GROUND)
        .and_then(Document::check)
        .expect("a right document");
    let cell = input.cells.values().next().cloned();
    let cells = (0..size.cells).filter_map(|number| Some((cell_name(number), cell.clone()?)));
    input.cells = cells.collect::<BTreeMap<_, _>>();
    if let Some(pool) = input.pools.values_mut().next() {
        let used = f64::from(size.tenants);
        pool.history = vec![skep_planner::Vector::splat(used); 60];
    }
    for cell in input.cells.values_mut() {
        cell.phase = Phase::Active;
    }
    input
}

fn cell_name(number: u32) -> Name {
    Name::from(format!("cell-{number:05}"))
}

fn requirement() -> Requirement {
    Requirement {
        region: "region".into(),
        ..Requirement::default()
    }
}

fn running(number: u32, size: Size) -> Place {
    // Tenants of one account are in many cells.
    let cell = cell_name((number.wrapping_mul(2_654_435_761) >> 8) % size.cells);
    Place::Running {
        at: Spot { cell, zone: 0 },
    }
}

fn readings(nodes: u32) -> Readings {
    Readings {
        values: [nodes, 0, 0, 0, 0],
        at: NOW,
        is_up: true,
        is_emergency: false,
    }
}

fn tenant(
    number: u32,
    size: Size,
    requirement: &Arc<Requirement>,
    classes: &skep_planner::model::Classes,
) -> Tenant {
    let class = match number % 50 {
        0 => Class::Large,
        1..=4 => Class::Medium,
        _ => Class::Small,
    };
    let (is_new, is_changed) = (number % 1000 == 999, number % 100 == 7);
    let nodes = match class {
        Class::Small => 10 + 20 * u32::from(is_changed),
        Class::Medium => 100,
        Class::Large => 300,
    };
    let mut demand = classes.get(class).prior;
    // No two alike.
    demand.mean[skep_planner::Resource::Cpu] += number % 97;
    Tenant {
        name: Name::from(format!("t{number:07}")),
        account: Name::from(format!("a{:06}", number / 10)),
        demand,
        requirement: requirement.clone(),
        availability: Availability::ZoneRedundant,
        class,
        choice: Choice::Auto,
        asked: NOW - 86_400,
        place: if is_new {
            Place::Waiting
        } else {
            running(number, size)
        },
        readings: Some(readings(nodes)),
        watch: Watch {
            band: if is_changed { Band::Above } else { Band::Within },
            since: NOW - 60,
        },
        changed: Seconds::MIN / 2,
        went_down: false,
    }
}

/// The anonymous memory of this process, in KiB.
fn anonymous_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let text = line
        .and_then(|line| line.split_whitespace().next())
        .context("there is no RssAnon")?;
    text.parse().context("RssAnon is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_new_tenants_and_tenants_that_change() {
        let size = Size {
            tenants: 2_000,
            cells: 8,
        };
        let (plan, report) = skep_planner::plan(input(size), 1);
        assert_eq!(plan.placements.len(), 2, "{report}");
        assert!((15..=20).contains(&plan.switches.len()), "{report}");
    }
}
