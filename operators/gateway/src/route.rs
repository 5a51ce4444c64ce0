//! What a control plane and its endpoint slices mean to the gateway: host names and addresses.
//!
//! Parsing only. An object that makes no sense gives no route; it never stops the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use skep_api::ControlPlane;
use skep_core::{Cpid, Endpoint};

/// The Service whose endpoint slices are a control plane's apiservers.
pub const API_SERVICE: &str = "kube-apiserver";
/// The standard label that names an endpoint slice's Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The port of an apiserver whose slice names none.
const API_PORT: u16 = 6443;

/// Why an object gives no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The object's name is no `cpid`.
    #[error("the name is no cpid")]
    Name(#[source] skep_core::identity::CpidError),
    /// The region or domain cannot be part of a host name.
    #[error("spec.{field} cannot be part of a host name")]
    HostName {
        /// The field.
        field: &'static str,
        /// Why.
        #[source]
        source: skep_core::names::NameError,
    },
}

/// The names under which the gateway accepts connections for one control plane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostNames {
    /// For people and programs.
    pub api: String,
    /// For worker nodes.
    pub node: String,
}

impl HostNames {
    /// The names, in the order in which they are published.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        [self.api.as_str(), self.node.as_str()].into_iter()
    }
}

/// Where connections for one control plane go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backends {
    ready: BTreeSet<SocketAddr>,
    ending: BTreeSet<SocketAddr>,
}

impl Backends {
    /// The addresses to publish: the ready ones; without any, those that end but still serve.
    pub fn published(&self) -> &BTreeSet<SocketAddr> {
        if self.ready.is_empty() {
            &self.ending
        } else {
            &self.ready
        }
    }

    /// Whether an apiserver is ready.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl FromIterator<Backends> for Backends {
    fn from_iter<T: IntoIterator<Item = Backends>>(parts: T) -> Self {
        let mut whole = Self::default();
        for Backends { ready, ending } in parts {
            whole.ready.extend(ready);
            whole.ending.extend(ending);
        }
        whole
    }
}

/// One control plane's way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The control plane.
    pub cpid: Cpid,
    /// Under which names.
    pub hosts: HostNames,
    /// To which addresses.
    pub backends: Backends,
}

/// The identity and the host names of a control plane.
///
/// # Errors
/// When the name, the region or the domain cannot be part of a host name.
pub fn host_names(control_plane: &ControlPlane) -> Result<(Cpid, HostNames), RouteError> {
    let name = control_plane.metadata.name.as_deref().unwrap_or_default();
    let cpid = name.parse().map_err(RouteError::Name)?;
    let wrong = |field| move |source| RouteError::HostName { field, source };
    let region = control_plane.spec.region.parse().map_err(wrong("region"))?;
    let domain = control_plane.spec.domain.parse().map_err(wrong("domain"))?;
    let Endpoint {
        api,
        node,
        konnectivity: _,
    } = Endpoint::new(&cpid, &region, &domain);
    Ok((cpid, HostNames { api, node }))
}

/// Whose endpoint slice this is: nobody's outside of the namespaces of control planes.
pub fn owner(slice: &EndpointSlice) -> Option<Cpid> {
    let is_api = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)? == API_SERVICE;
    let cpid = slice.metadata.namespace.as_deref()?.strip_prefix("cp-")?;
    cpid.parse().ok().filter(|_| is_api)
}

/// The addresses in one endpoint slice.
pub fn backends(slice: &EndpointSlice) -> Backends {
    let port = slice.ports.iter().flatten().find_map(|port| port.port);
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(API_PORT);
    slice
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| endpoint_backends(endpoint, port))
        .collect()
}

fn endpoint_backends(endpoint: &SliceEndpoint, port: u16) -> Backends {
    let addresses = endpoint
        .addresses
        .iter()
        .filter_map(|address| address.parse::<IpAddr>().ok());
    let addresses: BTreeSet<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // The API's rule: an unset `ready` or `serving` means yes.
    let ready = conditions.ready.unwrap_or(true);
    let is_ending = conditions.terminating.unwrap_or(false);
    let serving = conditions.serving.unwrap_or(ready);
    match (ready, is_ending && serving) {
        (true, _) => Backends {
            ready: addresses,
            ending: BTreeSet::new(),
        },
        (false, true) => Backends {
            ready: BTreeSet::new(),
            ending: addresses,
        },
        (false, false) => Backends::default(),
    }
}

/// The routes of a set of objects.
pub fn routes<'a>(
    control_planes: impl IntoIterator<Item = &'a ControlPlane>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<Route> {
    let mut by_owner: BTreeMap<Cpid, Vec<Backends>> = BTreeMap::new();
    for slice in slices {
        if let Some(cpid) = owner(slice) {
            by_owner.entry(cpid).or_default().push(backends(slice));
        }
    }
    let living = control_planes
        .into_iter()
        .filter(|known| known.metadata.deletion_timestamp.is_none());
    let named = living.filter_map(|known| host_names(known).ok());
    named
        .map(|(cpid, hosts)| {
            let backends = by_owner.remove(&cpid).into_iter().flatten().collect();
            Route {
                cpid,
                hosts,
                backends,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(namespace: &str, endpoints: &serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {"name": "s", "namespace": namespace, "labels": {SERVICE_LABEL: API_SERVICE}},
            "ports": [{"port": 6443}],
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn texts(backends: &Backends) -> Vec<String> {
        backends.published().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_ready_addresses_are_published() {
        let slice = slice(
            "cp-cabcdefghi",
            &json!([
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": false}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.4"]},
            ]),
        );
        let found = backends(&slice);
        assert_eq!(texts(&found), ["10.0.0.1:6443", "10.0.0.4:6443"]);
        assert!(found.is_ready());
    }

    #[test]
    fn an_apiserver_that_ends_serves_while_no_other_is_ready() {
        let ending = json!([
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.5"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ]);
        let found = backends(&slice("cp-cabcdefghi", &ending));
        assert_eq!(texts(&found), ["10.0.0.3:6443"]);
        assert!(!found.is_ready());
    }

    #[test]
    fn slices_of_others_have_no_owner() {
        assert!(owner(&slice("cp-cabcdefghi", &json!([]))).is_some());
        for namespace in ["default", "cp-x", "cabcdefghi", "kube-system"] {
            assert_eq!(owner(&slice(namespace, &json!([]))), None, "{namespace}");
        }
        let mut other = slice("cp-cabcdefghi", &json!([]));
        other.metadata.labels = Some([(SERVICE_LABEL.to_owned(), "etcd-client".to_owned())].into());
        assert_eq!(owner(&other), None);
    }
}
