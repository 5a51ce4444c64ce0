//! Fleets at random, with everything that may be wrong with them.

pub mod moments;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use skep_planner::model::{
    Availability, Band, Cell, Choice, Class, Classes, Input, Journey, Name, Phase, Place, Pool, Readings,
    Requirement, Seconds, SizeClass, Spot, Tenant, Watch, Zone,
};
use skep_planner::{Delta, Demand, Policy, Resource, Vector};

/// The dimensions that random tenants take.
const TAKEN: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::PodAddresses];
/// The greatest time.
const LATEST: Seconds = 20_000;

fn amounts(most: u32) -> impl Strategy<Value = Vector<u32>> {
    proptest::array::uniform3(0..=most).prop_map(|values| {
        let mut vector = Vector::splat(0);
        for (r, value) in TAKEN.into_iter().zip(values) {
            vector[r] = value;
        }
        vector
    })
}

/// A demand of up to so many thousandths.
pub fn demand(most: u32) -> impl Strategy<Value = Demand> {
    (amounts(most), amounts(most / 4)).prop_map(|(mean, deviation)| Demand { mean, deviation })
}

/// Three classes with limits of 10 and 100 for each signal.
pub fn classes() -> Classes {
    let class = |milli: u32, limit| {
        let mut mean = Vector::splat(0);
        for r in TAKEN {
            mean[r] = milli;
        }
        let demand = |mean| Demand {
            mean,
            deviation: Vector::splat(0),
        };
        SizeClass {
            prior: demand(mean),
            single: demand(Vector::from_fn(|r| mean[r] / 3)),
            limits: [limit; 5],
        }
    };
    Classes([class(200, Some(10)), class(800, Some(100)), class(3000, None)])
}

fn zone(name: String) -> impl Strategy<Value = Zone> {
    let amount = || proptest::array::uniform3(0_u64..60_000);
    (
        amount(),
        proptest::array::uniform3(0_u64..3_000),
        prop::bool::weighted(0.05),
    )
        .prop_map(move |(capacity, system, is_lost)| {
            let vector = |values: [u64; 3]| {
                let mut vector = Vector::splat(0);
                TAKEN
                    .into_iter()
                    .zip(values)
                    .for_each(|(r, value)| vector[r] = value);
                vector
            };
            Zone {
                name: Name::from(name.as_str()),
                capacity: vector(capacity),
                system: vector(system),
                known: Vector::splat(true),
                is_lost,
            }
        })
}

fn zones() -> impl Strategy<Value = Vec<Zone>> {
    (1..=4_u8).prop_flat_map(|count| {
        (0..count)
            .map(|number| zone(format!("z{number}")))
            .collect::<Vec<_>>()
    })
}

fn label() -> impl Strategy<Value = Name> {
    prop_oneof![Just("a"), Just("b")].prop_map(Name::from)
}

fn labels() -> impl Strategy<Value = BTreeSet<Name>> {
    prop::collection::btree_set(label(), 0..2)
}

/// A pool of a name.
pub fn pool(name: Name) -> impl Strategy<Value = Pool> {
    let limits = (
        0..3_u32,
        3..10_u32,
        prop::option::of(0..3_u32),
        prop::option::of(0.0..50.0_f64),
        prop::option::of(class()),
    );
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    let history = prop::collection::vec(0.0..100.0_f64, 0..40);
    (
        label(),
        prop::option::of(label()),
        labels(),
        zones(),
        limits,
        flags,
        history,
    )
        .prop_map(
            move |(region, residency, compliance, template, limits, flags, history)| Pool {
                name: name.clone(),
                region,
                residency,
                compliance,
                ranges: Vec::new(),
                template,
                headroom: limits.4,
                price: 4.0,
                lead_seconds: 1_209_600,
                minimum: limits.0,
                maximum: limits.1,
                quota: limits.2,
                budget: limits.3,
                is_stopped: flags.0,
                is_shadow: flags.1,
                returns_idle: flags.0,
                is_short: flags.2,
                history: history.into_iter().map(Vector::splat).collect(),
            },
        )
}

/// A cell of one of the pools p0 to p2.
pub fn cell() -> impl Strategy<Value = Cell> {
    let phase = prop_oneof![
        6 => Just(Phase::Active),
        1 => Just(Phase::Building),
        1 => Just(Phase::Cordoned),
        1 => Just(Phase::Draining),
    ];
    let switches = prop::collection::vec(0..LATEST, 0..4);
    (
        0..3_u8,
        phase,
        prop::bool::weighted(0.9),
        -300..LATEST,
        (zones(), prop::option::of(class())),
        labels(),
        switches,
    )
        .prop_map(
            |(pool, phase, is_ready, reported, (zones, headroom), taints, switches)| Cell {
                pool: Name::from(format!("p{pool}")),
                phase,
                is_ready,
                reported,
                fault: None,
                zones,
                headroom,
                taints,
                switches,
                is_kept: false,
            },
        )
}

fn spot() -> impl Strategy<Value = Spot> {
    (0..6_u8, 0..4_u8).prop_map(|(cell, zone)| Spot {
        cell: Name::from(format!("c{cell}")),
        zone,
    })
}

