//! Authorities as numbers, and what those who have read them trust and show.

use std::collections::BTreeSet;

use crate::observed::{RotationStep, Trust};

/// What a pod may have of its files, from the day it was made: they come to it at some time after they were written.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The authorities that it trusts whichever of the files it has read.
    trusts: BTreeSet<u32>,
    /// The authorities that may have signed what it shows.
    shows: BTreeSet<u32>,
}

impl Files {
    /// Whether it takes whatever `other` shows.
    pub fn takes(&self, other: &Self) -> bool {
        self.trusts.is_superset(&other.shows)
    }
}

/// The one who signs and those who are trusted beside it.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    signer: u32,
    next: Option<u32>,
    previous: Option<u32>,
    /// Whether a replacement was asked for.
    pub is_due: bool,
    /// What the client has started with.
    known: Option<String>,
    client: Files,
}

impl Authorities {
    pub fn new() -> Self {
        let mut new = Self::default();
        new.client = new.files();
        new
    }

    /// What is in the files now.
    pub fn files(&self) -> Files {
        let others = self.next.into_iter().chain(self.previous);
        Files {
            trusts: others.chain([self.signer]).collect(),
            shows: BTreeSet::from([self.signer]),
        }
    }

    pub fn revision(&self) -> Option<String> {
        let Self {
            signer,
            next,
            previous,
            ..
        } = self;
        let was_replaced = *signer > 0 || next.is_some();
        was_replaced.then(|| format!("{signer} {next:?} {previous:?}"))
    }

    fn pending(&self) -> Option<RotationStep> {
        match (self.next, self.previous) {
            (Some(_), _) => Some(RotationStep::Sign),
            (None, Some(_)) => Some(RotationStep::Retire),
            (None, None) => self.is_due.then_some(RotationStep::Introduce),
        }
    }

    pub fn observe(&self) -> Trust {
        Trust {
            revision: self.revision(),
            pending: self.pending(),
            is_known_to_clients: self.known == self.revision(),
            ..Trust::default()
        }
    }

    /// Writes new files, where the step is still due.
    pub fn advance<'a>(&'a mut self, step: RotationStep, made: impl Iterator<Item = &'a mut Files>) {
        if self.pending() != Some(step) {
            return;
        }
        match step {
            RotationStep::Introduce => {
                self.is_due = false;
                self.next = Some(self.signer + 1);
            }
            RotationStep::Sign => {
                self.previous = Some(self.signer);
                self.signer += 1;
                self.next = None;
            }
            RotationStep::Retire => self.previous = None,
        }
        let new = self.files();
        for files in made.chain([&mut self.client]) {
            files.trusts = files.trusts.intersection(&new.trusts).copied().collect();
            files.shows.extend(&new.shows);
        }
    }

    /// The client is made anew when the name of what it has to trust is another.
    pub fn pass(&mut self) {
        if self.known != self.revision() {
            (self.known, self.client) = (self.revision(), self.files());
        }
    }

    pub fn client(&self) -> &Files {
        &self.client
    }
}
