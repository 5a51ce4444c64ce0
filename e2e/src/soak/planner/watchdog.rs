//! Runs cases one after the other on a thread of its own, and does not wait for one that hangs.
//!
//! A thread cannot be ended: one that hangs goes on until the process is over, and runs no further case.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use proptest::test_runner::TestCaseError;

/// The thread, and whether it hangs.
pub struct Watchdog<C, A> {
    patience: Duration,
    cases: Sender<C>,
    answers: Receiver<thread::Result<A>>,
    is_hung: Cell<bool>,
}

impl<C: Send + 'static, A: Send + 'static> Watchdog<C, A> {
    /// Starts the thread, which is waited for so long.
    pub fn new(patience: Duration, run: impl Fn(C) -> A + Send + 'static) -> Self {
        let (cases, incoming) = channel();
        let (outgoing, answers) = channel();
        thread::spawn(move || {
            for case in incoming {
                let answer = catch_unwind(AssertUnwindSafe(|| run(case)));
                if outgoing.send(answer).is_err() {
                    return;
                }
            }
        });
        Self {
            patience,
            cases,
            answers,
            is_hung: Cell::new(false),
        }
    }

    /// Runs a case; a panic goes on in the caller. Nothing comes of a case after one that hung, so that one is not shrunk.
    ///
    /// # Errors
    /// When the case takes longer than the patience.
    pub fn run(&self, case: C) -> Result<Option<A>, TestCaseError> {
        if self.is_hung.get() {
            return Ok(None);
        }
        let answer = match self.cases.send(case) {
            Ok(()) => self.answers.recv_timeout(self.patience),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => {
                self.is_hung.set(true);
                Err(TestCaseError::fail(format!(
                    "it hangs: no end after {:?}",
                    self.patience
                )))
            }
            Err(RecvTimeoutError::Disconnected) => Err(TestCaseError::fail("its thread is gone")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::test_runner::{Config, TestRunner};

    /// The error of a run over the numbers up to 99.
    fn error(run: impl Fn(u32) + Send + 'static) -> String {
        let watchdog = Watchdog::new(Duration::from_millis(500), run);
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&(0..100_u32), |number| watchdog.run(number).map(|_| ()));
        outcome.expect_err("a fault").to_string()
    }

    #[test]
    fn a_case_that_hangs_is_told_and_not_waited_for() {
        let error = error(|number| {
            if number >= 7 {
                loop {
                    thread::park();
                }
            }
        });
        assert!(error.contains("it hangs: no end after 500ms"), "{error}");
        assert!(error.contains("minimal failing input"), "{error}");
    }

    #[test]
    fn a_case_that_falls_is_shrunk_to_the_least() {
        let error = error(|number| assert!(number < 7, "{number} is too much"));
        assert!(error.contains("7 is too much"), "{error}");
    }
}
