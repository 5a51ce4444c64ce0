//! The Kubernetes objects of a datastore: pure functions of the validated [`Cluster`], one file per kind.

pub mod authority;
pub mod certificates;
pub mod claim;
pub mod disruption_budget;
pub mod drill;
pub mod pod;
pub mod recovering;
pub mod restoring;
pub mod service;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_core::labels;

use crate::validate::Cluster;

/// The value of the label that says who made an object; a label's value may not hold a slash.
pub const MANAGED_BY: &str = "skep-etcd";
/// The label that tells the children of one cluster from those of a namesake that lived before.
pub const UID_LABEL: &str = "skep.dev/etcd-uid";

/// The label that takes the place of [`UID_LABEL`] on the volume claim of a member that a restore has replaced.
pub const SET_ASIDE_LABEL: &str = "skep.dev/etcd-set-aside-by";

/// The port for clients.
pub const CLIENT_PORT: i32 = 2379;
/// The port for other members.
pub const PEER_PORT: i32 = 2380;
/// The port for probes and metrics, without TLS.
pub const METRICS_PORT: i32 = 2381;
/// The port for what is not gRPC, on the member's own loopback.
pub const HTTP_PORT: i32 = 2382;

/// What selects the children of exactly this cluster.
pub fn selector(name: &str, uid: &str) -> String {
    format!(
        "{}={MANAGED_BY},{}={name},{UID_LABEL}={uid}",
        labels::APP_MANAGED_BY,
        labels::APP_INSTANCE
    )
}

/// What selects the children of this cluster and of namesakes that lived before.
pub fn selector_of_name(name: &str) -> String {
    format!(
        "{}={MANAGED_BY},{}={name}",
        labels::APP_MANAGED_BY,
        labels::APP_INSTANCE
    )
}

/// What selects the children of all clusters.
pub fn selector_of_all() -> String {
    format!("{}={MANAGED_BY}", labels::APP_MANAGED_BY)
}

/// The labels of the members of this cluster and of nothing else; never changed.
pub fn member_labels(cluster: &Cluster) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::APP_NAME.to_owned(), "etcd".to_owned()),
        (labels::APP_INSTANCE.to_owned(), cluster.name.clone()),
        (labels::APP_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
        (UID_LABEL.to_owned(), cluster.uid.clone()),
    ])
}

/// The labels of pods and claims, which are never changed: no tenant's name, as tenants may be renamed.
pub fn lasting_labels(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut lasting = member_labels(cluster);
    let cpid = cluster.labels.get(labels::CPID);
    lasting.extend(cpid.map(|cpid| (labels::CPID.to_owned(), cpid.clone())));
    lasting.insert(labels::APP_COMPONENT.to_owned(), "etcd".to_owned());
    lasting.insert(labels::APP_PART_OF.to_owned(), "skep".to_owned());
    lasting.insert(labels::COMPONENT.to_owned(), "etcd".to_owned());
    lasting
}

/// The labels of every other child.
pub fn all_labels(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut all = cluster.labels.clone();
    all.extend(lasting_labels(cluster));
    all
}

/// The metadata of a child that goes with the cluster.
pub fn owned(cluster: &Cluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(all_labels(cluster)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The name of the headless Service that gives members their host names.
pub fn peer_service(name: &str) -> String {
    format!("{name}-peer")
}

/// The name of the Service for clients.
pub fn client_service(name: &str) -> String {
    format!("{name}-client")
}

/// The host name of one member.
pub fn member_host(cluster: &Cluster, pod: &str) -> String {
    format!("{pod}.{}.{}.svc", peer_service(&cluster.name), cluster.namespace)
}

/// The URL at which other members reach one member.
pub fn peer_url(cluster: &Cluster, pod: &str) -> String {
    format!("https://{}:{PEER_PORT}", member_host(cluster, pod))
}

/// The pod that a peer URL names; nothing where it is no URL of this cluster.
pub fn pod_of_peer_url(cluster: &Cluster, url: &str) -> Option<String> {
    let pod = url.strip_prefix("https://")?.split('.').next()?;
    (!pod.is_empty() && peer_url(cluster, pod) == url).then(|| pod.to_owned())
}

#[cfg(test)]
mod tests;
