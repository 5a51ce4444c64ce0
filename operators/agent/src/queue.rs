//! What is to be reconciled: each key once, never twice at a time, later when it asks to, and records with a pause, so
//! that what a control plane says in a burst is reported once.
//!
//! Levels, not events: a key says what to look at, never what happened to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_api::CertificateRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The least time between two looks at one record.
const REPORT_PAUSE: Duration = Duration::from_millis(300);

/// What a reconcile is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A request of one control plane; people wait for it, so it sorts first.
    Request {
        /// The control plane.
        cpid: String,
        /// The request's name.
        name: String,
    },
    /// The record of this name.
    Record(String),
}

impl Key {
    /// The key of a request or of its copy.
    pub fn of(request: &CertificateRequest) -> Self {
        Self::Request {
            cpid: request.spec.cpid.clone(),
            name: request.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request { cpid, name } => write!(f, "{cpid}/{name}"),
            Self::Record(name) => f.write_str(name),
        }
    }
}

/// The keys that wait, and those that are worked on.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: BTreeSet<Key>,
    later: BTreeMap<Key, Instant>,
    rested: BTreeMap<Key, Instant>,
    running: BTreeSet<Key>,
}

impl Queue {
    /// Adds a key to be worked on now.
    pub fn add(&self, key: Key) {
        {
            let mut state = self.lock();
            match state.rested.get(&key).copied() {
                Some(rested) if rested > Instant::now() => drop(state.later.insert(key, rested)),
                _ => {
                    state.later.remove(&key);
                    state.ready.insert(key);
                }
            }
        }
        self.changed.notify_one();
    }

    /// Adds several keys.
    pub fn extend(&self, keys: impl IntoIterator<Item = Key>) {
        keys.into_iter().for_each(|key| self.add(key));
    }

    /// Awaits a key that nobody works on; [`Queue::done`] must follow.
    pub async fn next(&self) -> Key {
        loop {
            let changed = self.changed.notified();
            let (found, wake) = self.take(Instant::now());
            if let Some(key) = found {
                // Another worker may find one more.
                self.changed.notify_one();
                return key;
            }
            match wake {
                Some(wake) => drop(tokio::time::timeout_at(wake, changed).await),
                None => changed.await,
            }
        }
    }

    /// Ends the work on a key, which comes again after `retry` if nothing adds it sooner.
    pub fn done(&self, key: &Key, retry: Option<Duration>) {
        {
            let mut state = self.lock();
            state.running.remove(key);
            let now = Instant::now();
            state.rested.retain(|_, rested| *rested > now);
            if matches!(key, Key::Record(_)) {
                let rested = now + REPORT_PAUSE;
                if state.ready.remove(key) {
                    state.later.insert(key.clone(), rested);
                }
                state.rested.insert(key.clone(), rested);
            }
            if let Some(retry) = retry
                && !state.ready.contains(key)
                && !state.later.contains_key(key)
            {
                state.later.insert(key.clone(), now + retry);
            }
        }
        self.changed.notify_one();
    }

    /// A key to work on, or when to look again.
    fn take(&self, now: Instant) -> (Option<Key>, Option<Instant>) {
        let mut state = self.lock();
        let due: Vec<Key> = state
            .later
            .iter()
            .filter(|(_, when)| **when <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            state.later.remove(&key);
            state.ready.insert(key);
        }
        let found = state
            .ready
            .iter()
            .find(|key| !state.running.contains(key))
            .cloned();
        if let Some(key) = &found {
            state.ready.remove(key);
            state.running.insert(key.clone());
        }
        (found, state.later.values().min().copied())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever holds the lock moves keys between sets, so a poisoned one is still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
