//! Keeps a machine's services running and reaps what they leave.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::config::{MachineConfig, Service};
use super::{log, mounts, stop};
use crate::error::Error;

/// The pause before a service that died is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A service that ran for longer starts again after the first pause.
const SETTLED: Duration = Duration::from_mins(1);
/// How often a file that a service waits for is looked for.
const FILE_POLL: Duration = Duration::from_millis(100);

/// The services of a machine with their states.
pub(super) struct Supervisor<'a> {
    machine: &'a MachineConfig,
    signals: SignalFd,
    services: Vec<Supervised<'a>>,
}

/// A service and where it is in its life.
struct Supervised<'a> {
    service: &'a Service,
    state: State,
    pause: Duration,
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Not running; may be started from then on, once its files exist.
    Due(Instant),
    /// Running.
    Running { pid: Pid, since: Instant },
}

impl<'a> Supervisor<'a> {
    /// Takes over the signals; must come before the first child.
    pub(super) fn new(machine: &'a MachineConfig) -> Result<Self, Error> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().map_err(Error::system("block signals"))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(Error::system("open a signal descriptor"))?;
        let now = Instant::now();
        let supervised = |service| Supervised {
            service,
            state: State::Due(now),
            pause: FIRST_PAUSE,
        };
        Ok(Self {
            machine,
            signals,
            services: machine.services.iter().map(supervised).collect(),
        })
    }

    /// Supervises until SIGTERM or SIGINT, then stops everything.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            for supervised in &mut self.services {
                supervised.start_if_due(self.machine, now)?;
            }
            self.wait()?;
            let stopping = self.take_signals()?;
            for (pid, status) in reap() {
                self.note_end(pid, &status);
            }
            if stopping {
                self.stop();
                return Ok(());
            }
        }
    }

    /// Waits for a signal, or until a service may be due.
    fn wait(&self) -> Result<(), Error> {
        let now = Instant::now();
        let until_due = |s: &Supervised| match s.state {
            State::Due(at) => Some(at.saturating_duration_since(now).max(FILE_POLL)),
            State::Running { .. } => None,
        };
        let timeout = match self.services.iter().filter_map(until_due).min() {
            Some(pause) => PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(
            &mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Error::system("wait for signals")(error)),
        }
    }

    /// Reads all pending signals; says whether one of them asks to stop.
    fn take_signals(&self) -> Result<bool, Error> {
        let mut stopping = false;
        while let Some(info) = self
            .signals
            .read_signal()
            .map_err(Error::system("read signals"))?
        {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            stopping |= matches!(Signal::try_from(number), Ok(Signal::SIGTERM | Signal::SIGINT));
        }
        Ok(stopping)
    }

    /// Schedules the next start of a service that ended.
    fn note_end(&mut self, ended: Pid, status: &WaitStatus) {
        for supervised in &mut self.services {
            let State::Running { pid, since } = supervised.state else {
                continue;
            };
            if pid != ended {
                continue;
            }
            if since.elapsed() > SETTLED {
                supervised.pause = FIRST_PAUSE;
            }
            let pause = supervised.pause;
            log::say(&format!(
                "{} ended ({status:?}), starts again in {} s",
                supervised.service.name,
                pause.as_secs()
            ));
            supervised.state = State::Due(Instant::now() + pause);
            supervised.pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Ends the services in reverse order, each with its containers.
    fn stop(self) {
        log::say("stopping");
        for supervised in self.services.iter().rev() {
            if let State::Running { pid, .. } = supervised.state {
                stop::end_service(&supervised.service.name, pid);
            }
            if supervised.service.runs_containers {
                stop::end_containers(self.machine);
            }
        }
    }
}

impl Supervised<'_> {
    /// Starts the service if its time has come and its files are there.
    fn start_if_due(&mut self, machine: &MachineConfig, now: Instant) -> Result<(), Error> {
        let State::Due(at) = self.state else { return Ok(()) };
        if at > now || !self.service.wait_for.iter().all(|file| mounts::exists(file)) {
            return Ok(());
        }
        match spawn(self.service, machine)? {
            Ok(pid) => {
                log::say(&format!("{} runs as {pid}", self.service.name));
                self.state = State::Running { pid, since: now };
            }
            Err(error) => {
                log::say(&format!("{} cannot be started: {error}", self.service.name));
                self.state = State::Due(now + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        Ok(())
    }
}

/// Starts a service; the inner result is the system's, which may be better next time.
fn spawn(service: &Service, machine: &MachineConfig) -> Result<std::io::Result<Pid>, Error> {
    let log = log::open(&machine.log, &service.name)?;
    let errors = log.try_clone().map_err(Error::io("share", &machine.log))?;
    let mut words = service.command.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command
        .args(words)
        .env_clear()
        .envs(&service.env)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    command.process_group(0).current_dir("/");
    let pid_of = |child: std::process::Child| {
        // A process number always fits: the kernel's own type is i32.
        Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
    };
    Ok(command.spawn().map(pid_of))
}

/// Collects every child that has ended, ours by start or by inheritance.
pub(super) fn reap() -> Vec<(Pid, WaitStatus)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(status) => ended.extend(status.pid().map(|pid| (pid, status))),
        }
    }
}
