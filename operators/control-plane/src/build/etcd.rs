//! The datastore's `EtcdCluster`; members, volumes and certificates are the etcd operator's business.

use skep_api::control_plane::EtcdTemplate;
use skep_api::etcd_cluster::{EtcdCluster, EtcdClusterSpec, VolumePolicy};

use super::labels::build_metadata;
use super::workload::PRIORITY_CLASS;
use crate::validate::Tenant;

/// The name of the `EtcdCluster`.
pub const NAME: &str = "etcd";
/// The client that kube-apiserver is to etcd; its certificate is in the Secret `etcd-client-apiserver`.
pub const CLIENT: &str = "apiserver";
/// The Secret that the etcd operator makes for [`CLIENT`].
pub const CLIENT_SECRET: &str = "etcd-client-apiserver";

/// The address at which kube-apiserver reaches its datastore.
pub fn client_url(tenant: &Tenant) -> String {
    format!("https://etcd-client.{}.svc:2379", tenant.namespace())
}

/// Builds the `EtcdCluster` from the control plane's template.
pub fn build_etcd_cluster(tenant: &Tenant) -> EtcdCluster {
    let EtcdTemplate {
        version,
        image,
        members,
        volume_size,
        storage_class,
        quota_bytes,
        resources,
    } = tenant.etcd.clone();
    EtcdCluster {
        metadata: build_metadata(tenant, NAME, NAME),
        spec: EtcdClusterSpec {
            version,
            image,
            members,
            volume_size,
            storage_class,
            quota_bytes,
            resources,
            priority_class: Some(PRIORITY_CLASS.to_owned()),
            clients: vec![CLIENT.to_owned()],
            volume_policy: VolumePolicy::Delete,
            // A platform operator's to raise, and told from what apiservers have started with.
            authority_rotation: 0,
            client_trust: None,
            avoid_nodes: Vec::new(),
            // As are snapshots, which need Secrets that only they have.
            snapshots: None,
            restore: None,
        },
        status: None,
    }
}
