//! `skep run`: the controllers of one pod, each with what it needs, under one leader lease a set.
//!
//! Nothing is decided here; this is the wiring between the environment and the operators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use kube::Client;
use skep_agent::{HubAccess, HubDirectory};
use skep_core::{CellName, Domain, KubernetesVersion, Region};
use skep_provider::volumes::VolumesConfig;
use skep_runtime::telemetry::{self, LogFormat};
use skep_runtime::{CancellationToken, LeaderSettings, Readiness, client, run_as_leader, serve, shutdown};
use tokio::task::JoinSet;

/// Options of `skep run`; every one can come from the environment.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The controllers to run, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    pub controllers: Vec<Controller>,
    /// The region of this hub or cell.
    #[arg(long, env = "SKEP_REGION", default_value = "local")]
    pub region: Region,
    /// The domain of tenants' host names.
    #[arg(long, env = "SKEP_DOMAIN", default_value = "skep.internal")]
    pub domain: Domain,
    /// The name of this cell.
    #[arg(long, env = "SKEP_CELL", default_value = "local")]
    pub cell: CellName,
    /// The Kubernetes versions on offer, newest first.
    #[arg(
        long,
        env = "SKEP_KUBERNETES_VERSIONS",
        value_delimiter = ',',
        default_value = "1.36.3"
    )]
    pub kubernetes_versions: Vec<KubernetesVersion>,
    /// Further names and addresses in the provisioning API's certificate.
    #[arg(long, env = "SKEP_API_NAMES", value_delimiter = ',')]
    pub api_names: Vec<String>,
    /// The one way in for tenants of all cells, `host:port` [default: each cell's own gateway].
    #[arg(long, env = "SKEP_FRONT")]
    pub front: Option<String>,
    /// The directory that says where the agent's hub is, if that is another cluster: server, ca.crt and token.
    #[arg(
        long = "hub",
        value_name = "DIR",
        env = "SKEP_HUB_DIR",
        default_value = "/etc/skep/hub"
    )]
    pub hub_directory: PathBuf,
    /// The image that this pod runs, which makes datastores' data from snapshots.
    #[arg(long, env = "SKEP_IMAGE")]
    pub image: Option<String>,
    /// The node that `local-volumes` looks after.
    #[arg(long, env = "SKEP_NODE", default_value = "")]
    pub node: String,
    /// How `builder` reaches a provider of cells: a directory with the files `name`, `url`, `ca.crt` and `token`.
    #[arg(long, env = "SKEP_PROVIDER_DIR", default_value = "/etc/skep/provider")]
    pub provider: PathBuf,
    /// The hub's API server as the agents of further cells reach it, a URL.
    #[arg(long, env = "SKEP_HUB_SERVER", default_value = "")]
    pub hub_server: String,
    /// Where metrics and health are served.
    #[arg(long, default_value = "0.0.0.0:9090")]
    pub metrics_address: SocketAddr,
    /// Where the provisioning API is served.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub api_address: SocketAddr,
    /// Where the gateway's configuration is served.
    #[arg(long, default_value = "0.0.0.0:18000")]
    pub xds_address: SocketAddr,
}

/// The controllers that the binary holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Controller {
    /// Hub: gives every tenant cluster a cell and a record.
    Scheduler,
    /// Hub: approves the certificates of cells' agents.
    Identity,
    /// Hub: makes registration tokens into bootstrap tokens and ends them.
    Registration,
    /// Hub: keeps each cell's readiness and its agent's rights.
    Cells,
    /// Hub: has ordered cells made and removed by their provider.
    Builder,
    /// Hub: the provisioning API.
    Provision,
    /// Cell: pulls records and reports back.
    Agent,
    /// Cell: datastores.
    Etcd,
    /// Cell: control planes and users' certificates.
    ControlPlane,
    /// Cell: the gateway's configuration.
    Gateway,
    /// Node: prepared volumes.
    LocalVolumes,
}

impl Controller {
    /// Whether one replica alone may act; the others serve on every replica.
    fn needs_lease(self) -> bool {
        !matches!(self, Self::Provision | Self::Gateway | Self::LocalVolumes)
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Runs the controllers until a signal or the first that fails.
pub async fn run(args: RunArgs, verbosity: u8) -> Result<()> {
    let mut controllers = args.controllers.clone();
    controllers.sort_unstable();
    controllers.dedup();
    let component = controllers
        .iter()
        .map(|controller| controller.name())
        .collect::<Vec<_>>()
        .join("-");
    let _telemetry = telemetry::init(&component, verbosity, LogFormat::Json)?;
    skep_runtime::install_crypto();
    let shutdown = shutdown::on_signal()?;
    let readiness = Readiness::default();
    let started = readiness.flag("controllers");
    let server = serve::Server::bind(args.metrics_address, readiness)
        .await
        .with_context(|| format!("cannot listen on {}", args.metrics_address))?;
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let shutdown = shutdown.clone();
        async move { server.run(shutdown).await.context("metrics server") }
    });
    let (leading, serving): (Vec<_>, Vec<_>) = controllers.into_iter().partition(|c| c.needs_lease());
    for controller in serving {
        let (args, shutdown) = (args.clone(), shutdown.clone());
        tasks.spawn(async move { start(controller, &args, shutdown).await });
    }
    if !leading.is_empty() {
        let (args, shutdown) = (args.clone(), shutdown.clone());
        tasks.spawn(async move { lead(leading, &args, shutdown).await });
    }
    started.up();
    let ended = tasks.join_next().await;
    let is_asked_to = shutdown.is_cancelled();
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    match ended {
        Some(Ok(Ok(()))) if is_asked_to => Ok(()),
        Some(Ok(Ok(()))) => bail!("a controller ended without being asked to"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error).context("a controller panicked"),
        None => Ok(()),
    }
}

