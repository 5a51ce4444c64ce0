//! Disruption budgets: a drain takes one pod of a component at a time.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{build_metadata, build_selector};
use crate::validate::{Program, Tenant};

/// Builds the budget of one component.
///
/// `maxUnavailable` rather than `minAvailable`: a tenant with one replica must not block a drain for ever.
pub fn build_budget(tenant: &Tenant, program: Program) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: build_metadata(tenant, program.name(), program.name()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(build_selector(tenant, program.name())),
            // A pod that is not ready guards nothing; without this it could block a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
