//! The process that makes further cells' machines: started by `skep up`, ended by `skep down`, known by the lock that it holds.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::platform::home::{Home, instance};

/// How long it may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to hold its lock.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Where it listens, on this machine's address in the hub's network.
const PORT: u16 = 9443;
/// How often is looked.
const POLL: Duration = Duration::from_millis(100);

/// Held for as long as a process makes cells here.
#[derive(Debug)]
pub struct Held {
    _lock: Flock<File>,
}

fn lock_file(home: &Home) -> PathBuf {
    home.path().join("cells.lock")
}

fn open(home: &Home) -> Result<File> {
    let path = lock_file(home);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Takes the lock for this process.
///
/// # Errors
/// If another process makes this platform's cells.
pub fn hold(home: &Home) -> Result<Held> {
    let Ok(mut lock) = Flock::lock(open(home)?, FlockArg::LockExclusiveNonblock) else {
        bail!("another process makes the cells of {}", home.path().display());
    };
    let write = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        write!(file, "{}", std::process::id())
    };
    write(&mut lock).with_context(|| format!("cannot write {}", lock_file(home).display()))?;
    Ok(Held { _lock: lock })
}

/// The process that holds the lock.
fn holder(home: &Home) -> Result<Option<Pid>> {
    if !lock_file(home).exists() {
        return Ok(None);
    }
    match Flock::lock(open(home)?, FlockArg::LockSharedNonblock) {
        Ok(_free) => Ok(None),
        Err((mut file, _)) => {
            let mut text = String::new();
            // One that has just taken it writes its number in a moment.
            file.read_to_string(&mut text)
                .context("cannot read the lock of the cells")?;
            Ok(text.trim().parse().ok().map(Pid::from_raw))
        }
    }
}

/// Where it listens, given this machine's address in the hub's network.
pub fn address(host: IpAddr) -> SocketAddr {
    SocketAddr::new(host, PORT)
}

/// Starts the process where none runs, and anew where one of another build does.
pub async fn ensure(home: &Home, host: IpAddr, kubernetes: &str) -> Result<bool> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    if let Some(pid) = holder(home)? {
        if is_same(&program, pid) {
            return Ok(false);
        }
        end(home, pid).await?;
    }
    start(home, &program, address(host), kubernetes)?;
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    while holder(home)?.is_none() {
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the process that makes cells has not started; see {}",
                log_file(home).display()
            );
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(true)
}

/// Ends the process, if one runs.
pub async fn stop(home: &Home) -> Result<()> {
    match holder(home)? {
        Some(pid) => end(home, pid).await,
        None => Ok(()),
    }
}

async fn end(home: &Home, pid: Pid) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // One that has just ended is no failure.
        let _ = kill(pid, signal);
        let deadline = tokio::time::Instant::now() + END_LIMIT;
        while tokio::time::Instant::now() < deadline {
            if holder(home)? != Some(pid) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
    bail!("process {pid}, which makes cells, does not end; end it by hand")
}

fn log_file(home: &Home) -> PathBuf {
    home.path().join("log").join("cells.log")
}

fn start(home: &Home, program: &Path, address: SocketAddr, kubernetes: &str) -> Result<()> {
    let path = log_file(home);
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    let errors = log.try_clone().context("cannot share the log of the cells")?;
    let mut command = Command::new(program);
    command
        .arg("serve-cells")
        .arg(format!("--address={address}"))
        .arg(format!("--kubernetes={kubernetes}"))
        .env("SKEP_HOME", home.path())
        .env("SKEP_INSTANCE", instance())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // It outlives this command and its terminal.
        .process_group(0);
    command
        .spawn()
        .map(drop)
        .with_context(|| format!("cannot start {}", program.display()))
}

/// Whether a process runs exactly this file: one that was built anew since is another.
fn is_same(program: &Path, pid: Pid) -> bool {
    let inode = |path: &Path| {
        std::fs::metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino()))
    };
    let running = inode(Path::new(&format!("/proc/{pid}/exe")));
    running.is_some() && running == inode(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_makes_the_cells_and_is_known_by_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        assert_eq!(holder(&home).unwrap(), None);
        let held = hold(&home).unwrap();
        assert_eq!(holder(&home).unwrap(), Some(Pid::this()));
        assert!(hold(&home).unwrap_err().to_string().contains("another process"));
        assert!(is_same(&std::env::current_exe().unwrap(), Pid::this()));
        drop(held);
        assert_eq!(holder(&home).unwrap(), None);
    }
}
