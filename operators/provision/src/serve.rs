//! The server's life: certificate, socket, requests, graceful end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use jiff::Timestamp;
use kube::Client;
use skep_runtime::error::chain;
use tokio_util::sync::CancellationToken;

use crate::routes::router;
use crate::state::AppState;
use crate::tls::{Keeper, TlsError};

/// How often the certificate at the hub is looked at; what another replica renewed is served after so long.
const CERTIFICATE_PERIOD: Duration = Duration::from_mins(1);
/// How long a start waits between two tries to have a certificate.
const START_PERIOD: Duration = Duration::from_secs(2);
/// Time for requests that are under way to be answered at the end.
const DRAIN: Duration = Duration::from_secs(20);

/// What the server needs to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The host names and addresses under which clients reach it: the front's address, the Service's names.
    pub names: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            names: default_names(),
        }
    }
}

/// The names of the Service and of the host itself, which every server has beside those of its installation.
pub fn default_names() -> Vec<String> {
    let names = [
        "localhost",
        "127.0.0.1",
        "skep-hub",
        "skep-hub.skep-system",
        "skep-hub.skep-system.svc",
        "skep-hub.skep-system.svc.cluster.local",
    ];
    names.map(str::to_owned).into()
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no certificate.
    #[error("the provisioning API has no certificate")]
    Tls(#[from] TlsError),
    /// It cannot listen, or the socket failed.
    #[error("the provisioning API cannot serve on {address}")]
    Serve {
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Serves until `shutdown`; every replica may run it, without a leader.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let keeper = Arc::new(Keeper::new(client.clone(), &settings.names));
    if !have_certificate(&keeper, &shutdown).await {
        return Ok(());
    }
    let config = RustlsConfig::from_config(Arc::new(keeper.server_config()?));
    let renewal = tokio::spawn(renew(keeper, shutdown.clone()));
    let handle = Handle::new();
    let ending = tokio::spawn(end_gracefully(handle.clone(), shutdown.clone()));
    let service = router(AppState::new(client, shutdown)).into_make_service();
    tracing::info!(address = %settings.listen, "the provisioning API serves");
    let served = axum_server::bind_rustls(settings.listen, config)
        .handle(handle)
        .serve(service)
        .await;
    renewal.abort();
    ending.abort();
    served.map_err(|source| Error::Serve {
        address: settings.listen,
        source,
    })
}

/// Waits for the first certificate, since the hub may come up later than this; false when the end came first.
async fn have_certificate(keeper: &Keeper, shutdown: &CancellationToken) -> bool {
    while let Err(error) = keeper.keep(Timestamp::now()).await {
        tracing::warn!(error = chain(&error), "no certificate to serve with yet");
        tokio::select! {
            () = tokio::time::sleep(START_PERIOD) => {}
            () = shutdown.cancelled() => return false,
        }
    }
    !shutdown.is_cancelled()
}

async fn renew(keeper: Arc<Keeper>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = keeper.keep(Timestamp::now()).await {
            tracing::warn!(
                error = chain(&error),
                "the server's certificate cannot be looked at"
            );
        }
    }
}

async fn end_gracefully(handle: Handle<SocketAddr>, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tracing::info!("the provisioning API ends");
    handle.graceful_shutdown(Some(DRAIN));
}
