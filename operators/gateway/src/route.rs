//! What a control plane, its endpoint slices and its record mean to the gateway: host names and addresses.
//!
//! Parsing only. An object that makes no sense gives no route; it never stops the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use skep_api::{ControlPlane, ControlPlaneSpec, DeploymentRecord};
use skep_core::{Cpid, Endpoint};

use crate::front::Front;

/// The Service whose endpoint slices are a control plane's apiservers.
pub const API_SERVICE: &str = "kube-apiserver";
/// The standard label that names an endpoint slice's Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The port of an apiserver whose slice names none.
const API_PORT: u16 = 6443;
/// The name of the port at which the way back takes agents.
const AGENT_PORT: &str = "konnectivity";

/// Why an object gives no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The object's name is no `cpid`.
    #[error("the name is no cpid")]
    Name(#[source] skep_core::identity::CpidError),
    /// The record is not named after its control plane.
    #[error("the name is not spec.cpid")]
    OtherName,
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
    /// For the agents of the way back.
    pub konnectivity: String,
}

impl HostNames {
    /// The names, in the order in which they are published.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        [self.api.as_str(), self.node.as_str(), self.konnectivity.as_str()].into_iter()
    }
}

/// Where connections for one control plane go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backends {
    ready: BTreeSet<SocketAddr>,
    ending: BTreeSet<SocketAddr>,
    unready: BTreeSet<SocketAddr>,
}

impl Backends {
    /// The addresses to publish: the ready ones; without any, those that end but still serve; and without these,
    /// those that are not ready. A probe tells a second late that an apiserver has started, and of one that lacks
    /// its datastore a client learns more from its own answer than from a closed connection.
    pub fn published(&self) -> &BTreeSet<SocketAddr> {
        let by_worth = [&self.ready, &self.ending, &self.unready];
        by_worth
            .into_iter()
            .find(|addresses| !addresses.is_empty())
            .unwrap_or(&self.unready)
    }

    /// Whether an apiserver is ready.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl FromIterator<Backends> for Backends {
    fn from_iter<T: IntoIterator<Item = Backends>>(parts: T) -> Self {
        let mut whole = Self::default();
        for Backends {
            ready,
            ending,
            unready,
        } in parts
        {
            whole.ready.extend(ready);
            whole.ending.extend(ending);
            whole.unready.extend(unready);
        }
        whole
    }
}

/// Where the two kinds of connections of one control plane go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doors {
    /// Apiservers.
    pub api: Backends,
    /// Servers of the way back, beside the apiservers.
    pub agents: Backends,
}

impl FromIterator<Doors> for Doors {
    fn from_iter<T: IntoIterator<Item = Doors>>(parts: T) -> Self {
        let (api, agents): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .map(|Doors { api, agents }| (api, agents))
            .unzip();
        Self {
            api: api.into_iter().collect(),
            agents: agents.into_iter().collect(),
        }
    }
}

/// Which way connections for one control plane take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To its pods in this cell.
    Local(Doors),
    /// To the gateway of the cell that it is in.
    Far(Arc<Front>),
}

/// One control plane's way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The control plane.
    pub cpid: Cpid,
    /// Under which names.
    pub hosts: HostNames,
    /// Which way.
    pub way: Way,
}

impl Route {
    /// Whether an apiserver in this cell is ready; nothing of a control plane in another cell, which that cell tells.
    pub fn is_ready(&self) -> Option<bool> {
        match &self.way {
            Way::Local(doors) => Some(doors.api.is_ready()),
            Way::Far(_) => None,
        }
    }
}

/// The identity and the host names of a control plane.
///
/// # Errors
/// When the name, the region or the domain cannot be part of a host name.
pub fn host_names(control_plane: &ControlPlane) -> Result<(Cpid, HostNames), RouteError> {
    let name = control_plane.metadata.name.as_deref().unwrap_or_default();
    let cpid = name.parse().map_err(RouteError::Name)?;
    let hosts = hosts_of(&cpid, &control_plane.spec)?;
    Ok((cpid, hosts))
}

/// The identity and the host names of a record's control plane.
///
/// # Errors
/// When the name is not the `cpid`, or the region or the domain cannot be part of a host name.
pub fn record_host_names(record: &DeploymentRecord) -> Result<(Cpid, HostNames), RouteError> {
    let name = record.metadata.name.as_deref().unwrap_or_default();
    let cpid = name.parse().map_err(RouteError::Name)?;
    if record.spec.cpid != name {
        return Err(RouteError::OtherName);
    }
    let hosts = hosts_of(&cpid, &record.spec.control_plane)?;
    Ok((cpid, hosts))
}

