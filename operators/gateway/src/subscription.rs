//! What one stream wants of one kind, what it holds, and what it is to be told: the delta protocol's core.
//!
//! Pure. The rules are those of Envoy's "xDS REST and gRPC protocol", incremental variant.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::resources::{Kind, Resource};
use crate::snapshot::Snapshot;

/// The name that subscribes to everything.
const WILDCARD: &str = "*";
/// The most names without a resource that are remembered for a stream. Anyone can connect with any host
/// name, and Envoy follows each for ever; past this many, the stream is told of every resource that appears,
/// and Envoy takes what it follows.
const MOST_ABSENT: usize = 10_000;

/// A change of interest, from one request.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    /// Names to follow from now on.
    pub subscribe: Vec<String>,
    /// Names to follow no longer.
    pub unsubscribe: Vec<String>,
    /// The versions that the client holds from an earlier stream; in a stream's first request only.
    pub versions: BTreeMap<String, String>,
}

/// What to tell a client.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// New and changed resources.
    pub resources: BTreeMap<String, Arc<Resource>>,
    /// Names that have no resource.
    pub removed: Vec<String>,
}

impl Delta {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }
}

/// One stream's interest in one kind.
#[derive(Debug, Clone)]
pub struct Subscription {
    kind: Kind,
    is_fresh: bool,
    wildcard: bool,
    /// Whether names are followed that are not remembered.
    has_forgotten: bool,
    /// The names that are followed, with the version that the client holds.
    held: BTreeMap<String, Option<String>>,
    absent: usize,
}

/// Whether the client wants an answer also when nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Always,
    WhenChanged,
}

impl Subscription {
    /// No interest yet.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            is_fresh: true,
            wildcard: false,
            has_forgotten: false,
            held: BTreeMap::new(),
            absent: 0,
        }
    }

    /// Takes a request in and answers it.
    pub fn request(&mut self, interest: Interest, snapshot: &Snapshot) -> Delta {
        let Interest {
            subscribe,
            unsubscribe,
            versions,
        } = interest;
        let is_first = std::mem::replace(&mut self.is_fresh, false);
        if is_first {
            self.held = versions
                .into_iter()
                .map(|(name, version)| (name, Some(version)))
                .collect();
        }
        let was_wildcard = self.wildcard;
        self.wildcard |= (is_first && subscribe.is_empty()) || subscribe.iter().any(|name| name == WILDCARD);
        for name in &unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
            }
            self.drop_name(name);
        }
        let mut delta = Delta::default();
        for name in subscribe.iter().filter(|name| *name != WILDCARD) {
            // In a stream's first request the client lists all that it follows, and needs no copy of what
            // it holds already. Later it names only what it wants to be told.
            let answer = if is_first {
                Answer::WhenChanged
            } else {
                Answer::Always
            };
            self.follow(name, answer, snapshot, &mut delta);
        }
        if self.wildcard && !was_wildcard {
            self.compare(snapshot, &mut delta);
        }
        delta
    }

    /// What the client is to be told after resources of these names changed.
    pub fn changed<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, snapshot: &Snapshot) -> Delta {
        let mut delta = Delta::default();
        for name in names {
            if self.wildcard || self.has_forgotten || self.held.contains_key(name) {
                self.tell(name, Answer::WhenChanged, snapshot, &mut delta);
            }
        }
        delta
    }

    /// What the client is to be told after an unknown number of changes.
    pub fn compared(&mut self, snapshot: &Snapshot) -> Delta {
        let mut delta = Delta::default();
        self.compare(snapshot, &mut delta);
        delta
    }

    /// How many names are followed.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no name is followed.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn follow(&mut self, name: &str, answer: Answer, snapshot: &Snapshot, delta: &mut Delta) {
        let is_absent = snapshot.get(self.kind, name).is_none();
        if is_absent && !self.held.contains_key(name) {
            delta.removed.push(name.to_owned());
            if self.absent >= MOST_ABSENT {
                self.has_forgotten = true;
            } else if !self.wildcard {
                self.held.insert(name.to_owned(), None);
                self.absent += 1;
            }
            return;
        }
        self.tell(
            name,
            if is_absent { Answer::Always } else { answer },
            snapshot,
            delta,
        );
    }

    fn tell(&mut self, name: &str, answer: Answer, snapshot: &Snapshot, delta: &mut Delta) {
        let before = self.held.get(name).cloned().flatten();
        let Some(resource) = snapshot.get(self.kind, name) else {
            if before.is_some() || answer == Answer::Always {
                delta.removed.push(name.to_owned());
            }
            self.note_absent(name);
            return;
        };
        let is_held = before.as_ref() == Some(&resource.version);
        if is_held && answer == Answer::WhenChanged {
            return;
        }
        delta.resources.insert(name.to_owned(), resource.clone());
        if let Some(None) = self.held.insert(name.to_owned(), Some(resource.version.clone())) {
            self.absent -= 1;
        }
    }

    fn note_absent(&mut self, name: &str) {
        let Entry::Occupied(mut entry) = self.held.entry(name.to_owned()) else {
            return;
        };
        let was_held = entry.get().is_some();
        if self.wildcard || (was_held && self.absent >= MOST_ABSENT) {
            if !was_held {
                self.absent -= 1;
            }
            self.has_forgotten |= !self.wildcard;
            entry.remove();
        } else if was_held {
            entry.insert(None);
            self.absent += 1;
        }
    }

    fn drop_name(&mut self, name: &str) {
        if let Some(None) = self.held.remove(name) {
            self.absent -= 1;
        }
    }

    fn compare(&mut self, snapshot: &Snapshot, delta: &mut Delta) {
        let mut names: Vec<String> = self.held.keys().cloned().collect();
        if self.wildcard || self.has_forgotten {
            names.extend(snapshot.names(self.kind).map(str::to_owned));
            names.sort_unstable();
            names.dedup();
        }
        for name in names {
            self.tell(&name, Answer::WhenChanged, snapshot, delta);
        }
        delta.removed.sort_unstable();
        delta.removed.dedup();
    }
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
