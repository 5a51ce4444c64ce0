//! Builders of API clients with our user agent and bounded waits.
//!
//! Certificate checks are never turned off: a kubeconfig that asks for it is refused.

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::error::Categorised;

/// Time to connect to the API of the own cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence on a connection to the API of the own cluster; longer than a watch's bookmark period (60 s).
const READ_TIMEOUT: Duration = Duration::from_mins(2);
/// Time to connect to a tenant's API, which may be down for hours.
const TENANT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one request to a tenant's API.
const TENANT_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a pod's environment was found.
    #[error("cannot find the configuration of a cluster")]
    Infer(#[source] Box<kube::config::InferConfigError>),
    /// The pod has no service account.
    #[error("cannot read the pod's service account")]
    InCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig is not usable.
    #[error("the kubeconfig is not usable")]
    Kubeconfig(#[source] KubeconfigError),
    /// The kubeconfig is not UTF-8.
    #[error("the kubeconfig is not text")]
    NotText(#[source] std::str::Utf8Error),
    /// The kubeconfig turns off the check of the server's certificate.
    #[error("the kubeconfig sets insecure-skip-tls-verify")]
    Insecure,
    /// The user agent has characters that no header may have.
    #[error("controller name {name:?} cannot be a user agent")]
    UserAgent {
        /// The name.
        name: String,
    },
    /// The client's own error.
    #[error("cannot build the client")]
    Build(#[source] Box<kube::Error>),
}

impl Categorised for ClientError {
    fn category(&self) -> &'static str {
        "config"
    }
}

/// What a client is for; it decides timeouts and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientUse {
    /// The own cluster: watches, and the client's own retries on 429, 503 and 504.
    OwnCluster,
    /// A tenant's cluster: single requests with short timeouts and no retries inside the client. Not for
    /// watches: a read that is silent for 20 s ends.
    Tenant,
    /// Watches of a tenant's cluster: a silence of a watch's length, and no retries inside the client.
    TenantWatch,
}

/// Makes AWS-LC the process's TLS provider; may be called any number of times.
pub fn install_crypto() {
    // An error says that one is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The client of the own cluster: `KUBECONFIG` or `~/.kube/config`, else the pod's service account.
pub async fn own_cluster(controller: &str) -> Result<Client, ClientError> {
    let config = Config::infer()
        .await
        .map_err(|source| ClientError::Infer(Box::new(source)))?;
    build(config, controller, ClientUse::OwnCluster)
}

/// The client of the cluster that this pod runs in, whatever a kubeconfig says.
pub fn in_cluster(controller: &str) -> Result<Client, ClientError> {
    let config = Config::incluster().map_err(ClientError::InCluster)?;
    build(config, controller, ClientUse::OwnCluster)
}

/// A client from a kubeconfig's bytes and its current context.
pub async fn from_kubeconfig(
    bytes: &[u8],
    controller: &str,
    client_use: ClientUse,
) -> Result<Client, ClientError> {
    let text = std::str::from_utf8(bytes).map_err(ClientError::NotText)?;
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(ClientError::Kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(ClientError::Kubeconfig)?;
    build(config, controller, client_use)
}

/// Builds a client from a configuration that the caller may have changed (address, server name).
pub fn build(mut config: Config, controller: &str, client_use: ClientUse) -> Result<Client, ClientError> {
    if config.accept_invalid_certs {
        return Err(ClientError::Insecure);
    }
    install_crypto();
    let agent = HeaderValue::try_from(format!("skep/{controller}")).map_err(|_| ClientError::UserAgent {
        name: controller.to_owned(),
    })?;
    config.headers.retain(|(name, _)| name != USER_AGENT);
    config.headers.push((USER_AGENT, agent));
    config.reset_reader_on_write = true;
    match client_use {
        ClientUse::OwnCluster => {
            config.connect_timeout = Some(CONNECT_TIMEOUT);
            config.read_timeout = Some(READ_TIMEOUT);
            config.write_timeout = Some(READ_TIMEOUT);
        }
        ClientUse::Tenant => {
            config.connect_timeout = Some(TENANT_CONNECT_TIMEOUT);
            config.read_timeout = Some(TENANT_TIMEOUT);
            config.write_timeout = Some(TENANT_TIMEOUT);
            config.default_retry = false;
        }
        ClientUse::TenantWatch => {
            config.connect_timeout = Some(TENANT_CONNECT_TIMEOUT);
            config.read_timeout = Some(READ_TIMEOUT);
            config.write_timeout = Some(TENANT_TIMEOUT);
            config.default_retry = false;
        }
    }
    Client::try_from(config).map_err(|source| ClientError::Build(Box::new(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: INSECURE}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: here}}]
current-context: x
";

    #[tokio::test]
    async fn kubeconfig_gives_a_client() {
        let text = KUBECONFIG.replace("INSECURE", "false");
        let client = from_kubeconfig(text.as_bytes(), "agent", ClientUse::Tenant)
            .await
            .unwrap();
        assert_eq!(client.default_namespace(), "here");
    }

    #[tokio::test]
    async fn certificate_checks_stay_on() {
        let text = KUBECONFIG.replace("INSECURE", "true");
        let error = from_kubeconfig(text.as_bytes(), "agent", ClientUse::Tenant)
            .await
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, ClientError::Insecure));
    }
}
