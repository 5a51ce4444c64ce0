//! `skep cell …`: cells and pools, with the rights of whoever operates the platform.

mod create;
mod hub;
mod list;
mod plan;

use clap::{Args, Subcommand};

use crate::client::{Context, Failure};

/// Options of `skep cell`.
#[derive(Debug, Args)]
pub struct CellArgs {
    #[command(subcommand)]
    command: CellCommand,
}

#[derive(Debug, Subcommand)]
enum CellCommand {
    /// List all cells, with what is the scarcest in each.
    #[command(visible_alias = "ls")]
    List,
    /// Show what each zone of a cell has, and what the cell itself and tenants have asked for of it.
    Get {
        /// The cell's name.
        cell: String,
    },
    /// List all pools: whether their cells suffice, and what is the scarcest.
    Pools,
    /// Make a further cell on this machine: another Kubernetes cluster beside the hub's, which takes tenants.
    #[command(after_help = "Example:\n  skep cell create two --zones a,b")]
    Create(create::CreateArgs),
    /// Remove a cell that was made here and holds no tenants.
    #[command(visible_alias = "rm")]
    Delete {
        /// The cell's name.
        cell: String,
        /// Wait until it is gone.
        #[arg(long)]
        wait: bool,
    },
    /// Plan this platform, or a fleet that a file describes: placements, classes, moves, cells to build and to empty. Nothing
    /// is done.
    Plan(plan::PlanArgs),
}

/// Runs a command of cells.
pub async fn run(args: CellArgs, context: &Context) -> Result<(), Failure> {
    match args.command {
        CellCommand::List => list::cells(context).await,
        CellCommand::Get { cell } => list::cell(&cell, context).await,
        CellCommand::Pools => list::pools(context).await,
        CellCommand::Create(args) => create::create(&args, context).await,
        CellCommand::Delete { cell, wait } => create::delete(&cell, wait, context).await,
        CellCommand::Plan(args) => plan::plan(&args, context).await,
    }
}