/// Runs the controllers of one set while holding their lease.
async fn lead(controllers: Vec<Controller>, args: &RunArgs, shutdown: CancellationToken) -> Result<()> {
    let name = controllers
        .iter()
        .map(|controller| controller.name())
        .collect::<Vec<_>>()
        .join("-");
    let client = client::own_cluster("leader").await?;
    let settings = LeaderSettings::new(skep_core::SYSTEM_NAMESPACE, &format!("skep-{name}"));
    let act = |_term| async {
        let mut tasks = JoinSet::new();
        for controller in controllers {
            let (args, shutdown) = (args.clone(), shutdown.clone());
            tasks.spawn(async move { start(controller, &args, shutdown).await });
        }
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.context("a controller panicked").and_then(|inner| inner);
            shutdown.cancel();
            result = result.and(ended);
        }
        result
    };
    run_as_leader(client, settings, shutdown.clone(), act)
        .await?
        .unwrap_or(Ok(()))
}

/// Starts one controller and returns when it ends.
async fn start(controller: Controller, args: &RunArgs, shutdown: CancellationToken) -> Result<()> {
    let name = controller.name();
    let client: Client = client::own_cluster(&name).await?;
    let instance = std::env::var("POD_NAME").ok();
    tracing::info!(controller = name, "starting");
    match controller {
        Controller::Scheduler => {
            let settings = skep_fleet::scheduler::Settings {
                instance,
                front: args.front.clone(),
                ..Default::default()
            };
            skep_fleet::scheduler::run(client, settings, shutdown).await?;
        }
        Controller::Identity => {
            skep_fleet::identity::run(client, skep_fleet::identity::Settings::default(), shutdown).await?;
        }
        Controller::Registration => {
            let settings = skep_fleet::registration::Settings::default();
            skep_fleet::registration::run(client, settings, shutdown).await?;
        }
        Controller::Cells => {
            let settings = skep_cells::Settings {
                instance,
                ..Default::default()
            };
            skep_cells::run(client, settings, shutdown).await?;
        }
        Controller::Builder => builder(client, args, shutdown).await?,
        Controller::Provision => provision(client, args, shutdown).await?,
        Controller::Agent => agent(client, args, shutdown).await?,
        Controller::Etcd => {
            let settings = skep_etcd::Settings {
                instance,
                image: args.image.clone(),
                ..skep_etcd::Settings::default()
            };
            skep_etcd::run(client, settings, shutdown).await;
        }
        Controller::ControlPlane => {
            let settings = skep_control_plane::Settings::default();
            let signer = skep_control_plane::run_signer(client.clone(), settings.clone(), shutdown.clone());
            tokio::join!(skep_control_plane::run(client, settings, shutdown), signer);
        }
        Controller::Gateway => {
            let settings = skep_gateway::Settings {
                listen: args.xds_address,
                ..skep_gateway::Settings::new(args.cell.clone())
            };
            skep_gateway::run(client, settings, shutdown).await?;
        }
        Controller::LocalVolumes => local_volumes(client, args, shutdown).await?,
    }
    Ok(())
}

async fn provision(client: Client, args: &RunArgs, shutdown: CancellationToken) -> Result<()> {
    let names = skep_provision::serve::default_names()
        .into_iter()
        .chain(args.api_names.iter().cloned());
    let settings = skep_provision::Settings {
        listen: args.api_address,
        names: names.collect(),
    };
    Ok(skep_provision::run(client, settings, shutdown).await?)
}

/// The authority of the API server of a pod's own cluster.
const OWN_AUTHORITY: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

async fn builder(client: Client, args: &RunArgs, shutdown: CancellationToken) -> Result<()> {
    if args.hub_server.is_empty() {
        bail!(
            "agents of further cells have to find the hub; name its API server with --hub-server or SKEP_HUB_SERVER"
        );
    }
    let read = |path: &std::path::Path| {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(text.trim().to_owned())
    };
    let file = |name: &str| read(&args.provider.join(name));
    let provider = skep_remote::RemoteProvider::new(&file("url")?, &file("ca.crt")?, &file("token")?)?;
    let settings = skep_builder::Settings {
        provider: file("name")?,
        hub: skep_builder::Hub {
            server: args.hub_server.clone(),
            authority: read(OWN_AUTHORITY.as_ref())?,
        },
        controller: skep_runtime::controller::Settings {
            // Taking a cell's machines down is the longest call.
            timeout: std::time::Duration::from_secs(90),
            ..Default::default()
        },
    };
    skep_builder::run(client, Arc::new(provider), settings, shutdown).await;
    Ok(())
}

async fn agent(client: Client, args: &RunArgs, shutdown: CancellationToken) -> Result<()> {
    let hub = if let Some(directory) = HubDirectory::find(&args.hub_directory) {
        tracing::info!(directory = %args.hub_directory.display(), "the hub is another cluster");
        HubAccess::Token(directory)
    } else {
        // Where hub and cell are one, the hub is the cluster that the pod runs in.
        let config = kube::Config::infer().await.context("cannot find the hub")?;
        HubAccess::Account(Box::new(config))
    };
    let settings = skep_agent::Settings {
        cell: args.cell.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: std::env::var("POD_NAME").ok(),
    };
    Ok(skep_agent::run(client, hub, settings, shutdown).await?)
}

async fn local_volumes(client: Client, args: &RunArgs, shutdown: CancellationToken) -> Result<()> {
    if args.node.is_empty() {
        bail!("local-volumes looks after one node; name it with --node or SKEP_NODE");
    }
    let config = VolumesConfig {
        node: args.node.clone(),
        root: "/var/lib/skep/volumes".into(),
    };
    tokio::select! {
        () = skep_provider::volumes::run(client, config) => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    }
}
