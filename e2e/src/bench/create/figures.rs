//! What was measured as figures, with the bounds that the specification sets.

use super::at_once::AtOnce;
use super::cell::Memory;
use super::rounds::Rounds;
use super::{Bench, Operators};
use crate::bench::load::Quiet;
use crate::bench::memory::mebibytes;
use crate::bench::{Bound, Figure, Report, Spread};

/// One cluster by the time by hand: what must hold, and what is aimed at.
const ONE: (f64, f64) = (3.0, 2.0);
/// The last of many at once by the time of one by hand: what must hold, and what is aimed at.
const LAST: (f64, f64) = (25.0, 12.0);
/// The median of many at once by the time of one by hand: what is aimed at.
const MEDIAN: f64 = 7.0;
/// An idle tenant's memory by that of the same programs by hand: what is aimed at.
const MEMORY: f64 = 1.05;
/// The operators' Deployments together beside many tenants, in MiB: what must hold.
const OPERATORS: f64 = 80.0;

/// Adds every figure.
pub fn add(report: &mut Report, bench: &Bench, empty: &Operators, rounds: &Rounds, at_once: Option<&AtOnce>) {
    let load = Figure::new("load before a round, highest", bench.quiet.highest(), "cores");
    report.add(load.held_to(Bound::Gate(Quiet::bound())));
    let Some(by_hand) = Spread::of(&rounds.by_hand) else {
        return;
    };
    report.add(Figure::of("etcd and kube-apiserver by hand", by_hand, "s"));
    add_one(report, rounds, by_hand.median);
    if let Some(at_once) = at_once {
        add_at_once(report, at_once, by_hand.median);
    }
    add_tenant_memory(report, rounds, at_once);
    add_operators(report, 0, std::slice::from_ref(empty));
    add_operators(report, 1, &rounds.operators);
    if let Some(at_once) = at_once {
        add_operators(report, at_once.asked, std::slice::from_ref(&at_once.operators));
    }
}

fn add_one(report: &mut Report, rounds: &Rounds, by_hand: f64) {
    let of = |seconds: fn(&super::user::Creation) -> f64| {
        Spread::of(&rounds.created.iter().map(seconds).collect::<Vec<_>>())
    };
    if let Some(spread) = of(|created| created.answered.as_secs_f64()) {
        let figure = Figure::of("one cluster, POST to its namespaces", spread, "s").against(by_hand);
        report.add(figure.clone().held_to(Bound::Gate(ONE.0)));
        report.add(figure.held_to(Bound::Goal(ONE.1)));
    }
    if let Some(spread) = of(|created| created.accepted.as_secs_f64()) {
        report.add(Figure::of("one cluster, until it is accepted", spread, "s"));
    }
    if let Some(spread) = of(|created| created.certified.as_secs_f64()) {
        report.add(Figure::of("one cluster, until the certificate", spread, "s"));
    }
}

fn add_at_once(report: &mut Report, at_once: &AtOnce, by_hand: f64) {
    let AtOnce {
        asked,
        seconds,
        unready,
        restarts,
        ..
    } = at_once;
    // Clusters of one run, far below where the conversion loses any.
    #[allow(clippy::cast_precision_loss)]
    let unready = *unready as f64;
    let name = |what: &str| format!("{asked} clusters at once, {what}");
    report.add(Figure::new(name("not ready"), unready, "clusters").held_to(Bound::Gate(0.0)));
    let restarts = Figure::new(name("container restarts"), f64::from(*restarts), "restarts");
    report.add(restarts.held_to(Bound::Gate(0.0)));
    let Some(spread) = Spread::of(seconds) else {
        return;
    };
    let last = Figure::new(name("last"), spread.max, "s").against(by_hand);
    report.add(last.clone().held_to(Bound::Gate(LAST.0)));
    report.add(last.held_to(Bound::Goal(LAST.1)));
    let median = Figure::of(name("median"), spread, "s").against(by_hand);
    report.add(median.held_to(Bound::Goal(MEDIAN)));
}

fn add_tenant_memory(report: &mut Report, rounds: &Rounds, at_once: Option<&AtOnce>) {
    let total = |all: &[Memory]| spread_of(all, Memory::total);
    if let (Some(tenant), Some(by_hand)) = (total(&rounds.memory), total(&rounds.memory_by_hand)) {
        report.add(Figure::of("programs by hand, memory", by_hand, "MiB"));
        let figure = Figure::of("an idle tenant, memory", tenant, "MiB").against(by_hand.median);
        report.add(figure.held_to(Bound::Goal(MEMORY)));
    }
    let names = rounds.memory.first().map(|memory| memory.containers.keys());
    for name in names.into_iter().flatten() {
        let of = |memory: &Memory| memory.containers.get(name).copied().unwrap_or_default();
        let by_hand = spread_of(&rounds.memory_by_hand, of);
        if let (Some(tenant), Some(by_hand)) = (spread_of(&rounds.memory, of), by_hand) {
            let figure = Figure::of(format!("an idle tenant, {name}"), tenant, "MiB");
            report.add(figure.against(by_hand.median));
        }
    }
    if let Some(spread) = spread_of(&rounds.memory, |memory| memory.beside) {
        report.add(Figure::of("an idle tenant, sandboxes and shims", spread, "MiB"));
    }
    if let Some(at_once) = at_once
        && let Some(spread) = total(&at_once.memory)
    {
        let name = format!("a tenant of {}, memory", at_once.asked);
        report.add(Figure::of(name, spread, "MiB"));
    }
}

fn spread_of<T>(all: &[T], bytes: impl Fn(&T) -> u64) -> Option<Spread> {
    Spread::of(&all.iter().map(|one| mebibytes(bytes(one))).collect::<Vec<_>>())
}

/// Adds the platform's own memory beside so many tenants; many of them set the bound.
fn add_operators(report: &mut Report, tenants: usize, all: &[Operators]) {
    let Some(first) = all.first() else { return };
    let total = spread_of(all, |operators| operators.deployments.values().sum());
    if let Some(total) = total {
        let figure = Figure::of(format!("operators at {tenants} tenants"), total, "MiB");
        report.add(if tenants > 1 {
            figure.held_to(Bound::Gate(OPERATORS))
        } else {
            figure
        });
    }
    let parts = first.deployments.keys().chain(first.others.keys());
    for name in parts {
        let bytes = |operators: &Operators| {
            let found = operators
                .deployments
                .get(name)
                .or_else(|| operators.others.get(name));
            found.copied().unwrap_or_default()
        };
        if let Some(spread) = spread_of(all, bytes) {
            report.add(Figure::of(format!("{name} at {tenants} tenants"), spread, "MiB"));
        }
    }
}
