//! What clients were told and when, and whether a store that loses nothing could have told it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// One call and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    pub(super) client: u64,
    pub(super) key: String,
    pub(super) write: bool,
    pub(super) value: String,
    /// When it was made, in nanoseconds from the beginning.
    #[serde(rename = "call")]
    pub(super) made: u64,
    /// When it was answered; nothing when nobody knows whether it was carried out.
    #[serde(rename = "return")]
    pub(super) returned: Option<u64>,
    /// The store's revision that came with the answer.
    pub(super) revision: i64,
}

/// Everything that all clients did.
#[derive(Clone)]
pub struct History {
    begun: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    /// A client whose call has no known outcome goes on under another number: its call may still be carried out.
    clients: Arc<AtomicU64>,
}

/// What was checked.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Writes of which nobody knows.
    pub unknown: u64,
    /// The longest time without an acknowledged write.
    pub longest_silence: Duration,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            calls: Arc::default(),
            clients: Arc::default(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn add(&self, call: Call) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .iter()
            .filter(|call| call.write && call.returned.is_some())
            .count()
    }

    /// Checks that the whole is linearizable, and that no revision went back.
    ///
    /// # Errors
    /// What was lost or went back.
    pub fn check(&self, porcupine: &Path) -> Result<Checked> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answered: Vec<&Call> = calls.iter().filter(|call| call.returned.is_some()).collect();
        ensure!(!answered.is_empty(), "no call was ever answered");
        no_revision_goes_back(&answered)?;
        is_linearizable(&calls, porcupine)?;
        answered.retain(|call| call.write);
        let mut times: Vec<u64> = answered.iter().filter_map(|call| call.returned).collect();
        times.sort_unstable();
        let silence = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let count = |filter: &dyn Fn(&Call) -> bool| calls.iter().filter(|call| filter(call)).count() as u64;
        Ok(Checked {
            writes: count(&|call| call.write && call.returned.is_some()),
            reads: count(&|call| !call.write && call.returned.is_some()),
            unknown: count(&|call| call.write && call.returned.is_none()),
            longest_silence: Duration::from_nanos(silence),
        })
    }
}

/// A call that begins after another has ended never sees an older revision, and a write always a newer one.
fn no_revision_goes_back(answered: &[&Call]) -> Result<()> {
    let mut by_end = answered.to_vec();
    by_end.sort_by_key(|call| call.returned);
    let mut by_begin = answered.to_vec();
    by_begin.sort_by_key(|call| call.made);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: i64 = 0;
    for call in by_begin {
        while let Some(earlier) = ended.next_if(|earlier| earlier.returned < Some(call.made)) {
            newest = newest.max(earlier.revision);
        }
        let is_newer = call.revision > newest || (!call.write && call.revision == newest);
        ensure!(
            is_newer,
            "a revision went back: {newest} was seen before {call:?}"
        );
    }
    Ok(())
}

fn is_linearizable(calls: &[Call], porcupine: &Path) -> Result<()> {
    let known = calls.iter().filter(|call| call.write || call.returned.is_some());
    let mut child = Command::new(porcupine)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run porcupine")?;
    let mut input = child.stdin.take().context("porcupine takes no input")?;
    for call in known {
        writeln!(input, "{}", serde_json::to_string(call)?)?;
    }
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success(),
        "the history is not linearizable: porcupine says {said}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (write, value, called at, answered at, revision)
    type Row = (bool, &'static str, u64, Option<u64>, i64);

    fn check(rows: &[Row], porcupine: &Path) -> Result<Checked> {
        let history = History::new();
        for (number, (write, value, made, returned, revision)) in rows.iter().enumerate() {
            history.add(Call {
                client: u64::try_from(number)?,
                key: "soak/1".to_owned(),
                write: *write,
                value: (*value).to_owned(),
                made: *made,
                returned: *returned,
                revision: *revision,
            });
        }
        history.check(porcupine)
    }

    #[test]
    fn what_was_lost_or_went_back_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let porcupine = directory.path().join("porcupine");
        crate::soak::etcd::inside::build_porcupine(&porcupine).unwrap();
        let check = |rows: &[Row]| check(rows, &porcupine);
        let first = (true, "1", 1, Some(2), 2);
        let second = (true, "2", 3, Some(4), 3);
        let unknown = (true, "2", 3, None, 0);
        let read = |value, revision| (false, value, 5, Some(6), revision);
        let right = check(&[first, second, read("2", 3)]).expect("a right history");
        assert_eq!((right.writes, right.reads, right.unknown), (2, 1, 0));
        // Of a write without an answer nobody knows: either is right.
        check(&[first, unknown, read("1", 2)]).expect("it was not carried out");
        check(&[first, unknown, read("2", 3)]).expect("it was carried out");
        for (wrong, rows) in [
            ("an acknowledged write is lost", vec![first, second, read("1", 3)]),
            ("all is lost", vec![first, read("", 2)]),
            ("a revision went back", vec![first, second, read("2", 2)]),
            (
                "a write has an older revision",
                vec![first, (true, "2", 3, Some(4), 2)],
            ),
            (
                "a read goes back",
                vec![first, unknown, read("2", 3), (false, "1", 7, Some(8), 3)],
            ),
            ("nobody wrote it", vec![first, read("7", 2)]),
        ] {
            assert!(check(&rows).is_err(), "{wrong}");
        }
    }
}
