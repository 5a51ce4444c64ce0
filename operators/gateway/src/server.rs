//! The xDS server, incremental, over mutual TLS: clusters on demand on one stream, endpoints on another.
//!
//! It reads the board and nothing else; that it is down costs no connection, only changes. Envoys ask for
//! clusters on a stream of their own, and not once more for a name that was nobody's: they follow it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_server::{
    ClusterDiscoveryService, ClusterDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use skep_runtime::CancellationToken;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::board::Board;
use crate::metrics;
use crate::session::Session;
use crate::tls;

/// The largest request in bytes: after a break an Envoy names every host name that it was ever asked for.
const LARGEST_REQUEST: usize = 256 * 1024 * 1024;
/// Responses that wait for a slow Envoy before its stream is made to wait.
const RESPONSES: usize = 16;
/// How often an Envoy is probed, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves the board on `listener` until `shutdown`. The newest configuration in `tls` is used for each new
/// connection.
///
/// # Errors
/// When the transport fails as a whole; a connection that fails is only counted.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    board: Arc<Board>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let discovery = Arc::new(Discovery {
        board,
        shutdown: shutdown.clone(),
    });
    let aggregated = AggregatedDiscoveryServiceServer::from_arc(discovery.clone());
    let clusters = ClusterDiscoveryServiceServer::from_arc(discovery);
    let connections = tls::accept(listener, tls, shutdown.clone());
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(aggregated.max_decoding_message_size(LARGEST_REQUEST))
        .add_service(clusters.max_decoding_message_size(LARGEST_REQUEST))
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
        .await
}

struct Discovery {
    board: Arc<Board>,
    shutdown: CancellationToken,
}

impl Discovery {
    fn open(&self, requests: Streaming<DeltaDiscoveryRequest>) -> Responses<DeltaDiscoveryResponse> {
        let (sender, receiver) = mpsc::channel(RESPONSES);
        let (board, shutdown) = (self.board.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            metrics::STREAMS.inc();
            shutdown
                .run_until_cancelled(drive(requests, &board, &sender))
                .await;
            metrics::STREAMS.dec();
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("only incremental discovery is served"))
}

#[async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        not_served()
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(Response::new(self.open(request.into_inner())))
    }
}

#[async_trait]
impl ClusterDiscoveryService for Discovery {
    type StreamClustersStream = Responses<DiscoveryResponse>;
    type DeltaClustersStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_clusters(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamClustersStream>, Status> {
        not_served()
    }

    async fn delta_clusters(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaClustersStream>, Status> {
        Ok(Response::new(self.open(request.into_inner())))
    }

    async fn fetch_clusters(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        not_served()
    }
}

/// Runs one stream to its end.
async fn drive(
    mut requests: Streaming<DeltaDiscoveryRequest>,
    board: &Board,
    responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut session = Session::default();
    let mut updates = board.subscribe();
    let ending = loop {
        let next = tokio::select! {
            request = requests.next() => match request {
                Some(Ok(request)) => board.read(|snapshot| session.request(request, snapshot)),
                Some(Err(status)) => break status.message().to_owned(),
                None => break "closed by the Envoy".to_owned(),
            },
            changed = updates.recv() => match changed {
                Ok(changed) => board.read(|snapshot| session.changed(&changed, snapshot)),
                Err(broadcast::error::RecvError::Lagged(_)) => board.read(|snapshot| session.compared(snapshot)),
                Err(broadcast::error::RecvError::Closed) => break "the board is gone".to_owned(),
            },
        };
        if send(next, responses).await.is_err() {
            break "closed by the Envoy".to_owned();
        }
    };
    tracing::info!(node = session.node(), ending, "a stream of an Envoy ended");
}

async fn send(
    next: Vec<DeltaDiscoveryResponse>,
    responses: &mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) -> Result<(), ()> {
    for response in next {
        responses.send(Ok(response)).await.map_err(|_| ())?;
    }
    Ok(())
}
