//! The agent's own metrics, in Prometheus' default registry.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntGauge};

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

fn gauge(name: &str, help: &str) -> IntGauge {
    registered(IntGauge::new(name, help))
}

#[expect(clippy::expect_used, reason = "names are constants of this file")]
fn registered<C: prometheus::core::Collector + Clone + 'static>(collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("metric names of this crate are valid");
    prometheus::default_registry()
        .register(Box::new(collector.clone()))
        .expect("metric names of this crate are registered once");
    collector
}
