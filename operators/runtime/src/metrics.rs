//! The metrics that every controller has, in Prometheus' default registry.
//!
//! Labels are bounded: controller, outcome, category. An object's name is never a label.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, histogram_opts, opts};

/// Time of one reconcile in seconds, by controller and outcome.
pub static RECONCILE_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options = histogram_opts!(
        "skep_reconcile_duration_seconds",
        "Time of one reconcile",
        vec![
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0
        ]
    );
    registered(HistogramVec::new(options, &["controller", "outcome"]))
});

/// Failed reconciles, by controller and the error's category.
pub static RECONCILE_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!("skep_reconcile_errors_total", "Failed reconciles");
    registered(IntCounterVec::new(options, &["controller", "category"]))
});

/// Reconciles that run now, by controller.
pub static RECONCILES_RUNNING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let options = opts!("skep_reconciles_running", "Reconciles that run now");
    registered(IntGaugeVec::new(options, &["controller"]))
});

/// Objects whose last reconcile failed and that wait for a retry, by controller.
pub static OBJECTS_FAILING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let options = opts!("skep_objects_failing", "Objects whose last reconcile failed");
    registered(IntGaugeVec::new(options, &["controller"]))
});

/// Errors of watches, by controller and kind; a watch is started again after each.
pub static WATCH_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!("skep_watch_errors_total", "Errors of watches");
    registered(IntCounterVec::new(options, &["controller", "kind"]))
});

/// 1 while this process leads, by lease.
pub static LEADING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let options = opts!("skep_leader", "1 while this process holds the lease");
    registered(IntGaugeVec::new(options, &["lease"]))
});

/// The default registry's metrics in Prometheus' text format.
///
/// # Errors
/// When two collectors disagree about one metric.
pub fn text() -> prometheus::Result<String> {
    prometheus::TextEncoder::new().encode_to_string(&prometheus::gather())
}

/// Puts a metric into the default registry, once in the life of the process.
///
/// # Panics
/// When its name or a label is not valid, or another metric has the name: both are constants of the code.
#[expect(clippy::expect_used, reason = "names and labels are constants of the code")]
pub fn registered<C: prometheus::core::Collector + Clone + 'static>(collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("metric names and labels are valid");
    prometheus::default_registry()
        .register(Box::new(collector.clone()))
        .expect("metric names are registered once");
    collector
}
