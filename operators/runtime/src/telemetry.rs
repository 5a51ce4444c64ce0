//! Logs to standard error, traces by OTLP where an endpoint is given, and the W3C trace context that
//! travels in an annotation.
//!
//! Secrets never reach either: fields are structured, and types that hold keys redact their `Debug`.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The annotation that carries the trace of a request from object to object.
pub const TRACEPARENT_ANNOTATION: &str = "skep.dev/traceparent";
/// The variable that turns trace export on; see OpenTelemetry's OTLP exporter specification.
pub const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The variable that overrides the verbosity, in the syntax of `tracing_subscriber::EnvFilter`.
pub const FILTER_VARIABLE: &str = "SKEP_LOG";

const TRACEPARENT: &str = "traceparent";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    #[default]
    Json,
    /// For people at a terminal.
    Text,
}

/// Telemetry that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the environment is not understood.
    #[error("{FILTER_VARIABLE} is not a valid filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The exporter cannot be built.
    #[error("cannot build the OTLP exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// A subscriber is installed already.
    #[error("telemetry is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter; dropping it sends what is left.
#[derive(Debug)]
#[must_use = "spans are exported only while the guard lives"]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::debug!(%error, "spans were lost at the end");
        }
    }
}

/// Installs logging, and the export of traces when [`ENDPOINT_VARIABLE`] is set. Call once, within the
/// tokio runtime.
///
/// `verbosity` counts `-v` flags: 0 is info, 1 debug of our own crates, 2 debug of all, 3 and more trace.
pub fn init(component: &str, verbosity: u8, format: LogFormat) -> Result<TelemetryGuard, TelemetryError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text).map_err(TelemetryError::Filter)?,
        _ => EnvFilter::new(directives(verbosity)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.with_target(false).boxed(),
    };
    let provider = exporter(component)?;
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("skep")));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(traces)
        .try_init()
        .map_err(TelemetryError::Twice)?;
    Ok(TelemetryGuard { provider })
}

fn directives(verbosity: u8) -> &'static str {
    match verbosity {
        // kube opens a span for each reconcile, as we do; its client logs each error that it also returns.
        0 => "info,kube=warn,kube_client::client::builder=off",
        1 => {
            "info,skep=debug,skep_runtime=debug,skep_control_plane=debug,skep_etcd=debug,skep_gateway=debug,\
              skep_fleet=debug,skep_agent=debug,skep_provision=debug,skep_cells=debug,skep_provider=debug"
        }
        2 => "debug,h2=info,hyper=info,rustls=info,tower=info",
        _ => "trace",
    }
}

fn exporter(component: &str) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    if std::env::var_os(ENDPOINT_VARIABLE).is_none_or(|endpoint| endpoint.is_empty()) {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()
        .map_err(TelemetryError::Exporter)?;
    let resource = Resource::builder()
        .with_service_name(format!("skep-{component}"))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// The current span as a `traceparent`, or nothing while no trace is recorded.
pub fn current_traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// A span as a `traceparent`, or nothing while no trace is recorded.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of the trace in `traceparent`; a text that is none is ignored.
pub fn set_parent(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid()
        && let Err(error) = span.set_parent(context)
    {
        tracing::trace!(%error, "no trace is recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn trace_travels_through_the_text() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("reconcile");
            set_parent(&span, PARENT);
            let text = traceparent_of(&span).unwrap();
            assert!(text.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{text}");
            assert_ne!(text, PARENT);

            let other = tracing::info_span!("reconcile");
            set_parent(&other, "nonsense");
            let own = traceparent_of(&other).unwrap();
            assert!(!own.contains("0af7651916cd43dd8448eb211c80319c"));
        });
    }

    #[test]
    fn without_a_trace_there_is_no_traceparent() {
        assert_eq!(current_traceparent(), None);
    }

    #[test]
    fn directives_parse() {
        for verbosity in 0..4 {
            EnvFilter::try_new(directives(verbosity)).unwrap();
        }
    }
}
