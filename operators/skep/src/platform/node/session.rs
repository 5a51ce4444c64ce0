//! A cluster of a tenant, reached as its user, and how nodes join it. Nothing is changed here.

use anyhow::{Context as _, Result};
use backon::{ExponentialBuilder, Retryable};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Deserialize;
use skep_pki::CertificatePem;
use skep_provider::workers::Tenant;
use skep_provision::model::Cluster;
use skep_runtime::api_category;
use skep_runtime::client::ClientUse;

use crate::client::cluster::clusters_path;
use crate::client::{Context, Failure, kubeconfig};
use crate::platform::cells::{Ground, of_cell};

/// A cluster, reached as its user.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) tenant: Tenant,
    pub(super) authority_hash: String,
    /// The cell that holds its control plane, in which its local nodes are.
    pub(super) ground: Ground,
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
    pub(super) async fn open(cluster: &str, context: &Context) -> Result<Self, Failure> {
        skep_runtime::install_crypto();
        // The answer says at once when there is no such cluster.
        let path = format!("{}/{cluster}", clusters_path(&context.global.project));
        let found: Cluster = context.api()?.get(&path).await?;
        let cell = found.state.cell.ok_or_else(|| {
            Failure::Refused(format!(
                "cluster {cluster} has no cell yet: wait until it is ready, see `skep cluster get {cluster}`"
            ))
        })?;
        let ground = of_cell(&cell, &context.home)?;
        let (text, authority) = kubeconfig::fetch_with_authority(cluster, "1h", context).await?;
        let client = skep_runtime::client::from_kubeconfig(text.as_bytes(), "cli", ClientUse::TenantWatch)
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
            ground,
        })
    }

    pub(super) async fn version(&self) -> Result<String, Failure> {
        let version = self
            .client
            .apiserver_version()
            .await
            .context("cannot ask the cluster for its version")?;
        Ok(version.git_version.trim_start_matches('v').to_owned())
    }
}

/// How nodes join, from kubeadm's own configuration inside the cluster.
async fn read_tenant(client: &Client) -> Result<Tenant> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    // A gateway that learns of a cluster with the first connection to it may close that one.
    let read = || maps.get("kubeadm-config");
    let map = read
        .retry(ExponentialBuilder::default().with_max_times(5))
        .when(|error| matches!(api_category(error), "network" | "timeout"))
        .await
        .context("cannot read its ConfigMap kubeadm-config")?;
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
