//! Labels and metadata of a control plane's children.
//!
//! Pods carry the `cpid` and never the tenant's name: a control plane that is claimed from a warm pool or
//! renamed must not roll.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use skep_core::labels;

use crate::validate::Tenant;

/// The value of `app.kubernetes.io/managed-by` on everything that this operator makes (a label's value may
/// not hold the field manager's slash).
pub const MANAGED_BY: &str = "skep.dev_control-plane";

/// The label selector that finds everything that this operator made.
pub fn owned_selector() -> String {
    format!("{}={MANAGED_BY}", labels::APP_MANAGED_BY)
}

/// The labels that never change in a control plane's life, as pods and selectors carry them.
pub fn build_selector_labels(tenant: &Tenant, component: &str) -> BTreeMap<String, String> {
    [
        (labels::APP_NAME, component),
        (labels::APP_INSTANCE, tenant.cpid.as_str()),
        (labels::CPID, tenant.cpid.as_str()),
        (labels::COMPONENT, component),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The selector of one component's pods.
pub fn build_selector(tenant: &Tenant, component: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(build_selector_labels(tenant, component)),
        ..LabelSelector::default()
    }
}

/// The labels of a pod.
pub fn build_pod_labels(tenant: &Tenant, component: &str) -> BTreeMap<String, String> {
    let mut all = build_selector_labels(tenant, component);
    all.insert(labels::APP_COMPONENT.to_owned(), component.to_owned());
    all.insert(labels::APP_PART_OF.to_owned(), "skep".to_owned());
    all.insert(labels::APP_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
    all.insert(VERSION.to_owned(), tenant.version.to_string());
    all
}

/// Standard: the application's version; on pods of Kubernetes' own components.
pub const VERSION: &str = "app.kubernetes.io/version";

/// The labels of any other child.
pub fn build_labels(tenant: &Tenant, component: &str) -> BTreeMap<String, String> {
    let mut all = build_pod_labels(tenant, component);
    all.remove(VERSION);
    all.insert(labels::PROJECT.to_owned(), tenant.project.to_string());
    all.insert(labels::CLUSTER.to_owned(), tenant.cluster.to_string());
    all.insert(labels::CLASS.to_owned(), tenant.class.clone());
    all.insert(labels::PROFILE.to_owned(), tenant.profile.clone());
    all
}

/// The metadata of a child in the control plane's namespace.
pub fn build_metadata(tenant: &Tenant, component: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(tenant.namespace()),
        labels: Some(build_labels(tenant, component)),
        owner_references: Some(vec![tenant.owner.clone()]),
        ..ObjectMeta::default()
    }
}
