//! Why the local platform could not be brought up, taken down or read.
//!
//! Every message is one line that says what is wrong, on what, and what to do where that is known.

use std::path::PathBuf;
use std::time::Duration;

/// A failure of the local provider.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refused before anything was changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A command that the provider ran did not succeed.
    #[error("`{command}` {outcome}: {stderr}")]
    Command {
        /// The command with its arguments.
        command: String,
        /// Its exit status, or that it ran out of time.
        outcome: String,
        /// The last lines that it wrote.
        stderr: String,
    },
    /// A command could not be started at all.
    #[error("cannot start `{command}`; install the system packages that `skep doctor` names")]
    Spawn {
        /// The command with its arguments.
        command: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A system call of the machine supervisor failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// The system's answer.
        #[source]
        source: nix::Error,
    },
    /// A state file of ours does not parse.
    #[error("{} is not valid; move it away and run `skep down`, then `skep up`", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: serde_json::Error,
    },
    /// A configuration could not be rendered; a bug of this build.
    #[error("cannot render {what}: {reason}")]
    Render {
        /// Which configuration.
        what: &'static str,
        /// What the serializer said.
        reason: String,
    },
    /// An artefact of the distribution is missing.
    #[error("the distribution has no image {reference}; build it again with `skep up`")]
    MissingImage {
        /// The reference that was looked for.
        reference: String,
    },
    /// The cluster's API refused or could not be reached.
    #[error("cannot {action} in the local cluster")]
    Api {
        /// What was tried.
        action: String,
        /// The client's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The written kubeconfig cannot be used.
    #[error("cannot use {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// Something did not happen in its time.
    #[error("{what} did not happen within {} s; {hint}", after.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// Where to look.
        hint: String,
    },
    /// A machine ended while it was needed.
    #[error("machine {machine} ended by itself; see {}", log.display())]
    MachineEnded {
        /// The machine's name.
        machine: String,
        /// Its log.
        log: PathBuf,
    },
    /// A task of the provider panicked or was cancelled.
    #[error("an inner task of the local provider was lost")]
    Task(#[source] tokio::task::JoinError),
}

/// Why `up` did not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not on Linux.
    #[error("the local platform needs Linux namespaces and this machine runs {0}; use a Linux machine")]
    NotLinux(String),
    /// Not root.
    #[error("the local platform needs root and this process runs as uid {0}; run it with sudo")]
    NotRoot(u32),
    /// The instance's name cannot be used in names of interfaces and hosts.
    #[error(
        "instance name {0:?} is not 1 to 20 lowercase letters, digits and inner dashes; set SKEP_INSTANCE"
    )]
    InstanceName(String),
    /// A zone's name cannot be used in host names and labels.
    #[error("zone name {0:?} is not 1 to 20 lowercase letters, digits and inner dashes; change --zones")]
    ZoneName(String),
    /// A zone is named twice.
    #[error("zone {0} is named twice; change --zones")]
    DuplicateZone(String),
    /// No zone at all, or no node in one.
    #[error("a cell needs at least one zone with one node; change --zones or --nodes-per-zone")]
    NoNodes,
    /// More nodes than the address plan holds.
    #[error(
        "{0} nodes are more than the 16 that one instance's address range holds; change --nodes-per-zone"
    )]
    TooManyNodes(usize),
    /// A number of control planes that cannot keep a quorum.
    #[error("{0} control planes cannot be had; choose 1 or 3 with --control-planes")]
    ControlPlanes(u8),
    /// Fewer nodes than control planes.
    #[error("3 control planes need 3 nodes and this cell has {0}; add zones or --nodes-per-zone")]
    TooFewNodes(usize),
    /// What stands has another shape.
    #[error("instance {instance} stands with {stands} and {asked} was asked for; run `skep down` first")]
    OtherShape {
        /// The instance.
        instance: String,
        /// What is there.
        stands: String,
        /// What was asked for.
        asked: String,
    },
    /// The instance's name is in use from another state directory.
    #[error("instance {instance} is in use from {home}; run `skep down` there, or set SKEP_INSTANCE")]
    OtherHome {
        /// The instance.
        instance: String,
        /// The other state directory.
        home: String,
    },
    /// Another `up`, `down` or command for nodes runs.
    #[error("another command that changes instance {0} is running; wait until it ends")]
    Busy(String),
    /// All address slots are taken.
    #[error("all {count} address ranges of local instances are taken, by {by}; run `skep down` on one")]
    NoSlot {
        /// How many there are.
        count: u8,
        /// Who has them.
        by: String,
    },
    /// The slot of a stopped instance went to another one.
    #[error("the address range of instance {instance} is taken by {by}; run `skep down` there first")]
    SlotTaken {
        /// The instance.
        instance: String,
        /// Who has its slot.
        by: String,
    },
    /// Ranges that no slot of the local plan has.
    #[error("{0} are none of the local plan's; take those of a free /19 of 198.18.0.0/16")]
    Ranges(String),
    /// Somebody else's interface or route has our addresses.
    #[error("addresses {range} are in use by interface {interface}; take it away, or use another machine")]
    RangeInUse {
        /// Our range.
        range: String,
        /// The interface.
        interface: String,
    },
    /// Too little disk.
    #[error(
        "{path} has {free_gib} GiB free and the platform needs {needed_gib} GiB; free some, or set SKEP_HOME"
    )]
    DiskFull {
        /// The state directory.
        path: String,
        /// What is free.
        free_gib: u64,
        /// What is needed.
        needed_gib: u64,
    },
    /// There is no platform to add workers to.
    #[error("instance {0} is not up here; run `skep up` first")]
    NotUp(String),
    /// A tenant's range covers the addresses of its workers.
    #[error(
        "the tenant's {what} {range} cover {workers}, where its local workers are; create it with another range"
    )]
    TenantRange {
        /// Pods or services.
        what: &'static str,
        /// Their range.
        range: String,
        /// The workers' range.
        workers: String,
    },
    /// Every link into the cell is taken.
    #[error("{0} tenants have workers here, and more cannot be; delete one's with `skep node delete`")]
    NoLink(u8),
    /// The workers' network is full.
    #[error("a tenant can have {0} local workers; delete some with `skep node delete`")]
    TooManyWorkers(u8),
    /// A node that is no machine of this platform.
    #[error("node {0} has no machine here; upgrade it where it runs")]
    NoMachine(String),
    /// No usable cgroup controllers.
    #[error("no cgroup controllers {0} under /sys/fs/cgroup; enable them in the kernel, or mount cgroups")]
    NoCgroups(String),
    /// A kernel feature is missing.
    #[error("this kernel lacks {0}; load the module or use another kernel")]
    Kernel(String),
    /// A command of a system package is missing.
    #[error("command {command} is missing; install package {package}")]
    MissingCommand {
        /// The command.
        command: String,
        /// The Debian package that has it.
        package: String,
    },
}

impl Error {
    /// An [`Error::Io`] from its parts, for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::System`] from its parts, for `map_err`.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }

    /// An [`Error::Api`] from its parts, for `map_err`.
    pub(crate) fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api {
            action,
            source: Box::new(source),
        }
    }
}
