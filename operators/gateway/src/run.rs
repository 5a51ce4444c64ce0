//! Runs the gateway's controller: certificates, watches, the xDS server, statuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client};
use skep_api::ControlPlane;
use skep_core::{CellName, SYSTEM_NAMESPACE};
use skep_runtime::error::chain;
use skep_runtime::{Applier, CancellationToken, ControllerBuilder};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::board::Board;
use crate::certificates::{self, CertificateError, Certificates};
use crate::observe::{Publisher, watch_routes};
use crate::server;
use crate::status::StatusWriter;

/// The controller's name: field manager and metric label.
pub const CONTROLLER: &str = "gateway";
/// How often the certificates are looked at; also how soon a renewal by another replica is used.
const CERTIFICATES_PERIOD: Duration = Duration::from_mins(5);
/// Between tries while the certificates cannot be kept.
const CERTIFICATES_RETRY: Duration = Duration::from_secs(2);

/// How the gateway's controller runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this cell: records of others give routes to their gateways.
    pub cell: CellName,
    /// Where the xDS server listens.
    pub listen: SocketAddr,
    /// The namespace of its certificates and its Service.
    pub namespace: String,
    /// Bounds of the loop that writes statuses.
    pub runtime: skep_runtime::Settings,
}

impl Settings {
    /// The usual ones in the cell of this name.
    pub fn new(cell: CellName) -> Self {
        Self {
            cell,
            listen: SocketAddr::from(([0, 0, 0, 0], 18000)),
            namespace: SYSTEM_NAMESPACE.to_owned(),
            runtime: skep_runtime::Settings::default(),
        }
    }
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not this host's.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The first certificate cannot be used.
    #[error("the xDS server has no certificate")]
    Certificate(#[source] CertificateError),
    /// The transport failed as a whole.
    #[error("the xDS server failed")]
    Serve(#[source] tonic::transport::Error),
}

/// Runs until `shutdown`. Every replica may run it at the same time, leader or not: all serve the same, and
/// what they write is the same.
///
/// # Errors
/// When it cannot listen or serve; everything else is retried.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let Settings {
        cell,
        listen,
        namespace,
        runtime,
    } = settings;
    let board = Arc::new(Board::default());
    let (complete, mut is_complete) = watch::channel(false);
    let (touched, changes) = mpsc::unbounded_channel();
    let publisher = Publisher {
        board: board.clone(),
        complete,
        touched,
    };
    let watching = tokio::spawn(shutdown.clone().run_until_cancelled_owned(watch_routes(
        client.clone(),
        cell,
        publisher,
    )));

    // An Envoy must never be told of a world that is not known yet: it would drop every route.
    let starting = async {
        let first = first_certificates(&client, &namespace).await;
        // An error says that the watches ended, which they do only on shutdown.
        let _ = is_complete.wait_for(|complete| *complete).await;
        first
    };
    let Some(first) = shutdown.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let config = first.server_config().map_err(Error::Certificate)?;
    let (renewed, tls) = watch::channel(Arc::new(config));
    let source = |source| Error::Listen {
        address: listen,
        source,
    };
    let listener = TcpListener::bind(listen).await.map_err(source)?;
    tracing::info!(address = %listen, "the xDS server listens");

    let renewing = keep_certificates(client.clone(), namespace, first, renewed);
    let renewing = tokio::spawn(shutdown.clone().run_until_cancelled_owned(renewing));
    let writing = tokio::spawn(write_statuses(
        client,
        board.clone(),
        changes,
        runtime,
        shutdown.clone(),
    ));
    let served = server::serve(listener, tls, board, shutdown.clone())
        .await
        .map_err(Error::Serve);
    // When serving failed the others end too.
    if served.is_err() {
        watching.abort();
        renewing.abort();
        writing.abort();
    } else {
        // Reconciles under way end by themselves; an error says that one panicked, which was logged.
        let _ = writing.await;
    }
    served
}

async fn first_certificates(client: &Client, namespace: &str) -> Certificates {
    loop {
        match certificates::ensure(client, namespace, Timestamp::now()).await {
            Ok(certificates) => return certificates,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the gateway's certificates cannot be kept");
                tokio::time::sleep(CERTIFICATES_RETRY).await;
            }
        }
    }
}

async fn keep_certificates(
    client: Client,
    namespace: String,
    mut last: Certificates,
    renewed: watch::Sender<Arc<rustls::ServerConfig>>,
) {
    loop {
        tokio::time::sleep(CERTIFICATES_PERIOD).await;
        let next = first_certificates(&client, &namespace).await;
        if next == last {
            continue;
        }
        match next.server_config() {
            Ok(config) => {
                renewed.send_replace(Arc::new(config));
                last = next;
            }
            Err(error) => tracing::error!(error = chain(&error), "a new certificate cannot be used"),
        }
    }
}

async fn write_statuses(
    client: Client,
    board: Arc<Board>,
    changes: mpsc::UnboundedReceiver<ObjectRef<ControlPlane>>,
    settings: skep_runtime::Settings,
    shutdown: CancellationToken,
) {
    let applier = Applier::new(client.clone(), CONTROLLER);
    ControllerBuilder::<ControlPlane>::new(CONTROLLER, Api::all(client), watcher::Config::default())
        .triggered_by(UnboundedReceiverStream::new(changes))
        .run(settings, StatusWriter { board, applier }, shutdown)
        .await;
}
