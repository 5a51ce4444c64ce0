//! How pools are doing, in Prometheus' default registry; what each cell has is its agent's metric.

use std::sync::LazyLock;

use prometheus::{IntGaugeVec, Opts};
use skep_runtime::metrics::registered;

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
