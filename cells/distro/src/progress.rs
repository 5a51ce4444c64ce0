//! How a caller learns what is being made.
//!
//! Must not print: the caller owns the terminal.

use std::time::Duration;

/// Hears of each step's start, details and end; steps of different names overlap.
pub trait Progress: Send + Sync {
    /// A step begins; `usual` is how long it takes on two cores with nothing cached.
    fn start(&self, name: &str, what: &str, usual: Option<Duration>);
    /// A step tells what it is at.
    fn line(&self, name: &str, detail: &str);
    /// A step is done; `cached` when there was nothing to do.
    fn finish(&self, name: &str, took: Duration, cached: bool);
}

/// A listener that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _name: &str, _what: &str, _usual: Option<Duration>) {}
    fn line(&self, _name: &str, _detail: &str) {}
    fn finish(&self, _name: &str, _took: Duration, _cached: bool) {}
}
