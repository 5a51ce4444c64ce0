//! The operator as it is shipped, in a process of its own: `skep run --controllers=etcd` with the rights of a cell.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};

use crate::bench::{memory, site};

/// The user that a cell's operators are.
pub const USER: &str = "system:serviceaccount:skep-system:skep-cell";
/// How that user shows who it is.
pub const TOKEN: &str = "operator-of-this-benchmark";

/// A running operator; it is killed when dropped.
pub struct Operator {
    child: Child,
}

/// What a process has used up to a moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    processor: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Of it, what is no file's.
    pub anonymous: u64,
}

impl Usage {
    /// How many cores it kept busy since.
    pub fn cores_since(&self, before: &Self) -> f64 {
        let used = self.processor.saturating_sub(before.processor);
        used.as_secs_f64() / self.at.duration_since(before.at).as_secs_f64()
    }
}

impl Operator {
    /// Starts it with the settings that it has when nobody says anything.
    ///
    /// # Errors
    /// When there is no `skep`, or it cannot be started.
    pub fn start(kubeconfig: &Path, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(site::skep()?)
            .args(["run", "--controllers=etcd", "--metrics-address=127.0.0.1:9090"])
            .env("KUBECONFIG", kubeconfig)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env_remove("RUST_LOG")
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(log)
            .spawn()
            .context("cannot start the operator")?;
        Ok(Self { child })
    }

    /// That it still runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn is_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the operator ended with {ended:?}; see its log");
        Ok(())
    }

    /// What it has used up to now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn usage(&self) -> Result<Usage> {
        let pid = i32::try_from(self.child.id())?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let gone = || format!("process {pid} is gone");
        Ok(Usage {
            at: Instant::now(),
            processor: processor_time(&stat).with_context(gone)?,
            resident: memory::resident(pid).with_context(gone)?,
            anonymous: memory::anonymous(pid).with_context(gone)?,
        })
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time in user and kernel mode, of a `/proc/PID/stat` as `man 5 proc_pid_stat` describes it.
fn processor_time(stat: &str) -> Option<Duration> {
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok().flatten()?).ok()?;
    // The name of the program may hold anything, also blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let all = ticks()? + ticks()?;
    Some(Duration::from_millis(all * 1000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_kernel_mode_are_added() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 900 0 0 0 100 50 9 9 20 0 1 0 5 1 1";
        assert_eq!(processor_time(stat), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn this_process_can_be_read() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(processor_time(&stat).is_some());
    }
}