fn hosts_of(cpid: &Cpid, spec: &ControlPlaneSpec) -> Result<HostNames, RouteError> {
    let wrong = |field| move |source| RouteError::HostName { field, source };
    let region = spec.region.parse().map_err(wrong("region"))?;
    let domain = spec.domain.parse().map_err(wrong("domain"))?;
    let Endpoint {
        api,
        node,
        konnectivity,
    } = Endpoint::new(cpid, &region, &domain);
    Ok(HostNames {
        api,
        node,
        konnectivity,
    })
}

/// Whose endpoint slice this is: nobody's outside of the namespaces of control planes.
pub fn owner(slice: &EndpointSlice) -> Option<Cpid> {
    let is_api = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)? == API_SERVICE;
    let cpid = slice.metadata.namespace.as_deref()?.strip_prefix("cp-")?;
    cpid.parse().ok().filter(|_| is_api)
}

/// The addresses in one endpoint slice, for both kinds of connections.
pub fn doors(slice: &EndpointSlice) -> Doors {
    let ports = || slice.ports.iter().flatten();
    let is_for_agents = |name: Option<&str>| name == Some(AGENT_PORT);
    let number = |port: Option<i32>| port.and_then(|port| u16::try_from(port).ok());
    let api = ports()
        .filter(|port| !is_for_agents(port.name.as_deref()))
        .find_map(|port| number(port.port));
    let agents = ports()
        .filter(|port| is_for_agents(port.name.as_deref()))
        .find_map(|port| number(port.port));
    Doors {
        api: backends(slice, api.unwrap_or(API_PORT)),
        agents: agents.map(|port| backends(slice, port)).unwrap_or_default(),
    }
}

fn backends(slice: &EndpointSlice, port: u16) -> Backends {
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
    let mut backends = Backends::default();
    match (ready, is_ending) {
        (true, _) => backends.ready = addresses,
        (false, true) if serving => backends.ending = addresses,
        (false, true) => {}
        (false, false) => backends.unready = addresses,
    }
    backends
}

/// The routes of a set of this cell's objects.
pub fn routes<'a>(
    control_planes: impl IntoIterator<Item = &'a ControlPlane>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<Route> {
    let mut by_owner: BTreeMap<Cpid, Vec<Doors>> = BTreeMap::new();
    for slice in slices {
        if let Some(cpid) = owner(slice) {
            by_owner.entry(cpid).or_default().push(doors(slice));
        }
    }
    let living = control_planes
        .into_iter()
        .filter(|known| known.metadata.deletion_timestamp.is_none());
    let named = living.filter_map(|known| host_names(known).ok());
    named
        .map(|(cpid, hosts)| {
            let doors = by_owner.remove(&cpid).into_iter().flatten().collect();
            let way = Way::Local(doors);
            Route { cpid, hosts, way }
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
        let found = doors(&slice).api;
        assert_eq!(texts(&found), ["10.0.0.1:6443", "10.0.0.4:6443"]);
        assert!(found.is_ready());
    }

    #[test]
    fn agents_have_a_port_of_their_own_and_none_without_it() {
        let mut slice = slice("cp-cabcdefghi", &json!([{"addresses": ["10.0.0.1"]}]));
        assert!(doors(&slice).agents.published().is_empty());
        let ports = json!([{"name": "konnectivity", "port": 8132}, {"name": "https", "port": 6443}]);
        slice.ports = serde_json::from_value(ports).unwrap();
        let Doors { api, agents } = doors(&slice);
        assert_eq!(
            (texts(&api), texts(&agents)),
            (vec!["10.0.0.1:6443".into()], vec!["10.0.0.1:8132".into()])
        );
    }

    #[test]
    fn an_apiserver_that_ends_serves_while_no_other_is_ready() {
        let ending = json!([
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.5"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ]);
        let found = doors(&slice("cp-cabcdefghi", &ending)).api;
        assert_eq!(texts(&found), ["10.0.0.3:6443"]);
        assert!(!found.is_ready());
    }

    #[test]
    fn an_apiserver_that_is_not_ready_is_published_while_no_other_serves() {
        let starting = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": false}});
        let ending = json!(
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}}
        );
        let found = |endpoints| doors(&slice("cp-cabcdefghi", &endpoints)).api;
        let alone = found(json!([starting]));
        assert_eq!(texts(&alone), ["10.0.0.1:6443"]);
        assert!(!alone.is_ready());
        assert_eq!(texts(&found(json!([starting, ending]))), ["10.0.0.3:6443"]);
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
