//! The children of a tenant's control plane, built from the validated type alone: same input, same bytes.
//!
//! No client, no clock and no chance in here. Keys and certificates are `material`'s business.

pub mod api_server;
pub mod configuration;
pub mod controller_manager;
pub mod disruption;
pub mod etcd;
pub mod flags;
pub mod konnectivity;
pub mod labels;
pub mod namespace;
pub mod scheduler;
pub mod service;
pub mod trust;
pub mod workload;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use skep_api::EtcdCluster;

use crate::validate::{Program, Tenant};

/// The components that run at this moment of a control plane's life, and with how many pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The apiservers' replicas; nothing while secrets or datastore are missing.
    pub api_servers: Option<i32>,
    /// The controllers run from the moment that an apiserver has answered.
    pub has_controllers: bool,
}

/// Everything but Secrets that a control plane consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// The namespace; it must be there before everything else.
    pub namespace: Namespace,
    /// The datastore.
    pub etcd: EtcdCluster,
    /// The apiservers' address in the cell.
    pub service: Service,
    /// The apiservers' configuration files.
    pub configuration: ConfigMap,
    /// One budget for each component.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// The components of this stage.
    pub deployments: Vec<Deployment>,
}

/// Builds all children of a stage.
pub fn build_children(tenant: &Tenant, stage: Stage) -> Children {
    let mut deployments = Vec::new();
    if let Some(replicas) = stage.api_servers {
        deployments.push(api_server::build_deployment(tenant, replicas));
    }
    if stage.has_controllers {
        deployments.push(controller_manager::build_deployment(tenant));
        deployments.push(scheduler::build_deployment(tenant));
    }
    let programs = [Program::ApiServer, Program::ControllerManager, Program::Scheduler];
    Children {
        namespace: namespace::build_namespace(tenant),
        etcd: etcd::build_etcd_cluster(tenant),
        service: service::build_service(tenant),
        configuration: configuration::build_config_map(tenant),
        disruption_budgets: programs
            .map(|program| disruption::build_budget(tenant, program))
            .to_vec(),
        deployments,
    }
}

#[cfg(test)]
mod tests;
