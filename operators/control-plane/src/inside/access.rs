//! The way to a tenant's own API: as `system:masters`, by an address and the name in the certificate, so that it needs
//! no DNS. The address is the Service's, or while it leads nowhere that of an apiserver that answers already.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use skep_runtime::client::{self, ClientUse};
use skep_runtime::{Categorised, ClientError};

use crate::CONTROLLER;
use crate::build::service::{API_PORT, service_host};
use crate::material::text;
use crate::observe::Observed;
use crate::secrets::{KUBECONFIG, OPERATOR_KUBECONFIG};
use crate::validate::Tenant;

/// A tenant that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The Secret or Service that says how to reach the tenant is not there.
    #[error("{0} is not there yet")]
    Missing(&'static str),
    /// The operator's kubeconfig cannot be used.
    #[error("the operator's kubeconfig cannot be used")]
    Kubeconfig(#[source] KubeconfigError),
    /// The address of the Service cannot be used.
    #[error("{0:?} is no address")]
    Address(String),
    /// The client could not be built.
    #[error("cannot build a client of the tenant")]
    Client(#[source] ClientError),
}

impl Categorised for ConnectError {
    fn category(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Kubeconfig(_) | Self::Address(_) | Self::Client(_) => "config",
        }
    }
}

/// What it takes to reach one tenant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Access {
    kubeconfig: String,
    url: String,
    server_name: String,
}

impl Access {
    /// Reads it off what was observed.
    ///
    /// # Errors
    /// When the kubeconfig or the Service's address is not there.
    pub fn of(tenant: &Tenant, observed: &Observed) -> Result<Self, ConnectError> {
        let secret = observed.secrets.get(OPERATOR_KUBECONFIG);
        let kubeconfig = secret
            .and_then(|secret| text(secret, KUBECONFIG))
            .ok_or(ConnectError::Missing("the operator's kubeconfig"))?;
        let address = observed.service.as_ref().and_then(address_of);
        let address = observed.answering.as_deref().or(address);
        let address = address.ok_or(ConnectError::Missing("the address of service kube-apiserver"))?;
        Ok(Self {
            kubeconfig: kubeconfig.to_owned(),
            url: url_of(address),
            server_name: service_host(tenant),
        })
    }

    /// The way to the apiserver at one address.
    pub fn at(&self, address: &str) -> Self {
        Self {
            url: url_of(address),
            ..self.clone()
        }
    }

    /// Makes a client.
    ///
    /// # Errors
    /// When the kubeconfig or the address cannot be used.
    pub async fn connect(&self, client_use: ClientUse) -> Result<Client, ConnectError> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig).map_err(ConnectError::Kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(ConnectError::Kubeconfig)?;
        config.cluster_url = self
            .url
            .parse()
            .map_err(|_| ConnectError::Address(self.url.clone()))?;
        config.tls_server_name = Some(self.server_name.clone());
        client::build(config, CONTROLLER, client_use).map_err(ConnectError::Client)
    }
}

fn url_of(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{API_PORT}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("https://{address}:{API_PORT}"),
    }
}

fn address_of(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    Some(address).filter(|address| !address.is_empty() && *address != "None")
}
