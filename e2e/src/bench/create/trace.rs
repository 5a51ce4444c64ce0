//! A receiver of the operators' spans (OTLP over gRPC) and what it makes of them.
//!
//! It listens where the cell's pods reach this machine: at the host's end of the instance's bridge.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// One reconcile as its operator told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace that it belongs to, hexadecimal.
    pub trace: String,
    /// The controller.
    pub controller: String,
    /// The object that was worked on.
    pub object: String,
    /// When it began.
    pub begin: SystemTime,
    /// When it ended.
    pub end: SystemTime,
}

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    /// Where operators send to.
    pub address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// Listens at this machine's address towards the platform's front, `https://ADDRESS:PORT`.
    pub async fn listen(front: &str) -> Result<Self> {
        let front: SocketAddr = front
            .strip_prefix("https://")
            .unwrap_or(front)
            .parse()
            .with_context(|| format!("{front} is no address"))?;
        // Nothing is sent: this asks the kernel which address of ours faces the front.
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(front)?;
        let listener = TcpListener::bind((socket.local_addr()?.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let spans = Arc::default();
        let service = TraceServiceServer::new(Collector(Arc::clone(&spans)));
        let serving = tokio::spawn(async move {
            let serving = Server::builder().add_service(service);
            if let Err(error) = serving
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
            {
                eprintln!("spans are no longer received: {error}");
            }
        });
        Ok(Self {
            address,
            spans,
            serving,
        })
    }

    /// Everything that was received.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(read(request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    spans
        .filter_map(|span| {
            let at = |nanoseconds| UNIX_EPOCH + Duration::from_nanos(nanoseconds);
            Some(Span {
                controller: text(&span.attributes, "controller")?,
                object: text(&span.attributes, "object").unwrap_or_default(),
                trace: HEXLOWER.encode(&span.trace_id),
                begin: at(span.start_time_unix_nano),
                end: at(span.end_time_unix_nano),
            })
        })
        .collect()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// A trace of our own, for one creation.
#[derive(Debug, Clone)]
pub struct Trace {
    id: String,
}

impl Trace {
    /// A new one.
    pub fn new() -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>() | 1),
        }
    }

    /// The header that carries it (W3C Trace Context).
    pub fn parent(&self) -> String {
        format!("00-{}-{:016x}-01", self.id, rand::random::<u64>() | 1)
    }

    /// Whether a span is of this trace, or works on an object of this control plane: what an operator makes
    /// for another carries no trace.
    fn has(&self, span: &Span, cpid: &str) -> bool {
        span.trace == self.id || span.object.contains(cpid)
    }

    /// What each controller did for a control plane between two moments.
    pub fn work(
        &self,
        spans: &[Span],
        cpid: &str,
        begin: SystemTime,
        end: SystemTime,
    ) -> BTreeMap<String, Work> {
        let mut work: BTreeMap<String, Work> = BTreeMap::new();
        let mine = spans.iter().filter(|span| self.has(span, cpid));
        for span in mine.filter(|span| span.begin < end && span.end > begin) {
            let seconds =
                |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_secs_f64();
            let of = work.entry(span.controller.clone()).or_insert(Work {
                first: f64::INFINITY,
                ..Work::default()
            });
            let busy = seconds(span.begin, span.end);
            of.reconciles += 1.0;
            of.busy += busy;
            of.longest = of.longest.max(busy);
            of.first = of.first.min(seconds(begin, span.begin));
            of.last = of.last.max(seconds(begin, span.end));
        }
        work
    }
}

/// What one controller did, in seconds since the request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// How many reconciles.
    pub reconciles: f64,
    /// How long all of them took together.
    pub busy: f64,
    /// How long the longest took.
    pub longest: f64,
    /// When the first began.
    pub first: f64,
    /// When the last ended.
    pub last: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_summed_by_controller_and_only_of_this_creation() {
        let trace = Trace::new();
        let at = |milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds);
        let span = |trace: &str, object: &str, begin, end| Span {
            trace: trace.to_owned(),
            controller: "etcd".to_owned(),
            object: object.to_owned(),
            begin: at(begin),
            end: at(end),
        };
        let spans = [
            span(&trace.id, "t1", 1000, 1100),
            span("other", "cp-cabc/etcd", 1500, 1800),
            span("other", "cp-cxyz/etcd", 1500, 1800),
            span(&trace.id, "t1", 9000, 9100),
        ];
        let work = trace.work(&spans, "cabc", at(900), at(5000));
        let etcd = work["etcd"];
        assert!((etcd.busy - 0.4).abs() < 1e-6 && (etcd.reconciles - 2.0).abs() < 1e-6);
        assert!((etcd.first - 0.1).abs() < 1e-6 && (etcd.last - 0.9).abs() < 1e-6);
    }
}
