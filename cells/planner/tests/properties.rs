//! What holds for every fleet, seed and sequence of changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use skep_planner::model::{
    Availability, Cell, Class, Input, Name, Place, Pool, Readings, Seconds, Tenant, Zone,
};
use skep_planner::pack::{least, pack};
use skep_planner::{Delta, Plan, Policy, Resource, Room, State, Vector, plan};

fn real(milli: u64) -> f64 {
    f64::from(u32::try_from(milli).unwrap()) / 1000.0
}

/// Every cell that is over what it may hold with some zone lost, reckoned anew from the tenants alone.
fn overfull(state: &State) -> BTreeMap<Name, String> {
    let input = state.to_input();
    let mut faults = BTreeMap::new();
    for (name, cell) in &input.cells {
        let kept = cell.headroom.map(|class| input.classes.get(class).prior.mean);
        let lost: Vec<usize> = (0..cell.zones.len())
            .filter(|zone| cell.zones[*zone].is_lost)
            .collect();
        // Where a zone is lost already, that is the loss; else each in turn.
        let losses: Vec<BTreeSet<usize>> = match (lost.is_empty(), cell.zones.len()) {
            (false, _) => vec![lost.into_iter().collect()],
            (true, 1) => vec![BTreeSet::new()],
            (true, zones) => (0..zones).map(|zone| BTreeSet::from([zone])).collect(),
        };
        for loss in losses {
            let left = cell.zones.len() - loss.len();
            for (position, zone) in cell
                .zones
                .iter()
                .enumerate()
                .filter(|(zone, _)| !loss.contains(zone))
            {
                let share = 1.0 / real(1000 * u64::try_from(left).unwrap());
                for r in Resource::ALL {
                    let (mut mean, mut deviation, mut variance) = (0.0, 0.0, 0.0);
                    for tenant in &input.tenants {
                        for claim in tenant.claims().filter(|claim| claim.spot.cell == *name) {
                            let is_here = usize::from(claim.spot.zone) == position;
                            let is_nowhere = usize::from(claim.spot.zone) >= cell.zones.len();
                            let part = match tenant.availability {
                                Availability::Single if is_here => 1.0,
                                Availability::Single if !is_nowhere => 0.0,
                                Availability::Single | Availability::ZoneRedundant => share,
                            };
                            let sigma = part * real(claim.demand.deviation[r].into());
                            mean += part * real(claim.demand.mean[r].into());
                            deviation += sigma;
                            variance += sigma * sigma;
                        }
                    }
                    let policy = &input.policy;
                    let spread = variance + policy.rho * (deviation * deviation - variance);
                    let load = mean + policy.z * spread.max(0.0).sqrt();
                    let room = share * kept.map_or(0.0, |kept| real(kept[r].into()));
                    let taken = load + real(zone.system[r]) + room;
                    let most = policy.kappa * real(zone.capacity[r]);
                    if load > 1e-9 && taken > most + 1e-6 {
                        faults.insert(name.clone(), format!("{r} in {}: {taken} of {most}", zone.name));
                    }
                }
            }
        }
    }
    faults
}

/// The fewest cells like an empty one that hold the tenants, by trying every way to share them out.
fn fewest(empty: &Room, policy: &Policy, tenants: &[Tenant], cells: &mut Vec<Room>) -> usize {
    let Some((tenant, others)) = tenants.split_first() else {
        return cells.len();
    };
    let mut best = usize::MAX;
    for position in 0..=cells.len() {
        let before = cells.get(position).unwrap_or(empty).clone();
        // A tenant in one zone may be in any of the three.
        let zones = match tenant.availability {
            Availability::ZoneRedundant => 0..1,
            Availability::Single => 0..3,
        };
        for zone in zones {
            let mut after = before.clone();
            after.take(&tenant.demand, tenant.availability, zone);
            let is_possible = match tenant.availability {
                Availability::ZoneRedundant => {
                    before.fit(policy, &tenant.demand, tenant.availability).is_room()
                }
                Availability::Single => after.fill(policy).is_room(),
            };
            if !is_possible {
                continue;
            }
            if position == cells.len() {
                cells.push(after);
                best = best.min(fewest(empty, policy, others, cells));
                cells.pop();
            } else {
                cells[position] = after;
                best = best.min(fewest(empty, policy, others, cells));
                cells[position] = before.clone();
            }
        }
    }
    best
}

