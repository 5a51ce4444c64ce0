//! `skep node …`: local worker machines of tenants' clusters.
//!
//! In the tenant everything is done with a certificate that the provisioning API gave, as any tenant's program
//! would; on this machine the local provider makes and removes the machines.

mod drain;
mod join;
mod list;
mod load;
mod session;
mod upgrade;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use self::drain::remove_all;
use self::join::BootstrapToken;
pub use self::join::ensure_one;
use self::session::Session;
use crate::client::output::print_list;
use crate::client::{Context, Failure};

/// Options of `skep node`.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What can be done with nodes.
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Start local machines in the cluster's own network and join them with kubeadm.
    #[command(after_help = "Example:\n  skep node add demo --count 2")]
    Add {
        /// The cluster's name.
        cluster: String,
        /// How many.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
        count: u8,
        /// The zone of all of them [default: the zones of the cell in turn].
        #[arg(long)]
        zone: Option<String>,
        /// Join with this bootstrap token [default: a new one of ten minutes].
        #[arg(long, env = "SKEP_JOIN_TOKEN", hide_env_values = true, value_parser = join::parse_token)]
        token: Option<BootstrapToken>,
    },
    /// Bring nodes to the version of their cluster, one at a time: cordon, drain, upgrade, uncordon.
    #[command(after_help = "Example:\n  skep node upgrade demo")]
    Upgrade {
        /// The cluster's name.
        cluster: String,
        /// The nodes' names [default: all of the cluster].
        nodes: Vec<String>,
        /// Also nodes that run the version already: they get the programs and images of this build.
        #[arg(long)]
        force: bool,
    },
    /// Import image archives (OCI or `docker save`) into the local nodes of a cluster.
    #[command(after_help = "Example:\n  skep node load demo web.tar")]
    Load {
        /// The cluster's name.
        cluster: String,
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// List the nodes of a cluster.
    #[command(visible_alias = "ls")]
    List {
        /// The cluster's name.
        cluster: String,
    },
    /// Drain nodes, take them out of the cluster and remove their machines.
    #[command(visible_alias = "rm")]
    Delete {
        /// The cluster's name.
        cluster: String,
        /// The nodes' names.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Do not wait for pods to end.
        #[arg(long)]
        force: bool,
    },
}

/// Runs `skep node …`.
pub async fn run(args: NodeArgs, context: &Context) -> Result<(), Failure> {
    match args.command {
        NodeCommand::Add {
            cluster,
            count,
            zone,
            token,
        } => {
            let names = join::add(&cluster, count, zone.as_deref(), token, context).await?;
            let session = Session::open(&cluster, context).await?;
            let rows = session.rows().await?;
            print_list(
                context.global.output,
                &rows
                    .into_iter()
                    .filter(|row| names.contains(&row.name))
                    .collect::<Vec<_>>(),
            )?;
            Ok(())
        }
        NodeCommand::Upgrade {
            cluster,
            nodes,
            force,
        } => upgrade::upgrade(&cluster, &nodes, force, context).await,
        NodeCommand::Load { cluster, archives } => load::load(&cluster, &archives, context).await,
        NodeCommand::List { cluster } => {
            let rows = Session::open(&cluster, context).await?.rows().await?;
            print_list(context.global.output, &rows)?;
            Ok(())
        }
        NodeCommand::Delete {
            cluster,
            nodes,
            force,
        } => drain::delete(&cluster, &nodes, force, context).await,
    }
}
