//! What the gateway's control plane counts; no host name is ever a label.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGauge, opts};
use skep_runtime::metrics::registered;

/// Envoys' answers to responses, by kind of resource and answer (`ack` or `nack`).
pub static ANSWERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!("skep_gateway_xds_answers_total", "Answers of Envoys to responses");
    registered(IntCounterVec::new(options, &["kind", "answer"]))
});

/// Streams that are open.
pub static STREAMS: LazyLock<IntGauge> = LazyLock::new(|| {
    registered(IntGauge::new(
        "skep_gateway_xds_streams",
        "Streams of Envoys that are open",
    ))
});

/// Control planes that have a route.
pub static ROUTES: LazyLock<IntGauge> = LazyLock::new(|| {
    registered(IntGauge::new(
        "skep_gateway_routes",
        "Control planes that have a route",
    ))
});

/// Connections whose TLS handshake failed.
pub static HANDSHAKES_FAILED: LazyLock<prometheus::IntCounter> = LazyLock::new(|| {
    let counter = prometheus::IntCounter::new(
        "skep_gateway_xds_handshakes_failed_total",
        "Connections to the xDS server whose TLS handshake failed",
    );
    registered(counter)
});
