//! `skep up`: from nothing, or anything half-made, to a running platform with a tenant in it.
//!
//! Every step looks first and does only what is missing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::wait::Condition;
use kube::{Client, ResourceExt};
use skep_core::SYSTEM_NAMESPACE;
use skep_distro::Artifacts;
use skep_provider::{LocalCell, LocalSpec};
use skep_runtime::wait_for;

use super::cells;
use super::home::{Home, instance};
use super::install::{ProviderAccess, Site, install};
use super::packages;
use super::progress::Display;

/// The name of the cell that is also the hub.
pub const HUB_CELL: &str = "local";
/// How long the operators may take to come up; a minute is usual after a cold start.
const OPERATORS_TIMEOUT: Duration = Duration::from_mins(5);
/// The account whose token the command line uses.
const ADMIN: &str = "skep-admin";
/// How long that token lives; every `skep up` makes a new one.
const TOKEN_SECONDS: i64 = 365 * 24 * 3600;

/// Options of `skep up`.
#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    /// The zones of the cell.
    #[arg(long, value_delimiter = ',', default_value = "a,b,c", env = "SKEP_ZONES")]
    pub zones: Vec<String>,
    /// Node machines in each zone.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes_per_zone: u8,
    /// Control-plane nodes of the cell itself.
    #[arg(long, default_value = "1", value_parser = ["1", "3"])]
    pub control_planes: String,
    /// The Kubernetes version of the cell and the default for tenants [default: the newest].
    #[arg(long)]
    pub kubernetes: Option<String>,
    /// A directory of prebuilt binaries with a SHA256SUMS, taken instead of building them.
    #[arg(long, env = "SKEP_PREBUILT")]
    pub prebuilt: Option<PathBuf>,
    /// Volumes for datastores that each node prepares; a zone-redundant tenant takes one in each zone.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub volumes: u16,
    /// Do not create the tenant `demo`.
    #[arg(long)]
    pub no_demo: bool,
}

/// Brings the platform up and returns what it is made of.
pub async fn up(args: &UpArgs, home: &Home) -> Result<Artifacts> {
    let display = Display::new();
    let result = bring_up(args, home, &display).await;
    display.clear();
    result
}

async fn bring_up(args: &UpArgs, home: &Home, display: &Display) -> Result<Artifacts> {
    install_packages(display).await?;
    let operator_binary = std::env::current_exe().context("cannot find this program's own file")?;
    let versions = skep_distro::versions()?;
    let request = skep_distro::Request {
        cache: skep_distro::default_cache(),
        kubernetes: args.kubernetes.clone().unwrap_or(versions.default),
        prebuilt: args.prebuilt.clone(),
        operator_binary: Some(operator_binary.clone()),
    };
    let artifacts = skep_distro::ensure(&request, display).await?;
    let spec = local_spec(args, home, operator_binary)?;
    let cell = skep_provider::up(&spec, &artifacts, display).await?;
    link_kubectl(home, &artifacts.bin.join("kubectl"))?;
    let client = hub_client(home).await?;
    let site = site(args);
    let provider = provider_access(home, &cell)?;
    cells::ensure(home, cell.host_address, &artifacts.kubernetes)
        .await
        .context("cannot start what makes further cells")?;
    let installing = install(client.clone(), &site, &cell, &provider, &artifacts);
    display
        .step(
            "platform",
            "applying definitions, roles and operators",
            None,
            installing,
        )
        .await?;
    display
        .step(
            "operators",
            "waiting for hub, agent and cell",
            None,
            operators_ready(&client),
        )
        .await?;
    display
        .step(
            "access",
            "writing address, CA and token",
            None,
            write_access(&client, &cell, home),
        )
        .await?;
    Ok(artifacts)
}

/// How the hub's builder reaches what makes machines here.
fn provider_access(home: &Home, cell: &LocalCell) -> Result<ProviderAccess> {
    let access = cells::Access::ensure(home).context("cannot make the access to what makes further cells")?;
    Ok(ProviderAccess {
        name: cells::PROVIDER,
        url: format!("https://{}", cells::address(cell.host_address)),
        authority: access.authority.certificate().as_str().to_owned(),
        token: access.token,
    })
}

fn site(args: &UpArgs) -> Site {
    Site {
        region: "local".to_owned(),
        domain: "skep.internal".to_owned(),
        cell: HUB_CELL.to_owned(),
        zones: args.zones.clone(),
    }
}

fn local_spec(args: &UpArgs, home: &Home, program: PathBuf) -> Result<LocalSpec> {
    Ok(LocalSpec {
        instance: instance(),
        home: home.path().to_owned(),
        region: "local".to_owned(),
        zones: args.zones.clone(),
        nodes_per_zone: args.nodes_per_zone,
        control_planes: args
            .control_planes
            .parse()
            .context("--control-planes is 1 or 3")?,
        volumes_per_node: args.volumes,
        ranges: None,
        volume_bytes: 2 << 30,
        supervisor: vec![
            program.into_os_string(),
            OsString::from("machine"),
            OsString::from("run"),
        ],
    })
}

async fn install_packages(display: &Display) -> Result<()> {
    let wanted: BTreeSet<&'static str> = skep_distro::SYSTEM_PACKAGES
        .iter()
        .chain(skep_provider::SYSTEM_PACKAGES)
        .copied()
        .collect();
    let missing = packages::missing(&wanted).await;
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        let names = missing.into_iter().collect::<Vec<_>>().join(" ");
        bail!("the local platform needs root, and these packages are missing: {names}; run it with sudo");
    }
    let what = format!(
        "installing {}",
        missing.iter().copied().collect::<Vec<_>>().join(", ")
    );
    display
        .step(
            "packages",
            &what,
            Some(Duration::from_secs(20)),
            packages::install(&missing),
        )
        .await
}

