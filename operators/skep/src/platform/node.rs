//! `skep node …`: local worker machines of tenants' clusters.
//!
//! In the tenant everything is done with a certificate that the provisioning API gave, as any tenant's program
//! would; on this machine the local provider makes and removes the machines.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skep_pki::CertificatePem;
use skep_provider::workers::{self, JoinToken, Place, Tenant};
use skep_runtime::client::ClientUse;

use super::home::instance;
use super::progress::Display;
use crate::client::cluster::clusters_path;
use crate::client::output::{Tabular, age, print_list};
use crate::client::{Context, Failure, kubeconfig};

/// How long a token may be used: a join takes seconds.
const TOKEN_TTL: SignedDuration = SignedDuration::from_mins(10);
/// How long a node that has joined may take to be ready.
const READY_LIMIT: Duration = Duration::from_mins(3);
/// How long pods of a node that goes may take to end.
const DRAIN_LIMIT: Duration = Duration::from_mins(2);

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

/// One node as a row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    name: String,
    ready: bool,
    version: String,
    zone: String,
    address: String,
    pods: String,
    created_at: Option<String>,
    local: bool,
}

impl Tabular for Row {
    const HEADINGS: &'static [&'static str] = &[
        "NAME", "READY", "VERSION", "ZONE", "AGE", "ADDRESS", "PODS", "LOCAL",
    ];
    const NARROW: usize = 5;

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.ready { "True" } else { "False" }.to_owned(),
            self.version.clone(),
            self.zone.clone(),
            age(self.created_at.as_deref(), Timestamp::now()),
            self.address.clone(),
            self.pods.clone(),
            if self.local { "yes" } else { "no" }.to_owned(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Runs `skep node …`.
pub async fn run(args: NodeArgs, context: &Context) -> Result<(), Failure> {
    match args.command {
        NodeCommand::Add { cluster, count, zone } => {
            let names = add(&cluster, count, zone.as_deref(), context).await?;
            let session = Session::open(&cluster, context).await?;
            let rows = session.rows(context).await?;
            print_list(
                context.global.output,
                &rows
                    .into_iter()
                    .filter(|row| names.contains(&row.name))
                    .collect::<Vec<_>>(),
            )?;
            Ok(())
        }
        NodeCommand::List { cluster } => {
            let rows = Session::open(&cluster, context).await?.rows(context).await?;
            print_list(context.global.output, &rows)?;
            Ok(())
        }
        NodeCommand::Delete {
            cluster,
            nodes,
            force,
        } => delete(&cluster, &nodes, force, context).await,
    }
}

/// Adds nodes to a cluster, waits until they are ready, and returns their names.
pub async fn add(
    cluster: &str,
    count: u8,
    zone: Option<&str>,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    let session = Session::open(cluster, context).await?;
    let zones = match zone {
        Some(zone) => vec![zone.to_owned(); usize::from(count)],
        None => zones(context)
            .await?
            .into_iter()
            .cycle()
            .take(usize::from(count))
            .collect(),
    };
    let display = Display::new();
    let added = session.join(cluster, &zones, &display, context).await;
    display.clear();
    added
}

/// The cell's zones.
async fn zones(context: &Context) -> Result<Vec<String>, Failure> {
    let client = super::up::hub_client(&context.home).await?;
    let cells: Api<skep_api::Cell> = Api::all(client);
    let cell = cells.get("local").await.context("cannot read the local cell")?;
    Ok(cell.spec.zones)
}

/// A cluster, reached as its user.
struct Session {
    client: Client,
    tenant: Tenant,
    authority_hash: String,
}

/// What we read of kubeadm's own configuration of the cluster.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterConfiguration {
    cluster_name: String,
    control_plane_endpoint: String,
    networking: Networking,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    pod_subnet: String,
    service_subnet: String,
}

impl Session {
    async fn open(cluster: &str, context: &Context) -> Result<Self, Failure> {
        skep_runtime::install_crypto();
        // The answer says at once when there is no such cluster.
        let path = format!("{}/{cluster}", clusters_path(&context.global.project));
        let _: serde_json::Value = context.api()?.get(&path).await?;
        let (text, authority) = kubeconfig::fetch_with_authority(cluster, "1h", context).await?;
        let client = skep_runtime::client::from_kubeconfig(text.as_bytes(), "cli", ClientUse::Tenant)
            .await
            .context("cannot use the cluster's kubeconfig")?;
        let authority_hash = authority_hash(&authority).context("cannot read the cluster's authority")?;
        let tenant = read_tenant(&client)
            .await
            .with_context(|| format!("cannot read how nodes join {cluster}"))?;
        Ok(Self {
            client,
            tenant,
            authority_hash,
        })
    }

