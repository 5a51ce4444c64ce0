//! What the hub last said: its records and requests, as they were pulled.
//!
//! It forgets nothing while the hub is down, and knows whether it has ever been told everything.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use skep_api::{CertificateRequest, DeploymentRecord};

use crate::hub::{Change, Pull};
use crate::queue::Key;

/// The hub's objects by name.
#[derive(Debug, Default)]
pub struct Mirror {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<String, Arc<DeploymentRecord>>,
    requests: HashMap<String, Arc<CertificateRequest>>,
    is_complete: bool,
}

impl Mirror {
    /// Takes over what a pull brought and returns what it concerns.
    pub fn apply(&self, pull: Pull) -> BTreeSet<Key> {
        let mut state = self.lock();
        let mut concerned = BTreeSet::new();
        if pull.complete {
            concerned.extend(state.records.drain().map(|(name, _)| Key::Record(name)));
            concerned.extend(state.requests.drain().map(|(_, request)| Key::of(&request)));
            state.is_complete = true;
        }
        for change in pull.records {
            concerned.insert(Key::Record(match change {
                Change::Present(record) => {
                    let name = record.name_any();
                    state.records.insert(name.clone(), Arc::new(*record));
                    name
                }
                Change::Gone(name) => {
                    state.records.remove(&name);
                    name
                }
            }));
        }
        for change in pull.requests {
            let before = match change {
                Change::Present(request) => {
                    concerned.insert(Key::of(&request));
                    state.requests.insert(request.name_any(), Arc::new(*request))
                }
                Change::Gone(name) => state.requests.remove(&name),
            };
            concerned.extend(before.map(|request| Key::of(&request)));
        }
        concerned
    }

    /// Whether the hub has told everything at least once, so that what is not here is not there.
    pub fn is_complete(&self) -> bool {
        self.lock().is_complete
    }

    /// One record.
    pub fn record(&self, name: &str) -> Option<Arc<DeploymentRecord>> {
        self.lock().records.get(name).cloned()
    }

    /// One request for one control plane.
    pub fn request(&self, cpid: &str, name: &str) -> Option<Arc<CertificateRequest>> {
        self.lock()
            .requests
            .get(name)
            .filter(|request| request.spec.cpid == cpid)
            .cloned()
    }

    /// The names of all records.
    pub fn records(&self) -> Vec<String> {
        self.lock().records.keys().cloned().collect()
    }

    /// The requests of one control plane, or all.
    pub fn requests(&self, cpid: Option<&str>) -> Vec<Key> {
        let state = self.lock();
        let all = state.requests.values();
        all.filter(|request| cpid.is_none_or(|cpid| request.spec.cpid == cpid))
            .map(|r| Key::of(r))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever holds the lock inserts or removes whole objects, so a poisoned one is still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
