//! `skep project …`: creates, lists and deletes projects.

use clap::{Args, Subcommand};
use skep_provision::model::{NewProject, Project};

use super::output::{Tabular, age, print_list, print_one};
use super::{Context, Failure};

/// Options of `skep project`.
#[derive(Debug, Clone, Args)]
pub struct ProjectArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ProjectCommand,
}

/// What can be done with projects.
#[derive(Debug, Clone, Subcommand)]
pub enum ProjectCommand {
    /// Create a project.
    Create {
        /// The name: a DNS label of at most 40 characters.
        name: String,
    },
    /// List the projects.
    #[command(visible_alias = "ls")]
    List,
    /// Delete a project that has no clusters.
    #[command(visible_alias = "rm")]
    Delete {
        /// The project's name.
        name: String,
    },
}

impl Tabular for Project {
    const HEADINGS: &'static [&'static str] = &["NAME", "AGE"];
    const NARROW: usize = 2;

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            age(self.created_at.as_deref(), jiff::Timestamp::now()),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Runs `skep project …`.
pub async fn run(args: ProjectArgs, context: &Context) -> Result<(), Failure> {
    let api = context.api()?;
    let format = context.global.output;
    match args.command {
        ProjectCommand::Create { name } => {
            let made: Project = api.post("/v1/projects", &NewProject { name }).await?;
            Ok(print_one(format, &made)?)
        }
        ProjectCommand::List => Ok(print_list(format, &api.list::<Project>("/v1/projects").await?)?),
        ProjectCommand::Delete { name } => {
            api.delete(&format!("/v1/projects/{name}")).await?;
            eprintln!("project {name} is deleted");
            Ok(())
        }
    }
}
