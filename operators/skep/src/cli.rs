//! The words that people type: commands, options and their help.
//!
//! Parsing only; what a command does is in the module of its name.

use clap::{Parser, Subcommand};

use crate::cell;
use crate::client;
use crate::etcd;
use crate::platform;
use crate::run::RunArgs;
use crate::sim;

/// Runs thousands of Kubernetes clusters inside Kubernetes.
#[derive(Debug, Parser)]
#[command(
    name = "skep",
    version,
    max_term_width = 100,
    after_help = "Start with `skep up`, then `skep cluster create NAME --wait`.\n\
                  Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 timed out, 5 refused by a check."
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: client::GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `skep` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring up the local platform: a cell of three zones that is also the hub.
    Up(platform::up::UpArgs),
    /// Stop and remove the local platform.
    Down(platform::down::DownArgs),
    /// Show hub, cell, zones and clusters.
    Status,
    /// Look for what is wrong with this machine and this platform.
    Doctor,
    /// Create, list, read and delete clusters.
    Cluster(client::cluster::ClusterArgs),
    /// Print a kubeconfig with a short-lived certificate; its key is made here and stays here.
    Kubeconfig(client::kubeconfig::KubeconfigArgs),
    /// Add, list and delete local worker nodes of a cluster.
    Node(platform::node::NodeArgs),
    /// Create, list and delete projects.
    Project(client::project::ProjectArgs),
    /// Create, list and revoke project tokens.
    Token(client::token::TokenArgs),
    /// Look at cells and pools: what they have, what is taken, what the planner would do and why.
    Cell(cell::CellArgs),
    /// Look at datastores, and form one anew whose quorum is lost.
    Etcd(etcd::EtcdArgs),
    /// Simulate how cells fill and when they are built.
    Sim(sim::SimArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the versions of skep and of the Kubernetes that it runs.
    Version,
    /// Run controllers; this is what the platform's pods do.
    Run(Box<RunArgs>),
    /// Make a datastore member's data from a snapshot, before its etcd starts; this is what a pod of it does.
    #[command(hide = true)]
    RestoreMember {
        /// The member's volume.
        #[arg(long, default_value = "/var/lib/etcd")]
        volume: std::path::PathBuf,
    },
    /// Make the data of the member that is left of a lost quorum anew; this is what its pod does.
    #[command(hide = true)]
    RecoverMember {
        /// The member's volume.
        #[arg(long, default_value = "/var/lib/etcd")]
        volume: std::path::PathBuf,
        /// Only move the data aside.
        #[arg(long)]
        prepare: bool,
    },
    /// Compare the etcd beside it with what a snapshot should hold; this is what a pod of a drill does.
    #[command(hide = true)]
    DrillMember {
        /// The file that takes what was found.
        #[arg(long, default_value = "/dev/termination-log")]
        message: std::path::PathBuf,
    },
    /// Make and remove machines of further cells as the hub asks; `skep up` starts this.
    #[command(hide = true)]
    ServeCells(platform::cells::ServeArgs),
    /// A node machine's first process.
    #[command(hide = true, subcommand)]
    Machine(MachineCommand),
}

/// What a node machine's first process can do.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Supervise the machine that the configuration describes until it is stopped.
    Run {
        /// The machine's configuration.
        #[arg(long)]
        config: std::path::PathBuf,
    },
}
