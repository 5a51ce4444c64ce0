//! Where routes are published and streams read them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use skep_core::Cpid;
use tokio::sync::broadcast;

use crate::metrics;
use crate::route::Route;
use crate::snapshot::{Changes, Snapshot};

/// Changes that a stream may be behind before it compares everything instead.
const BACKLOG: usize = 256;

/// The routes of the cell, shared by all streams.
#[derive(Debug)]
pub struct Board {
    snapshot: RwLock<Snapshot>,
    changes: broadcast::Sender<Arc<Changes>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            snapshot: RwLock::default(),
            changes: broadcast::Sender::new(BACKLOG),
        }
    }
}

impl Board {
    /// Publishes one route in place of the one that was there.
    pub fn put(&self, route: Route) {
        self.change(|snapshot| snapshot.put(route));
    }

    /// Takes a route away.
    pub fn remove(&self, cpid: &Cpid) {
        self.change(|snapshot| snapshot.remove(cpid));
    }

    /// Publishes exactly these routes.
    pub fn replace(&self, routes: Vec<Route>) {
        self.change(|snapshot| snapshot.replace(routes));
    }

    /// Whether an apiserver of this control plane is ready and published; nothing without a route in this cell.
    pub fn is_routed(&self, cpid: &Cpid) -> Option<bool> {
        self.read(|snapshot| snapshot.route(cpid).and_then(Route::is_ready))
    }

    /// Every control plane that has a route.
    pub fn cpids(&self) -> BTreeSet<Cpid> {
        self.read(|snapshot| snapshot.routes().map(|route| route.cpid.clone()).collect())
    }

    /// The changes from now on. Subscribe before reading, so that nothing falls between.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Changes>> {
        self.changes.subscribe()
    }

    /// Reads the snapshot; `read` must be quick, publishing waits for it.
    pub fn read<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot) -> Changes) {
        let changes = {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            let changes = change(&mut snapshot);
            metrics::ROUTES.set(i64::try_from(snapshot.len()).unwrap_or(i64::MAX));
            changes
        };
        if !changes.is_empty() {
            // An error says that no stream is open, so nobody needs to know.
            let _ = self.changes.send(Arc::new(changes));
        }
    }
}
