//! What a cell that is made waits for, in a sentence.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use skep_distro::Progress;

/// The steps under way.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<BTreeMap<String, String>>);

impl Told {
    pub(super) fn now(&self) -> String {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.is_empty() {
            return "the next step".to_owned();
        }
        steps.values().cloned().collect::<Vec<_>>().join("; ")
    }
}

impl Progress for Told {
    fn start(&self, name: &str, what: &str, _usual: Option<Duration>) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.insert(name.to_owned(), what.to_owned());
    }

    fn line(&self, _name: &str, _detail: &str) {}

    fn finish(&self, name: &str, took: Duration, cached: bool) {
        tracing::info!(
            step = name,
            seconds = took.as_secs_f64(),
            cached,
            "a step of a cell ended"
        );
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.remove(name);
    }
}