    async fn rows(&self, context: &Context) -> Result<Vec<Row>, Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let all = nodes
            .list(&ListParams::default())
            .await
            .context("cannot list the nodes")?;
        let local = workers::workers(context.home.path(), &self.tenant.cpid).map_err(Failure::from_error)?;
        let is_local = |name: &str| local.iter().any(|worker| worker.name == name);
        Ok(all
            .iter()
            .map(|node| row(node, is_local(&node.name_any())))
            .collect())
    }

    async fn join(
        &self,
        cluster: &str,
        zones: &[String],
        display: &Display,
        context: &Context,
    ) -> Result<Vec<String>, Failure> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let request = skep_distro::Request {
            cache: skep_distro::default_cache(),
            kubernetes: self.version().await?,
            prebuilt: None,
            operator_binary: None,
        };
        let artifacts = skep_distro::ensure(&request, display)
            .await
            .map_err(Failure::from_error)?;
        let supervisor = [
            program.into_os_string(),
            OsString::from("machine"),
            OsString::from("run"),
        ];
        let instance = instance();
        let place = Place {
            instance: &instance,
            home: context.home.path(),
            supervisor: &supervisor,
        };
        let token = self.create_token().await?;
        let added =
            workers::add_workers(&place, &self.tenant, cluster, zones, &token, &artifacts, display).await;
        self.delete_token(&token).await;
        let added: Vec<_> = added
            .map_err(Failure::from_error)?
            .into_iter()
            .map(|worker| worker.name)
            .collect();
        let ready = futures::future::try_join_all(added.iter().map(|name| self.await_ready(name)));
        display
            .step("nodes", "nodes become ready", Some(Duration::from_secs(5)), ready)
            .await?;
        Ok(added)
    }

    async fn version(&self) -> Result<String, Failure> {
        let version = self
            .client
            .apiserver_version()
            .await
            .context("cannot ask the cluster for its version")?;
        Ok(version.git_version.trim_start_matches('v').to_owned())
    }

    /// A bootstrap token that lasts for minutes, as `kubeadm token create` makes one.
    async fn create_token(&self) -> Result<JoinToken, Failure> {
        let (id, secret) = (random_text(6), random_text(16));
        let expiration = Timestamp::now() + TOKEN_TTL;
        let object: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": id,
                "token-secret": secret,
                "expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "usage-bootstrap-authentication": "true",
                "usage-bootstrap-signing": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        }))
        .map_err(Failure::from_error)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kube-system");
        secrets
            .create(&PostParams::default(), &object)
            .await
            .context("cannot make a bootstrap token")?;
        Ok(JoinToken {
            token: format!("{id}.{secret}"),
            authority_hash: self.authority_hash.clone(),
        })
    }

    /// It ends by itself in minutes; a failure here is no failure of the join.
    async fn delete_token(&self, token: &JoinToken) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "kube-system");
        let id = token.token.split('.').next().unwrap_or_default();
        drop(
            secrets
                .delete(&format!("bootstrap-token-{id}"), &DeleteParams::default())
                .await,
        );
    }

    async fn await_ready(&self, name: &str) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let ready = await_condition(nodes, name, |node: Option<&Node>| node.is_some_and(is_ready));
        match tokio::time::timeout(READY_LIMIT, ready).await {
            Ok(result) => Ok(result
                .map(drop)
                .with_context(|| format!("cannot watch node {name}"))?),
            Err(_) => Err(Failure::TimedOut(format!(
                "node {name} has joined and is not ready after {} s; see `kubectl describe node {name}`",
                READY_LIMIT.as_secs()
            ))),
        }
    }

    /// Moves pods away as `kubectl drain` does: cordon, then evictions, which disruption budgets may hold up.
    async fn drain(&self, name: &str) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
        nodes
            .patch(name, &PatchParams::default(), &cordon)
            .await
            .with_context(|| format!("cannot cordon node {name}"))?;
        let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
        loop {
            let left = self.evictable(name).await?;
            if left.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                let pods: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
                return Err(Failure::TimedOut(format!(
                    "pods {} do not leave node {name}; look at their disruption budgets, or use --force",
                    pods.join(", ")
                )));
            }
            for pod in left
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            {
                let pods: Api<Pod> =
                    Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
                // A budget that holds it up is asked again.
                drop(pods.evict(&pod.name_any(), &EvictParams::default()).await);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Pods of a node that a drain must move: not those of `DaemonSets`, and not what the kubelet runs by itself.
    async fn evictable(&self, node: &str) -> Result<Vec<Pod>, Failure> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let all = pods
            .list(&on_node)
            .await
            .with_context(|| format!("cannot list the pods of {node}"))?;
        let stays = |pod: &Pod| {
            let owned = pod
                .owner_references()
                .iter()
                .any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node");
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            owned || matches!(phase, Some("Succeeded" | "Failed"))
        };
        Ok(all.items.into_iter().filter(|pod| !stays(pod)).collect())
    }
}

