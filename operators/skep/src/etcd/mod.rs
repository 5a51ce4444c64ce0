//! `skep etcd …`: tenants' datastores, with the rights of whoever operates the platform.

mod recover;
mod relocate;
mod wait;

use clap::{Args, Subcommand};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use skep_api::etcd_cluster::{EtcdCluster, EtcdMember, MemberRole};
use skep_api::{TenantCluster, etcd_cluster::BACKED_UP};
use skep_core::{labels, reasons};

use crate::client::output::{Tabular, age, print_list, print_whole};
use crate::client::{Context, Failure};
use crate::platform::up::hub_client;

/// The name of the datastore of a tenant's control plane.
const TENANTS_DATASTORE: &str = "etcd";

/// Options of `skep etcd`.
#[derive(Debug, Clone, Args)]
pub struct EtcdArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: EtcdCommand,
}

/// What can be done with datastores.
#[derive(Debug, Clone, Subcommand)]
pub enum EtcdCommand {
    /// List all datastores of this cell.
    #[command(visible_alias = "ls")]
    List,
    /// Show the members of one datastore.
    Get {
        /// The cluster's name, or NAMESPACE/NAME of a datastore.
        cluster: String,
    },
    /// Move a member to another node: its successor joins elsewhere before it leaves.
    #[command(
        after_help = "Names the member's node in spec.avoidNodes, where it stays: take it out by kubectl once members may be there\n\
                      again.\n\n\
                      Example:\n  skep etcd move demo etcd-x2k4w"
    )]
    Move {
        /// The cluster's name, or NAMESPACE/NAME of a datastore.
        cluster: String,
        /// The pod of the member.
        member: String,
    },
    /// After a quorum was lost for good: form the datastore anew of one member that is left.
    #[command(
        after_help = "Shows what each member has and what will be lost, and asks before it begins. Members that may come back\n\
                      are worth waiting for; a snapshot is the other way (docs/etcd.md).\n\n\
                      Example:\n  skep etcd recover demo"
    )]
    Recover {
        /// The cluster's name, or NAMESPACE/NAME of a datastore.
        cluster: String,
        /// The pod of the member whose data are kept [default: the one with the newest].
        #[arg(long)]
        member: Option<String>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// Runs `skep etcd …`.
pub async fn run(args: EtcdArgs, context: &Context) -> Result<(), Failure> {
    let client = hub_client(&context.home).await?;
    match args.command {
        EtcdCommand::List => list(&client, context).await,
        EtcdCommand::Get { cluster } => {
            let found = find(&client, &cluster, context).await?;
            get(&found, context)
        }
        EtcdCommand::Move { cluster, member } => {
            let found = find(&client, &cluster, context).await?;
            relocate::relocate(&client, &found, &member, context).await
        }
        EtcdCommand::Recover { cluster, member, yes } => {
            let found = find(&client, &cluster, context).await?;
            recover::recover(&client, &found, member.as_deref(), yes, context).await
        }
    }
}

/// The datastore of a tenant's cluster, or one by namespace and name.
async fn find(client: &Client, cluster: &str, context: &Context) -> Result<EtcdCluster, Failure> {
    let (namespace, name) = if let Some((namespace, name)) = cluster.split_once('/') {
        (namespace.to_owned(), name.to_owned())
    } else {
        (
            find_namespace(client, cluster, context).await?,
            TENANTS_DATASTORE.to_owned(),
        )
    };
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), &namespace);
    let found = api.get_opt(&name).await.map_err(Failure::from_error)?;
    found.ok_or_else(|| Failure::NotFound(format!("there is no datastore {name} in namespace {namespace}")))
}

/// The namespace of the control plane of a tenant's cluster.
async fn find_namespace(client: &Client, cluster: &str, context: &Context) -> Result<String, Failure> {
    let project = &context.global.project;
    let tenants: Api<TenantCluster> = Api::namespaced(client.clone(), &format!("project-{project}"));
    let found = tenants.get_opt(cluster).await.map_err(Failure::from_error)?;
    let missing = || Failure::NotFound(format!("there is no cluster {cluster} in project {project}"));
    let cpid = found.ok_or_else(missing)?.status.and_then(|status| status.cpid);
    let early = || Failure::NotFound(format!("cluster {cluster} has no control plane yet"));
    Ok(format!("cp-{}", cpid.ok_or_else(early)?))
}