fn carry_out(state: &mut State, plan: &Plan) {
    let now = state.now();
    let deltas = plan.deltas(state);
    for delta in deltas {
        state.take(now, delta);
    }
}

/// Cells that the plan put something into.
fn filled(plan: &Plan) -> BTreeSet<Name> {
    let placed = plan.placements.iter().map(|placement| &placement.cell);
    let moved = plan.moves.iter().map(|step| &step.to);
    let raised = plan
        .switches
        .iter()
        .filter(|switch| switch.to > switch.from)
        .map(|switch| &switch.cell);
    placed.chain(moved).chain(raised).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_put_where_it_is_too_much_with_any_zone_lost(input in world::input(), seed: u64) {
        let mut state = State::new(input);
        let (plan, _) = state.plan(seed);
        carry_out(&mut state, &plan);
        let faults = overfull(&state);
        for cell in filled(&plan) {
            prop_assert!(!faults.contains_key(&cell), "{cell}: {:?}", faults[&cell]);
        }
    }

    #[test]
    fn no_reservation_is_lost_or_given_twice(input in world::input(), seed: u64) {
        let mut state = State::new(input.clone());
        let (plan, _) = state.plan(seed);
        carry_out(&mut state, &plan);
        prop_assert_eq!(state.len(), input.tenants.len());
        let placed: BTreeSet<&Name> = plan.placements.iter().map(|placement| &placement.tenant).collect();
        prop_assert_eq!(placed.len(), plan.placements.len());
        let moved: BTreeSet<&Name> = plan.moves.iter().map(|step| &step.tenant).collect();
        prop_assert_eq!(moved.len(), plan.moves.len());
        for before in &input.tenants {
            let after = &state.tenant(&before.name).unwrap().place;
            let is_over = before.place.until().is_some_and(|until| until <= input.now);
            match &before.place {
                Place::Waiting => {}
                Place::Reserved { .. } if is_over => {
                    let is_anew = matches!(after, Place::Reserved { .. } | Place::Waiting);
                    prop_assert!(is_anew);
                }
                Place::Moving(journey) if is_over => prop_assert_eq!(after.home(), Some(&journey.from)),
                Place::Running { at } => prop_assert_eq!(after.home(), Some(at)),
                kept => prop_assert_eq!(kept, after),
            }
        }
    }

    #[test]
    fn data_never_leaves_its_jurisdiction_nor_its_compliance(input in world::input(), seed: u64) {
        let state = State::new(input);
        let (plan, _) = state.plan(seed);
        let placed = plan.placements.iter().map(|placement| (&placement.tenant, &placement.cell));
        for (tenant, cell) in placed.chain(plan.moves.iter().map(|step| (&step.tenant, &step.to))) {
            let requirement = &state.tenant(tenant).unwrap().requirement;
            let pool = state.pool(&state.cell(cell).unwrap().pool).unwrap();
            prop_assert_eq!(&pool.region, &requirement.region);
            prop_assert!(requirement.residency.is_none() || requirement.residency == pool.residency);
            prop_assert!(requirement.compliance.is_subset(&pool.compliance));
        }
    }

    #[test]
    fn change_by_change_and_from_scratch_the_plan_is_the_same(
        input in prop_oneof![world::input(), world::few()], steps in prop::collection::vec(world::step(), 1..36), seed: u64,
    ) {
        let mut state = State::new(input);
        for step in steps {
            let (at, delta) = match step {
                world::Step::Change(at, delta) => (at, delta),
                world::Step::Pass(moment) => (moment.at(&state), Delta::Clock),
            };
            let by_change = state.apply(at, delta, seed);
            let from_scratch = plan(state.to_input(), seed);
            prop_assert_eq!(&by_change, &from_scratch);
            carry_out(&mut state, &by_change.0);
        }
    }

    #[test]
    fn no_packing_takes_fewer_cells_than_the_least(
        pool in world::pool("p0".into()), capacity in 10_000..40_000_u64, z in 0.0..3.0_f64, rho in 0.0..1.0_f64,
        tenants in prop::collection::vec((world::tenant("t".into()), world::demand(12_000)), 1..7),
    ) {
        let policy = Policy { z, rho, ..Policy::default() };
        let mut zones = Vec::new();
        for name in ["a", "b", "c"] {
            let (system, known) = (Vector::splat(0), Vector::splat(true));
            zones.push(Zone { name: name.into(), capacity: Vector::splat(capacity), system, known, is_lost: false });
        }
        let pool = Pool { template: zones, ..pool };
        let empty = Room::new(&Cell::from_template(&pool), &world::classes(), &policy);
        let mut fleet: Vec<Tenant> = tenants.into_iter().map(|(tenant, demand)| Tenant { demand, ..tenant }).collect();
        fleet.retain(|tenant| empty.fit(&policy, &tenant.demand, tenant.availability).is_room());
        let least = least(&pool, &world::classes(), &policy, &fleet);
        let packed = pack(&pool, &world::classes(), &policy, &fleet);
        let fewest = u32::try_from(fewest(&empty, &policy, &fleet, &mut Vec::new())).unwrap();
        prop_assert!(least <= fewest && fewest <= packed, "{least} {fewest} {packed}");
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_in_whatever_order_the_input_is(
        input in world::input(), seed: u64, turn in any::<prop::sample::Index>(),
    ) {
        let mut turned: Input = input.clone();
        turned.tenants.reverse();
        if !turned.tenants.is_empty() {
            let by = turn.index(turned.tenants.len());
            turned.tenants.rotate_left(by);
        }
        prop_assert_eq!(plan(input.clone(), seed), plan(input, seed));
        prop_assert_eq!(State::new(turned.clone()).plan(seed), plan(turned, seed));
    }

    #[test]
    fn the_order_of_tenants_changes_nothing(input in world::input(), seed: u64) {
        let mut turned: Input = input.clone();
        turned.tenants.reverse();
        prop_assert_eq!(plan(input, seed), plan(turned, seed));
    }

    #[test]
    fn no_class_is_changed_back_within_its_cooldown_however_noisy_the_signals(
        first in world::tenant("t".into()), cell in world::cell(),
        noise in prop::collection::vec((1..900_i64, proptest::array::uniform5(0..130_u32)), 1..200),
    ) {
        use skep_planner::model::{Choice, Phase, Spot};
        let policy = skep_planner::Policy::default();
        let cell = skep_planner::model::Cell { phase: Phase::Active, pool: "p0".into(), ..cell };
        let tenant = Tenant {
            choice: Choice::Auto,
            place: Place::Running { at: Spot { cell: "c0".into(), zone: 0 } },
            changed: Seconds::MIN / 2,
            ..first
        };
        let mut state = State::new(Input {
            now: 0, policy, classes: world::classes(), pools: BTreeMap::new(),
            cells: BTreeMap::from([("c0".into(), cell)]), tenants: vec![tenant],
        });
        let mut now = 0;
        let mut changes: Vec<(Seconds, Class, Class)> = Vec::new();
        for (pause, values) in noise {
            now += pause;
            let mut tenant = state.tenant("t").unwrap().clone();
            tenant.readings = Some(Readings { values, at: now, is_up: true, is_emergency: false });
            let (plan, _) = state.apply(now, Delta::Tenant(Box::new(tenant)), 0);
            changes.extend(plan.switches.iter().map(|switch| (now, switch.from, switch.to)));
            carry_out(&mut state, &plan);
        }
        for pair in changes.windows(2) {
            let [(before, from, to), (after, _, again)] = pair else { continue };
            let is_undone = (to > from) != (again > to);
            prop_assert!(!is_undone || after - before >= policy.cooldown_seconds, "{changes:?}");
        }
    }
}
