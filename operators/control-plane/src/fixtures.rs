//! One control plane for all tests, read from YAML and through the real validation.

use k8s_openapi::api::apps::v1::DeploymentStatus;
use k8s_openapi::api::core::v1::Secret;
use skep_api::ControlPlane;

use crate::build::{api_server, controller_manager, etcd, scheduler};
use crate::observe::{Observed, SERVING};
use crate::validate::{Program, Tenant, validate};

/// The control plane of the fixture.
pub(crate) fn control_plane() -> ControlPlane {
    serde_saphyr::from_str(include_str!("../tests/control-plane.yaml")).unwrap()
}

/// The same, validated.
pub(crate) fn tenant() -> Tenant {
    validate(&control_plane()).unwrap()
}

/// A datastore that serves, with the apiserver's certificate towards it.
pub(crate) fn observed_serving() -> Observed {
    let mut cluster = etcd::build_etcd_cluster(&tenant());
    let mut status = skep_api::EtcdClusterStatus {
        ready_members: 1,
        ..Default::default()
    };
    status.conditions = skep_runtime::Conditions::new(&[], Some(1), jiff::Timestamp::UNIX_EPOCH)
        .set(
            SERVING,
            skep_runtime::ConditionStatus::True,
            "AsDesired",
            "1 member serves",
        )
        .build();
    cluster.status = Some(status);
    let mut observed = Observed {
        etcd: Some(cluster),
        ..Observed::default()
    };
    observed
        .secrets
        .insert(etcd::CLIENT_SECRET.to_owned(), Secret::default());
    observed
}

/// Adds a program's Deployment with so many replicas wanted and available.
pub(crate) fn observed_deployment(observed: &mut Observed, program: Program, replicas: i32, available: i32) {
    let tenant = tenant();
    let mut deployment = match program {
        Program::ApiServer => api_server::build_deployment(&tenant, replicas),
        Program::ControllerManager => controller_manager::build_deployment(&tenant),
        Program::Scheduler => scheduler::build_deployment(&tenant),
    };
    deployment.metadata.generation = Some(1);
    deployment.status = Some(DeploymentStatus {
        observed_generation: Some(1),
        replicas: Some(replicas),
        updated_replicas: Some(replicas),
        available_replicas: Some(available),
        ..DeploymentStatus::default()
    });
    observed.deployments.insert(program.name().to_owned(), deployment);
}