async fn list(client: &Client, context: &Context) -> Result<(), Failure> {
    let api: Api<EtcdCluster> = Api::all(client.clone());
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(Failure::from_error)?;
    let rows: Vec<Row> = all.iter().map(row).collect();
    print_list(context.global.output, &rows)?;
    Ok(())
}

fn get(found: &EtcdCluster, context: &Context) -> Result<(), Failure> {
    if print_whole(context.global.output, found)? {
        return Ok(());
    }
    let status = found.status.clone().unwrap_or_default();
    for condition in &status.conditions {
        let Condition {
            type_,
            status,
            message,
            ..
        } = condition;
        eprintln!("{type_}={status}: {message}");
    }
    let leader = status.leader.as_deref();
    let rows: Vec<MemberRow> = status
        .members
        .iter()
        .map(|member| member_row(member, leader))
        .collect();
    print_list(context.global.output, &rows)?;
    Ok(())
}

/// One datastore in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    cluster: Option<String>,
    ready: String,
    members: String,
    version: Option<String>,
    database_bytes: Option<i64>,
    snapshot_taken_at: Option<String>,
    backed_up: Option<String>,
    message: String,
}

fn row(found: &EtcdCluster) -> Row {
    let status = found.status.clone().unwrap_or_default();
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    };
    let ready = condition(reasons::READY);
    Row {
        namespace: found.namespace().unwrap_or_default(),
        name: found.name_any(),
        cluster: found.labels().get(labels::CLUSTER).cloned(),
        ready: ready.map_or("Unknown", |ready| ready.status.as_str()).to_owned(),
        members: format!("{}/{}", status.ready_members, found.spec.members),
        version: status.version.clone(),
        database_bytes: status
            .members
            .iter()
            .filter_map(|member| member.database_bytes)
            .max(),
        snapshot_taken_at: status
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.taken_at.0.to_string()),
        backed_up: condition(BACKED_UP).map(|condition| condition.status.clone()),
        message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
    }
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

fn mebibytes(bytes: Option<i64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

impl Tabular for Row {
    const HEADINGS: &'static [&'static str] = &[
        "NAMESPACE",
        "NAME",
        "CLUSTER",
        "READY",
        "MEMBERS",
        "VERSION",
        "SIZE",
        "SNAPSHOT",
        "BACKED UP",
        "MESSAGE",
    ];
    const NARROW: usize = 8;

    fn cells(&self) -> Vec<String> {
        let taken = self.snapshot_taken_at.as_deref();
        vec![
            self.namespace.clone(),
            self.name.clone(),
            or_dash(self.cluster.as_ref()),
            self.ready.clone(),
            self.members.clone(),
            or_dash(self.version.as_ref()),
            mebibytes(self.database_bytes),
            age(taken, jiff::Timestamp::now()),
            or_dash(self.backed_up.as_ref()),
            self.message.clone(),
        ]
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One member in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberRow {
    pod: String,
    zone: Option<String>,
    node: Option<String>,
    role: &'static str,
    healthy: bool,
    version: Option<String>,
    database_bytes: Option<i64>,
    revision: Option<i64>,
}

fn member_row(member: &EtcdMember, leader: Option<&str>) -> MemberRow {
    MemberRow {
        pod: member.pod.clone(),
        zone: member.zone.clone(),
        node: member.node.clone(),
        role: match member.role {
            _ if leader == Some(&member.pod) => "Leader",
            MemberRole::Voter => "Voter",
            MemberRole::Learner => "Learner",
        },
        healthy: member.healthy,
        version: member.version.clone(),
        database_bytes: member.database_bytes,
        revision: member.revision,
    }
}

impl Tabular for MemberRow {
    const HEADINGS: &'static [&'static str] = &[
        "POD", "ZONE", "NODE", "ROLE", "HEALTHY", "VERSION", "SIZE", "REVISION",
    ];
    const NARROW: usize = 8;

    fn cells(&self) -> Vec<String> {
        vec![
            self.pod.clone(),
            or_dash(self.zone.as_ref()),
            or_dash(self.node.as_ref()),
            self.role.to_owned(),
            if self.healthy { "yes" } else { "NO" }.to_owned(),
            or_dash(self.version.as_ref()),
            mebibytes(self.database_bytes),
            or_dash(self.revision.map(|revision| revision.to_string()).as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.pod.clone()
    }
}
