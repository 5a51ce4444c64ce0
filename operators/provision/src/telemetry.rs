//! What is said of each request: one log line, bounded metrics, and a trace that its objects carry on.
//!
//! Neither headers nor bodies are logged; paths are, queries are not.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, histogram_opts, opts};
use skep_runtime::metrics::registered;
use tokio::time::Instant;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!("skep_provision_requests_total", "Requests answered");
    registered(IntCounterVec::new(options, &["route", "method", "code"]))
});

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets = vec![
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ];
    let options = histogram_opts!(
        "skep_provision_request_duration_seconds",
        "Time until the answer begins",
        buckets
    );
    registered(HistogramVec::new(options, &["route", "method"]))
});

/// Event streams that are open now.
pub(crate) static STREAMS: LazyLock<IntGauge> = LazyLock::new(|| {
    registered(IntGauge::new(
        "skep_provision_event_streams",
        "Event streams that are open",
    ))
});

/// What is known of the request that is being served.
#[derive(Debug, Clone)]
pub struct RequestContext {
    traceparent: Arc<str>,
    caller: Arc<OnceLock<String>>,
}

impl RequestContext {
    /// Takes on the trace of a request, or begins one.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
        let traceparent = match given.filter(|text| is_traceparent(text)) {
            Some(text) => text.to_owned(),
            None => new_traceparent(&rand::random()),
        };
        Self {
            traceparent: traceparent.into(),
            caller: Arc::default(),
        }
    }

    /// The W3C trace context that objects of this request carry.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// Says who asks; the first word counts.
    pub(crate) fn identify(&self, name: String) {
        let _ = self.caller.set(name);
    }
}

/// Whether a text is a W3C `traceparent` of version 00 (W3C Trace Context, section 3.2).
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    };
    let is_set = |part: &str| part.bytes().any(|c| c != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, span, flags] => {
            is_hex(trace, 32) && is_set(trace) && is_hex(span, 16) && is_set(span) && is_hex(flags, 2)
        }
        _ => false,
    }
}

fn new_traceparent(chance: &[u8; 24]) -> String {
    let mut text = String::from("00-");
    for (place, byte) in chance.iter().enumerate() {
        if place == 16 {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text + "-01"
}

/// Wraps every request: context before, log line and metrics after.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let context = RequestContext::of(request.headers());
    request.extensions_mut().insert(context.clone());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned();
    let method = method_label(request.method());
    let path = request.uri().path().chars().take(300).collect::<String>();
    let began = Instant::now();
    let response = next.run(request).await;
    record(&route, method, response.status(), began.elapsed());
    let caller = context.caller.get().map_or("-", String::as_str);
    let status = response.status().as_u16();
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let trace = context.traceparent();
    if matches!(route.as_str(), "/healthz" | "/readyz" | "/metrics") {
        tracing::debug!(method, path, status, milliseconds, "request");
    } else {
        tracing::info!(method, path, status, milliseconds, caller, trace, "request");
    }
    response
}

fn record(route: &str, method: &'static str, status: StatusCode, time: Duration) {
    REQUESTS
        .with_label_values(&[route, method, status.as_str()])
        .inc();
    DURATION
        .with_label_values(&[route, method])
        .observe(time.as_secs_f64());
}

/// A method as a label; clients may invent any number of others.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_on_or_begun() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(parent));
        assert!(is_traceparent(&new_traceparent(&[7; 24])));
        for bad in [
            "",
            "00-x",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            &parent.to_uppercase(),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        assert!(!is_traceparent(
            "00-00000000000000000000000000000000-b7ad6b7169203331-01"
        ));
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), parent.parse().unwrap())]);
        assert_eq!(RequestContext::of(&headers).traceparent(), parent);
    }
}
