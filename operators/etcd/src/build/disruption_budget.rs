//! The budget that keeps a drain from taking the quorum.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{member_labels, owned};
use crate::observed::quorum;
use crate::validate::Cluster;

/// Builds the budget: a quorum of the members that there shall be stays available.
pub fn build_disruption_budget(cluster: &Cluster) -> PodDisruptionBudget {
    let available = i32::try_from(quorum(cluster.members)).unwrap_or(i32::MAX);
    PodDisruptionBudget {
        metadata: owned(cluster, cluster.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(available)),
            selector: Some(LabelSelector {
                match_labels: Some(member_labels(cluster)),
                ..LabelSelector::default()
            }),
            // A pod that is not ready holds no vote that a drain could take.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
