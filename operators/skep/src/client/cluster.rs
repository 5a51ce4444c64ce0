//! `skep cluster …`: creates, lists, reads and deletes clusters.

use clap::{Args, Subcommand, ValueEnum};
use skep_provision::model::{Availability, Class, Cluster, Network, NewCluster};

use super::output::{Tabular, age, print_list, print_one};
use super::wait::{Goal, wait};
use super::{Context, Failure};

/// Options of `skep cluster`.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What can be done with clusters.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterCommand {
    /// Create a cluster.
    #[command(
        after_help = "Examples:\n  skep cluster create shop --wait\n  skep cluster create lab --availability Single"
    )]
    Create(CreateArgs),
    /// List the clusters of the project.
    #[command(visible_alias = "ls")]
    List,
    /// Show one cluster with its conditions.
    Get {
        /// The cluster's name.
        name: String,
    },
    /// Delete a cluster and everything in it.
    #[command(visible_alias = "rm")]
    Delete {
        /// The cluster's name.
        name: String,
        /// Return when nothing of it is left.
        #[arg(long)]
        wait: bool,
    },
}

/// Options of `skep cluster create`.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// The name: a DNS label of at most 40 characters.
    pub name: String,
    /// The profile.
    #[arg(long, default_value = "standard")]
    pub profile: String,
    /// The Kubernetes version [default: the newest].
    #[arg(long)]
    pub version: Option<String>,
    /// The size class; auto starts small.
    #[arg(long, value_enum, default_value = "auto")]
    pub class: ClassArg,
    /// The spread over zones.
    #[arg(long, value_enum, default_value = "ZoneRedundant")]
    pub availability: AvailabilityArg,
    /// The region [default: the platform's only one].
    #[arg(long)]
    pub region: Option<String>,
    /// The range of the pods [default: the profile's].
    #[arg(long, requires = "services")]
    pub pods: Option<String>,
    /// The range of the services [default: the profile's].
    #[arg(long, requires = "pods")]
    pub services: Option<String>,
    /// Refuse to delete the cluster while this is set.
    #[arg(long)]
    pub deletion_protection: bool,
    /// Return when the cluster is ready.
    #[arg(long)]
    pub wait: bool,
}

/// A size class as an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClassArg {
    /// The platform chooses, starting small.
    Auto,
    /// Pinned to small.
    Small,
    /// Pinned to medium.
    Medium,
    /// Pinned to large.
    Large,
}

/// A spread over zones as an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum AvailabilityArg {
    /// Three zones; the loss of one is survived.
    ZoneRedundant,
    /// One zone; cheaper, and down while that zone is.
    Single,
}

impl From<ClassArg> for Class {
    fn from(class: ClassArg) -> Self {
        match class {
            ClassArg::Auto => Self::Auto,
            ClassArg::Small => Self::Small,
            ClassArg::Medium => Self::Medium,
            ClassArg::Large => Self::Large,
        }
    }
}

impl From<AvailabilityArg> for Availability {
    fn from(availability: AvailabilityArg) -> Self {
        match availability {
            AvailabilityArg::ZoneRedundant => Self::ZoneRedundant,
            AvailabilityArg::Single => Self::Single,
        }
    }
}

impl Tabular for Cluster {
    const HEADINGS: &'static [&'static str] = &[
        "NAME",
        "READY",
        "VERSION",
        "CLASS",
        "AVAILABILITY",
        "AGE",
        "STATUS",
        "CELL",
        "CPID",
        "ENDPOINT",
    ];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        let ready = self.condition("Ready");
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.name.clone(),
            ready.map_or("Unknown", |ready| ready.status.as_str()).to_owned(),
            or_dash(&self.state.version),
            or_dash(&self.state.class),
            format!("{:?}", self.availability),
            age(self.created_at.as_deref(), jiff::Timestamp::now()),
            ready.map_or_else(|| "not seen yet".to_owned(), |ready| ready.message.clone()),
            or_dash(&self.state.cell),
            or_dash(&self.state.cpid),
            or_dash(&self.state.endpoint),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// The path of a project's clusters.
pub fn clusters_path(project: &str) -> String {
    format!("/v1/projects/{project}/clusters")
}

/// Runs `skep cluster …`.
pub async fn run(args: ClusterArgs, context: &Context) -> Result<(), Failure> {
    let api = context.api()?;
    let (global, clusters) = (&context.global, clusters_path(&context.global.project));
    match args.command {
        ClusterCommand::Create(create) => {
            let path = format!("{clusters}/{}", create.name);
            let made: Cluster = api.post(&clusters, &wish(&create)).await?;
            let made = if create.wait {
                wait(&api, &path, &create.name, Goal::Ready, global.timeout)
                    .await?
                    .unwrap_or(made)
            } else {
                made
            };
            Ok(print_one(global.output, &made)?)
        }
        ClusterCommand::List => Ok(print_list(global.output, &api.list::<Cluster>(&clusters).await?)?),
        ClusterCommand::Get { name } => {
            let cluster: Cluster = api.get(&format!("{clusters}/{name}")).await?;
            print_one(global.output, &cluster)?;
            if matches!(
                global.output,
                super::context::Format::Table | super::context::Format::Wide
            ) {
                print_conditions(&cluster);
            }
            Ok(())
        }
        ClusterCommand::Delete {
            name,
            wait: is_waiting,
        } => {
            let path = format!("{clusters}/{name}");
            let standing: Cluster = api.get(&path).await?;
            api.delete(&path).await?;
            if let Some(cpid) = &standing.state.cpid {
                // Its nodes are nobody's now.
                crate::platform::node::remove_all(cpid, context).await?;
            }
            if is_waiting {
                wait(&api, &path, &name, Goal::Gone, global.timeout).await?;
                eprintln!("cluster {name} is gone");
            } else {
                eprintln!("cluster {name} is being deleted");
            }
            Ok(())
        }
    }
}

fn print_conditions(cluster: &Cluster) {
    println!();
    for condition in &cluster.conditions {
        println!(
            "{:<20} {:<8} {:<16} {}",
            condition.kind, condition.status, condition.reason, condition.message
        );
    }
}

/// What the options ask for; what is left at its default is left to the server.
pub fn wish(create: &CreateArgs) -> NewCluster {
    NewCluster {
        name: create.name.clone(),
        version: create.version.clone(),
        profile: Some(create.profile.clone()),
        class: Some(create.class.into()),
        region: create.region.clone(),
        availability: Some(create.availability.into()),
        network: create
            .pods
            .clone()
            .zip(create.services.clone())
            .map(|(pods, services)| Network { pods, services }),
        deletion_protection: create.deletion_protection.then_some(true),
    }
}
