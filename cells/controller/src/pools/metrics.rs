//! How pools are doing, in Prometheus' default registry; what each cell has is its agent's metric.

use std::sync::LazyLock;

use prometheus::{IntGaugeVec, Opts};

use super::status::Outlook;

static POOLS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "Pools of cells by what their condition Sufficient says: AsDesired, Filling, Short, or what forbids another cell";
    registered(IntGaugeVec::new(Opts::new("skep_cell_pools", help), &["reason"]))
});

/// Tells how many pools there are of each state.
pub(super) fn tell<'a>(outlooks: impl Iterator<Item = &'a Outlook>) {
    POOLS.reset();
    for outlook in outlooks {
        POOLS.with_label_values(&[outlook.reason().as_str()]).inc();
    }
}

#[expect(clippy::expect_used, reason = "names are constants of this file")]
fn registered<C: prometheus::core::Collector + Clone + 'static>(collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("metric names of this crate are valid");
    prometheus::default_registry()
        .register(Box::new(collector.clone()))
        .expect("metric names of this crate are registered once");
    collector
}
