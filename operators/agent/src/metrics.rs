//! The agent's own metrics, in Prometheus' default registry.

use std::sync::LazyLock;

use prometheus::{GaugeVec, IntCounter, IntGauge, Opts};
use skep_api::cell::ZoneCapacity;
use skep_core::quantity::amount;
use skep_runtime::metrics::registered;

/// Control planes of this cell that no record asks for.
pub static ORPHANS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "skep_agent_orphans",
        "Control planes of this cell that no record asks for",
    )
});

/// 1 while pulls from the hub succeed.
pub static HUB_REACHABLE: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("skep_agent_hub_reachable", "1 while pulls from the hub succeed"));

/// When the certificate for the hub ends, in seconds since 1970.
pub static CERTIFICATE_END: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "skep_agent_certificate_end_seconds",
        "When the certificate for the hub ends, in seconds since 1970",
    )
});

/// Check-ins that the hub took.
pub static CHECK_INS: LazyLock<IntCounter> = LazyLock::new(|| {
    registered(IntCounter::new(
        "skep_agent_check_ins_total",
        "Check-ins that the hub took",
    ))
});

static CAPACITY: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "What a zone of the cell has (allocatable), and what of it the cell itself (system) and tenants (committed) \
                asked for; cores, bytes and counts";
    let labels = ["zone", "resource", "share"];
    registered(GaugeVec::new(Opts::new("skep_cell_capacity", help), &labels))
});

/// Tells what each zone has and what is taken of it.
pub fn tell_capacity(zones: &[ZoneCapacity]) {
    CAPACITY.reset();
    for zone in zones {
        let shares = [
            ("allocatable", &zone.allocatable),
            ("system", &zone.system),
            ("committed", &zone.committed),
        ];
        for (share, quantities) in shares {
            for (resource, quantity) in quantities {
                let value = amount(quantity).unwrap_or(0.0);
                CAPACITY
                    .with_label_values(&[&zone.name, resource, share])
                    .set(value);
            }
        }
    }
}

fn gauge(name: &str, help: &str) -> IntGauge {
    registered(IntGauge::new(name, help))
}
