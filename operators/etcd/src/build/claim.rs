//! The volume claim of one member.
//!
//! It has no owner: it stays when its pod or its cluster goes, until something deletes it by its unique id.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::lasting_labels;
use crate::validate::Cluster;

const PREFIX: &str = "data-";

/// The name of the claim of one pod.
pub fn name(pod: &str) -> String {
    format!("{PREFIX}{pod}")
}

/// The pod that a claim belongs to.
pub fn pod_of(claim: &str) -> Option<&str> {
    claim.strip_prefix(PREFIX)
}

/// Builds the claim of one pod.
pub fn build_claim(cluster: &Cluster, pod: &str) -> PersistentVolumeClaim {
    let size = Quantity(cluster.volume_size.to_string());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name(pod)),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(lasting_labels(cluster)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: Some(cluster.storage_class.clone()),
            volume_mode: Some("Filesystem".to_owned()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