async fn delete(cluster: &str, names: &[String], force: bool, context: &Context) -> Result<(), Failure> {
    let session = Session::open(cluster, context).await?;
    let nodes: Api<Node> = Api::all(session.client.clone());
    let local = workers::workers(context.home.path(), &session.tenant.cpid).map_err(Failure::from_error)?;
    for name in names {
        let is_node = nodes
            .get_opt(name)
            .await
            .context("cannot read the nodes")?
            .is_some();
        if !is_node && !local.iter().any(|worker| worker.name == *name) {
            return Err(Failure::NotFound(format!(
                "cluster {cluster} has no node {name}; see `skep node list {cluster}`"
            )));
        }
        if is_node && !force {
            session.drain(name).await?;
        }
        match nodes.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => drop(result.with_context(|| format!("cannot delete node {name}"))?),
        }
    }
    let instance = instance();
    let place = Place {
        instance: &instance,
        home: context.home.path(),
        supervisor: &[],
    };
    workers::remove_workers(&place, &session.tenant.cpid, names)
        .await
        .map_err(Failure::from_error)?;
    Ok(())
}

/// Removes the machines that a cluster has here, for instance when it is deleted.
pub async fn remove_all(cpid: &str, context: &Context) -> Result<(), Failure> {
    let local = workers::workers(context.home.path(), cpid).map_err(Failure::from_error)?;
    if local.is_empty() {
        return Ok(());
    }
    let (instance, names) = (
        instance(),
        local.into_iter().map(|worker| worker.name).collect::<Vec<_>>(),
    );
    let place = Place {
        instance: &instance,
        home: context.home.path(),
        supervisor: &[],
    };
    workers::remove_workers(&place, cpid, &names)
        .await
        .map(drop)
        .map_err(Failure::from_error)
}

/// How nodes join, from kubeadm's own configuration inside the cluster.
async fn read_tenant(client: &Client) -> Result<Tenant> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps
        .get("kubeadm-config")
        .await
        .context("it has no ConfigMap kubeadm-config")?;
    let text = map
        .data
        .unwrap_or_default()
        .remove("ClusterConfiguration")
        .unwrap_or_default();
    let configuration: ClusterConfiguration =
        serde_saphyr::from_str(&text).context("its ConfigMap kubeadm-config is not kubeadm's")?;
    let host = configuration
        .control_plane_endpoint
        .split(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (pods, services) = (
        configuration.networking.pod_subnet,
        configuration.networking.service_subnet,
    );
    let network = skep_core::TenantNetwork::parse(&pods, &services, &[])?;
    Ok(Tenant {
        cpid: configuration.cluster_name,
        host,
        pods: network.pods,
        services: network.services,
        dns: network
            .cluster_dns()
            .context("its service range has no address for DNS")?,
    })
}

/// The hash by which kubeadm knows an authority: of its public key.
fn authority_hash(authority: &CertificatePem) -> Result<String> {
    Ok(format!("sha256:{}", skep_pki::public_key_hash(authority)?))
}

/// Letters and digits, as bootstrap tokens are made of.
fn random_text(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut chance = rand::rng();
    (0..length)
        .map(|_| char::from(LETTERS[chance.random_range(0..LETTERS.len())]))
        .collect()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn row(node: &Node, local: bool) -> Row {
    let status = node.status.clone().unwrap_or_default();
    let addresses = status.addresses.unwrap_or_default();
    let address = addresses
        .into_iter()
        .find(|address| address.type_ == "InternalIP");
    Row {
        name: node.name_any(),
        ready: is_ready(node),
        version: status
            .node_info
            .map(|info| info.kubelet_version)
            .unwrap_or_default(),
        zone: node
            .labels()
            .get("topology.kubernetes.io/zone")
            .cloned()
            .unwrap_or_default(),
        address: address.map(|address| address.address).unwrap_or_default(),
        pods: node
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_cidr.clone())
            .unwrap_or_default(),
        created_at: node
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.to_string()),
        local,
    }
}
