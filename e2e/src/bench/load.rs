//! Waiting until the machine is quiet: what else runs would be measured too.
//!
//! The kernel's one-minute average remembers the last round for minutes, so only the first wait goes by it.
//! Between rounds the same is asked of the last ten seconds: how many cores were busy, waits for the disk
//! included.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

/// The load below which a round may begin.
const LOAD: f64 = 0.5;
/// How long the machine may take to become quiet.
const PATIENCE: Duration = Duration::from_mins(10);
/// The time over which the load is taken between rounds.
const WINDOW: Duration = Duration::from_secs(10);

/// What counts as quiet, and how loud it was when rounds began.
#[derive(Debug)]
pub struct Quiet {
    limit: f64,
    highest: f64,
}

impl Quiet {
    /// Below 0.5, or below `BENCH_LOAD` for a try on a busy machine.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            limit: super::setting("BENCH_LOAD", LOAD)?,
            highest: 0.0,
        })
    }

    /// The load that a benchmark's rounds may have begun at.
    pub const fn bound() -> f64 {
        LOAD
    }

    /// The highest load at which a round began.
    pub fn highest(&self) -> f64 {
        self.highest
    }

    /// Waits until the kernel's one-minute average is low; for the beginning.
    pub async fn begin(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let load = one_minute()?;
            if load < self.limit {
                return self.wait("the first round").await;
            }
            self.complain(load, "the first round", deadline)?;
            tokio::time::sleep(WINDOW).await;
        }
    }

    /// Waits until the last ten seconds were quiet.
    pub async fn wait(&mut self, what: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = Ticks::read()?;
            tokio::time::sleep(WINDOW).await;
            let load = Ticks::read()?.busy_since(&before);
            if load < self.limit {
                self.highest = self.highest.max(load);
                return Ok(());
            }
            self.complain(load, what, deadline)?;
        }
    }

    fn complain(&self, load: f64, what: &str, deadline: Instant) -> Result<()> {
        let limit = self.limit;
        if Instant::now() >= deadline {
            bail!(
                "the machine was not quiet within {} s: load {load:.2}, and {what} wants less than {limit}; \
                 stop what else runs here, or set BENCH_LOAD for a mere try",
                PATIENCE.as_secs()
            );
        }
        eprintln!("load {load:.2}; {what} waits until it is below {limit}");
        Ok(())
    }
}

fn one_minute() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("/proc/loadavg begins with {first}"))
}

/// The time that all cores together spent, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    total: u64,
    cores: u32,
}

impl Ticks {
    fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&text).context("/proc/stat is not as expected")
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        let is_core =
            |line: &&str| line.starts_with("cpu") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit);
        Some(Self {
            idle: *fields.get(3)?,
            // The two after the eighth are parts of the first two.
            total: fields.iter().take(8).sum(),
            cores: u32::try_from(text.lines().filter(is_core).count()).ok()?,
        })
    }

    /// How many cores were busy on average.
    fn busy_since(&self, before: &Self) -> f64 {
        // Ticks of ten seconds, far below where the conversion loses any.
        #[allow(clippy::cast_precision_loss)]
        let difference = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let total = difference(self.total, before.total).max(1.0);
        (1.0 - difference(self.idle, before.idle) / total) * f64::from(self.cores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_cores_was_busy() {
        let before = Ticks::parse("cpu 10 0 10 100 0 0 0 0 5 0\ncpu0 1\ncpu1 2\nintr 3\n").unwrap();
        let after = Ticks::parse("cpu 60 0 40 200 20 0 0 0 50 0\ncpu0 1\ncpu1 2\nintr 3\n").unwrap();
        assert!((after.busy_since(&before) - 1.0).abs() < 1e-9);
        assert!(before.busy_since(&before) <= 2.0);
    }

    #[test]
    fn this_machine_can_be_read() {
        assert!(Ticks::read().unwrap().cores > 0);
        assert!(one_minute().unwrap() >= 0.0);
    }
}
