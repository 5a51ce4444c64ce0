//! The namespace of a control plane, under the restricted Pod Security standard.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::labels::build_labels;
use crate::validate::Tenant;

/// Builds the namespace `cp-<cpid>`.
pub fn build_namespace(tenant: &Tenant) -> Namespace {
    let mut labels = build_labels(tenant, "namespace");
    for mode in ["enforce", "audit", "warn"] {
        labels.insert(
            format!("pod-security.kubernetes.io/{mode}"),
            "restricted".to_owned(),
        );
    }
    Namespace {
        metadata: ObjectMeta {
            name: Some(tenant.namespace()),
            labels: Some(labels),
            owner_references: Some(vec![tenant.owner.clone()]),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}