/// A client of the hub with the administrator's rights.
pub async fn hub_client(home: &Home) -> Result<Client> {
    let path = home.kubeconfig();
    let bytes = std::fs::read(&path).with_context(|| {
        format!(
            "no platform here: {} cannot be read; run `skep up`",
            path.display()
        )
    })?;
    skep_runtime::install_crypto();
    let client_use = skep_runtime::client::ClientUse::OwnCluster;
    skep_runtime::client::from_kubeconfig(&bytes, "cli", client_use)
        .await
        .context("cannot use the hub's kubeconfig")
}

/// Waits until every Deployment and `DaemonSet` of the platform in a cluster is ready.
pub async fn operators_ready(client: &Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut waits = tokio::task::JoinSet::new();
    for deployment in deployments.list(&ListParams::default()).await? {
        let (api, name) = (deployments.clone(), deployment.name_any());
        waits.spawn(async move { await_object(api, name, "deployment", is_deployed()).await });
    }
    for daemon_set in daemon_sets.list(&ListParams::default()).await? {
        let (api, name) = (daemon_sets.clone(), daemon_set.name_any());
        waits.spawn(async move { await_object(api, name, "daemonset", is_on_every_node()).await });
    }
    while let Some(waited) = waits.join_next().await {
        waited.context("a wait was lost")??;
    }
    Ok(())
}

async fn await_object<K>(api: Api<K>, name: String, kind: &str, condition: impl Condition<K>) -> Result<()>
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let waited = wait_for(api, &name, condition, OPERATORS_TIMEOUT).await;
    waited.with_context(|| {
        format!("{kind} {name} is not ready; see `kubectl -n {SYSTEM_NAMESPACE} describe {kind} {name}`")
    })
}

fn is_deployed() -> impl Condition<Deployment> {
    |deployment: Option<&Deployment>| {
        let Some((spec, status)) = deployment.and_then(|d| d.spec.as_ref().zip(d.status.as_ref())) else {
            return false;
        };
        let current = deployment.and_then(|d| d.metadata.generation) == status.observed_generation;
        let wanted = spec.replicas.unwrap_or(1);
        let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
        current && all(status.updated_replicas) && all(status.available_replicas) && all(status.replicas)
    }
}

fn is_on_every_node() -> impl Condition<DaemonSet> {
    |daemon_set: Option<&DaemonSet>| {
        let Some(status) = daemon_set.and_then(|d| d.status.as_ref()) else {
            return false;
        };
        let current = daemon_set.and_then(|d| d.metadata.generation) == status.observed_generation;
        let wanted = status.desired_number_scheduled;
        let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
        current && wanted > 0 && all(status.updated_number_scheduled) && all(status.number_available)
    }
}

async fn write_access(client: &Client, cell: &LocalCell, home: &Home) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let secret = secrets
        .get("skep-provision-tls")
        .await
        .context("the provisioning API has no certificate")?;
    let ca = secret
        .data
        .as_ref()
        .and_then(|data| data.get("ca.crt"))
        .context("its Secret has no ca.crt")?;
    let ca = String::from_utf8(ca.0.clone()).context("the API's CA is not PEM")?;
    home.write(&home.api_ca(), &ca)?;
    home.write(&home.api_url(), &format!("https://{}:8443\n", cell.front_address))?;
    if has_fresh_token(home) {
        return Ok(());
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let spec = TokenRequestSpec {
        expiration_seconds: Some(TOKEN_SECONDS),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest {
        spec: Some(spec),
        ..TokenRequest::default()
    };
    let issued = accounts
        .create_token_request(ADMIN, &PostParams::default(), &request)
        .await
        .context("cannot make a token for the provisioning API")?;
    let token = issued.status.and_then(|status| status.token);
    let token = token.context("the token request was answered without a token")?;
    home.write(&home.api_token(), &format!("{token}\n"))
}

/// Whether the token was made for the hub that now stands and is young enough to be kept.
fn has_fresh_token(home: &Home) -> bool {
    let modified = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let (token, kubeconfig) = (modified(&home.api_token()), modified(&home.kubeconfig()));
    let (Some(token), Some(kubeconfig)) = (token, kubeconfig) else {
        return false;
    };
    let half_life = Duration::from_secs(TOKEN_SECONDS.unsigned_abs() / 2);
    token >= kubeconfig && token.elapsed().is_ok_and(|age| age < half_life)
}

/// Puts our kubectl on PATH where there is none, and remembers that it is ours.
fn link_kubectl(home: &Home, kubectl: &Path) -> Result<()> {
    let link = Path::new("/usr/local/bin/kubectl");
    let mark = home.kubectl_link();
    let is_ours = mark.exists() && link.is_symlink();
    if is_ours && std::fs::read_link(link).is_ok_and(|target| target == kubectl) {
        return Ok(());
    }
    if !is_ours && is_on_path("kubectl") {
        return Ok(());
    }
    if link.is_symlink() {
        std::fs::remove_file(link).context("cannot replace /usr/local/bin/kubectl")?;
    }
    symlink(kubectl, link).context("cannot put kubectl into /usr/local/bin")?;
    home.write(&mark, "/usr/local/bin/kubectl\n")
}

fn is_on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}
