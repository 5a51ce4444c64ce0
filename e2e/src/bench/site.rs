//! The platform that a benchmark runs on: the one that `SKEP_HOME` names, or one of its own.
//!
//! The benchmark itself runs in a child process whose environment names the platform, so that a platform that
//! was brought up here is taken down whatever becomes of the benchmark.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// The instance that is brought up where none is named.
const INSTANCE: &str = "skep-bench";
/// Tells the child process that the environment names the platform, and whose that is.
const SITE: &str = "BENCH_SITE";
/// How long a benchmark that was interrupted may take to end what it started.
const GRACE: Duration = Duration::from_mins(3);

/// Whose platform it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Ours: it goes when the benchmark ends.
    Benchmark,
    /// A user's: nothing of it is changed beyond clusters of our own.
    User,
}

/// Whose platform the environment names; nothing when none has been chosen yet.
pub fn owner() -> Option<Owner> {
    match std::env::var(SITE).ok()?.as_str() {
        "own" => Some(Owner::Benchmark),
        _ => Some(Owner::User),
    }
}

/// The name of the instance, which everything carries that is made on this machine.
pub fn instance() -> String {
    let set = std::env::var("SKEP_INSTANCE")
        .ok()
        .filter(|name| !name.is_empty());
    set.unwrap_or_else(|| "skep".to_owned())
}

/// The `skep` command: the one that `SKEP` names, or the one beside this program.
pub fn skep() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let beside = program.parent().unwrap_or(Path::new(".")).join("skep");
    let skep = set("SKEP").unwrap_or(beside);
    ensure!(
        skep.is_file(),
        "{} is not there; run `make build`",
        skep.display()
    );
    Ok(skep)
}

fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Runs a benchmark on a platform and says whether its gates hold.
pub async fn run(name: &str) -> Result<bool> {
    let site = Site::choose()?;
    if site.owner == Owner::User {
        return verdict(site.run_benchmark(name).await?);
    }
    let status = match site.up().await {
        Ok(()) => site.run_benchmark(name).await,
        Err(error) => Err(error),
    };
    let down = site.down().await;
    let holds = verdict(status?)?;
    down?;
    Ok(holds)
}

/// Ends with the first SIGINT or SIGTERM from now on.
pub async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

pub(super) fn verdict(status: ExitStatus) -> Result<bool> {
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("the benchmark did not end by itself: {status}"),
    }
}

/// Where the platform is and how it is reached.
#[derive(Debug)]
struct Site {
    owner: Owner,
    home: PathBuf,
    instance: String,
    skep: PathBuf,
}

impl Site {
    fn choose() -> Result<Self> {
        let skep = skep()?;
        let Some(home) = set("SKEP_HOME") else {
            return Ok(Self {
                owner: Owner::Benchmark,
                home: super::directory()?.join("home"),
                instance: INSTANCE.to_owned(),
                skep,
            });
        };
        ensure!(
            home.join("api.url").is_file(),
            "no platform at SKEP_HOME={}; run `skep up`, or unset it for a platform of the benchmark's own",
            home.display()
        );
        Ok(Self {
            owner: Owner::User,
            home,
            instance: instance(),
            skep,
        })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("SKEP", &self.skep)
            .env("SKEP_HOME", &self.home)
            .env("SKEP_INSTANCE", &self.instance)
            .env(
                SITE,
                if self.owner == Owner::Benchmark {
                    "own"
                } else {
                    "user"
                },
            )
            .kill_on_drop(true);
        command
    }

    /// Brings the platform up, without the tenant that a user would find in it.
    async fn up(&self) -> Result<()> {
        std::fs::create_dir_all(&self.home)
            .with_context(|| format!("cannot make {}", self.home.display()))?;
        let mut child = self.command(&self.skep).args(["up", "--no-demo"]).spawn()?;
        let status = wait(&mut child).await?;
        ensure!(status.success(), "`skep up` failed: {status}");
        Ok(())
    }

    async fn down(&self) -> Result<()> {
        if std::env::var("KEEP").is_ok_and(|keep| keep == "1") {
            return Ok(());
        }
        // A group of its own: a second Ctrl-C must not leave half a platform.
        let mut command = self.command(&self.skep);
        let status = command.arg("down").process_group(0).status().await?;
        ensure!(status.success(), "`skep down` failed: {status}");
        Ok(())
    }

    async fn run_benchmark(&self, name: &str) -> Result<ExitStatus> {
        let program = std::env::current_exe()?;
        let mut child = self.command(&program).arg(name).spawn()?;
        wait(&mut child).await
    }
}

/// Waits for a child; after a signal to us it is asked to end and given time to.
pub(super) async fn wait(child: &mut Child) -> Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return Ok(status?),
        signalled = interrupted() => signalled?,
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended in this moment.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    bail!("interrupted")
}
