//! The objects that the controller writes; pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::observe::Directory;
use super::{CONTROLLER, NODE_LABEL, STORAGE_CLASS, ZONE_LABEL};

/// What a volume of this directory is called.
pub(super) fn volume_name(node: &str, directory: &Directory) -> String {
    format!("{node}-{}", directory.name)
}

/// Builds the volume of a mounted directory.
pub(super) fn build_volume(node_name: &str, node: &Node, directory: &Directory) -> PersistentVolume {
    let mut labels = build_labels();
    labels.insert(NODE_LABEL.into(), node_name.into());
    if let Some(zone) = node.labels().get("topology.kubernetes.io/zone") {
        labels.insert(ZONE_LABEL.into(), zone.clone());
    }
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: "kubernetes.io/hostname".into(),
            operator: "In".into(),
            values: Some(vec![node_name.into()]),
        }]),
        ..NodeSelectorTerm::default()
    };
    let capacity = Quantity(format!("{}Mi", directory.bytes >> 20));
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(volume_name(node_name, directory)),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            capacity: Some(BTreeMap::from([("storage".into(), capacity)])),
            local: Some(LocalVolumeSource {
                path: directory.path.display().to_string(),
                ..Default::default()
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector {
                    node_selector_terms: vec![term],
                }),
            }),
            persistent_volume_reclaim_policy: Some("Retain".into()),
            storage_class_name: Some(STORAGE_CLASS.into()),
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// Builds the storage class of the volumes: bound where the pod is placed, and never provisioned.
pub fn build_storage_class() -> StorageClass {
    StorageClass {
        metadata: ObjectMeta {
            name: Some(STORAGE_CLASS.into()),
            labels: Some(build_labels()),
            ..ObjectMeta::default()
        },
        provisioner: "kubernetes.io/no-provisioner".into(),
        reclaim_policy: Some("Retain".into()),
        volume_binding_mode: Some("WaitForFirstConsumer".into()),
        ..StorageClass::default()
    }
}

fn build_labels() -> BTreeMap<String, String> {
    // A label's value has no slash.
    let manager = CONTROLLER.replace('/', "_");
    [
        ("app.kubernetes.io/name", "local-volumes".to_owned()),
        ("app.kubernetes.io/part-of", "skep".to_owned()),
        ("app.kubernetes.io/managed-by", manager),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let mut node = Node::default();
        node.labels_mut()
            .insert("topology.kubernetes.io/zone".into(), "a".into());
        let directory = Directory {
            name: "7".into(),
            path: "/var/lib/skep/volumes/7".into(),
            bytes: (2 << 30) + 5000,
        };
        insta::assert_yaml_snapshot!("volume", build_volume("skep-a-1", &node, &directory));
        insta::assert_yaml_snapshot!("storage_class", build_storage_class());
    }
}
