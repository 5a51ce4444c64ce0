//! What every request handler shares.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::ReviewCache;
use crate::limit::Limiter;

/// Time for one request to the hub's API server before it counts as not answering.
const HUB_TIMEOUT: Duration = Duration::from_secs(10);
/// Event streams that one replica serves at a time.
const STREAMS: usize = 1000;

/// The shared state; clones are the same state.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// What [`AppState`] holds.
pub struct Shared {
    /// The client of the hub's API server.
    pub client: Client,
    /// Answers of token reviews, for a few seconds.
    pub reviews: ReviewCache,
    /// The write budget of each identity.
    pub writes: Limiter,
    /// The places for event streams.
    pub streams: Arc<Semaphore>,
    /// Cancelled when the server shall end.
    pub shutdown: CancellationToken,
}

impl AppState {
    /// The state of a server that has served nothing yet.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            client,
            reviews: ReviewCache::default(),
            writes: Limiter::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            shutdown,
        }))
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Awaits a call to the hub for a bounded time; a late one counts as a hub that does not answer.
pub(crate) async fn ask<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(HUB_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(late) => Err(kube::Error::Service(Box::new(late))),
    }
}

/// The code of an error that the hub answered with, or nothing for one on the way.
pub(crate) fn hub_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
