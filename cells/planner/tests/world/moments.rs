//! Times at which time alone may make another plan, and the seconds beside them. The fuzzing soak draws from them too.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use skep_planner::State;
use skep_planner::model::Seconds;

/// Durations of the default policy, and the seconds beside them.
const DURATIONS: [Seconds; 21] = [
    0, 1, 29, 30, 31, 179, 180, 181, 299, 300, 301, 599, 600, 601, 1199, 1200, 1201, 3599, 3600, 3601, 86_400,
];

/// A time that is not before the last.
#[derive(Debug, Clone)]
pub enum Moment {
    /// So many seconds later.
    Later(Seconds),
    /// One of the next boundaries.
    Next(usize),
    /// Any boundary to come.
    Boundary(Index),
}

/// A moment, mostly at a boundary.
pub fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        2 => select(&DURATIONS[..]).prop_map(Moment::Later),
        1 => (0..20_000_i64).prop_map(Moment::Later),
        4 => (0..6_usize).prop_map(Moment::Next),
        2 => any::<Index>().prop_map(Moment::Boundary),
    ]
}

impl Moment {
    /// When it is, for what is known now.
    pub fn at(&self, state: &State) -> Seconds {
        let boundary = match self {
            Self::Later(seconds) => return state.now().saturating_add(*seconds),
            Self::Next(position) => boundaries(state).into_iter().nth(*position),
            Self::Boundary(index) => {
                let all = boundaries(state);
                let position = (!all.is_empty()).then(|| index.index(all.len()));
                position.and_then(|position| all.into_iter().nth(position))
            }
        };
        boundary.unwrap_or_else(|| state.now())
    }
}

/// The boundaries to come, the first first, each with the second before it and the one after it.
fn boundaries(state: &State) -> BTreeSet<Seconds> {
    let policy = state.policy();
    let mut times = Vec::new();
    for tenant in state.tenants() {
        if let Some(readings) = tenant.readings {
            times.push(readings.at.saturating_sub(policy.signal_seconds));
            times.push(readings.at.saturating_add(policy.signal_seconds));
        }
        times.push(tenant.watch.since.saturating_add(policy.up_seconds));
        times.push(tenant.watch.since.saturating_add(policy.down_seconds));
        times.push(tenant.changed.saturating_add(policy.cooldown_seconds));
        times.push(tenant.asked.saturating_add(policy.new_seconds));
        times.extend(tenant.place.until());
    }
    for (_, cell, _) in state.cells() {
        times.push(cell.reported.saturating_sub(policy.report_seconds));
        times.push(cell.reported.saturating_add(policy.report_seconds));
        let moved_on = |at: &Seconds| at.saturating_add(policy.switch_window_seconds);
        times.extend(cell.switches.iter().map(moved_on));
    }
    let beside = |at: Seconds| [at.saturating_sub(1), at, at.saturating_add(1)];
    times
        .into_iter()
        .flat_map(beside)
        .filter(|at| *at >= state.now())
        .collect()
}