fn place() -> impl Strategy<Value = Place> {
    let journey = (spot(), spot(), 0..LATEST, demand(3_000)).prop_map(|(from, to, until, demand)| {
        let class = Class::Medium;
        Place::Moving(Box::new(Journey {
            from,
            to,
            until,
            class,
            demand,
        }))
    });
    prop_oneof![
        2 => Just(Place::Waiting),
        1 => (spot(), 0..LATEST).prop_map(|(at, until)| Place::Reserved { at, until }),
        5 => spot().prop_map(|at| Place::Running { at }),
        1 => journey,
    ]
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Small), Just(Class::Medium), Just(Class::Large)]
}

fn readings() -> impl Strategy<Value = Option<Readings>> {
    let values = proptest::array::uniform5(prop_oneof![0..12_u32, 0..120_u32]);
    let one = (
        values,
        0..LATEST,
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
    );
    prop::option::of(one.prop_map(|(values, at, is_up, is_emergency)| Readings {
        values,
        at,
        is_up,
        is_emergency,
    }))
}

/// A tenant of a name.
pub fn tenant(name: Name) -> impl Strategy<Value = Tenant> {
    let choice = prop_oneof![
        8 => Just(Choice::Auto),
        1 => class().prop_map(Choice::Pinned),
        1 => Just(Choice::Unknown),
    ];
    let requirement = (label(), prop::option::of(label()), labels(), labels()).prop_map(
        |(region, residency, compliance, tolerations)| Requirement {
            region,
            residency,
            compliance,
            tolerations,
            ranges: Vec::new(),
        },
    );
    let band = prop_oneof![Just(Band::Within), Just(Band::Above), Just(Band::Below)];
    let times = (0..LATEST, 0..LATEST, 0..LATEST, any::<bool>());
    let what = (
        demand(4_000),
        requirement,
        prop::bool::weighted(0.8),
        class(),
        choice,
    );
    (what, label(), place(), readings(), band, times).prop_map(
        move |((demand, requirement, is_redundant, class, choice), account, place, readings, band, times)| {
            Tenant {
                name: name.clone(),
                account,
                demand,
                requirement: Arc::new(requirement),
                availability: if is_redundant {
                    Availability::ZoneRedundant
                } else {
                    Availability::Single
                },
                class,
                choice,
                asked: times.0,
                place,
                readings,
                watch: Watch { band, since: times.1 },
                changed: times.2,
                went_down: times.3,
            }
        },
    )
}

fn named<T: std::fmt::Debug>(
    letter: char,
    range: std::ops::Range<usize>,
    one: impl Fn(Name) -> BoxedStrategy<T> + 'static,
) -> impl Strategy<Value = Vec<(Name, T)>> {
    range.prop_flat_map(move |count| {
        let names = (0..count).map(|number| Name::from(format!("{letter}{number}")));
        names
            .map(|name| (Just(name.clone()), one(name)))
            .collect::<Vec<_>>()
    })
}

/// A fleet of up to six cells and forty tenants.
pub fn input() -> impl Strategy<Value = Input> {
    fleet(40)
}

/// A fleet of up to three tenants, of which a few steps of time meet most boundaries.
pub fn few() -> impl Strategy<Value = Input> {
    fleet(4)
}

fn fleet(tenants: usize) -> impl Strategy<Value = Input> {
    let policy =
        (0.0..3.0_f64, 0.0..0.5_f64, 1..8_u32, 0..4_u32).prop_map(|(z, rho, account_limit, move_budget)| {
            Policy {
                z,
                rho,
                account_limit,
                move_budget,
                ..Policy::default()
            }
        });
    let pools = named('p', 3..4, |name| pool(name).boxed());
    let cells = named('c', 0..7, |_| cell().boxed());
    let tenants = named('t', 0..tenants, |name| tenant(name).boxed());
    (0..LATEST, policy, pools, cells, tenants).prop_map(|(now, policy, pools, cells, tenants)| Input {
        now,
        policy,
        classes: classes(),
        pools: pools.into_iter().collect::<BTreeMap<_, _>>(),
        cells: cells.into_iter().collect(),
        tenants: tenants.into_iter().map(|(_, tenant)| tenant).collect(),
    })
}

/// A change, at a time that may be earlier than the last.
pub fn delta() -> impl Strategy<Value = (Seconds, Delta)> {
    let name =
        |letter: char, count: u8| (0..count).prop_map(move |number| Name::from(format!("{letter}{number}")));
    let delta = prop_oneof![
        1 => Just(Delta::Clock),
        5 => name('t', 50).prop_flat_map(tenant).prop_map(|tenant| Delta::Tenant(Box::new(tenant))),
        2 => name('t', 50).prop_map(Delta::TenantGone),
        2 => (name('c', 7), cell()).prop_map(|(name, cell)| Delta::Cell(name, Box::new(cell))),
        1 => name('c', 7).prop_map(Delta::CellGone),
        1 => name('p', 3).prop_flat_map(pool).prop_map(|pool| Delta::Pool(Box::new(pool))),
    ];
    (0..LATEST, delta)
}

/// What comes next.
#[derive(Debug, Clone)]
pub enum Step {
    /// A change.
    Change(Seconds, Delta),
    /// Time alone passes.
    Pass(moments::Moment),
}

/// A change, or time alone.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => delta().prop_map(|(at, delta)| Step::Change(at, delta)),
        2 => moments::moment().prop_map(Step::Pass),
    ]
}
