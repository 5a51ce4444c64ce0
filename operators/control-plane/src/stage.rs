//! Decides what runs at this moment of a control plane's life.
//!
//! Pure, and from observed state alone. The first apiserver starts as soon as it can; the controllers start
//! when it answers; the other apiservers come last, because a cold apiserver costs seconds of CPU and on a
//! small cell would delay the moment at which the tenant is usable.

use k8s_openapi::api::apps::v1::Deployment;

use crate::build::Stage;
use crate::build::labels::VERSION;
use crate::cold_start::{Need, Part};
use crate::observe::Observed;
use crate::validate::{Program, Tenant};

const CONTROLLERS: [Program; 2] = [Program::ControllerManager, Program::Scheduler];

/// Decides the stage. `has_keys` says whether every Secret of ours is there.
pub fn decide_stage(tenant: &Tenant, observed: &Observed, has_keys: bool) -> Stage {
    Stage {
        api_servers: decide_api_servers(tenant, observed, has_keys),
        has_controllers: decide_controllers(tenant, observed),
    }
}

/// What a stage does with cold starts.
pub fn need_of(observed: &Observed, stage: Stage) -> Need {
    let wanted = stage.api_servers.unwrap_or(0);
    let current = replicas_of(observed);
    let has_controllers = have_controllers(observed);
    if observed.available(Program::ApiServer) < current
        || has_controllers && !has_available_controllers(observed)
    {
        Need::Starting
    } else if current == 0 && wanted > 0 {
        Need::Wanting(Part::FirstApiServer)
    } else if stage.has_controllers && !has_controllers {
        Need::Wanting(Part::Controllers)
    } else if wanted > current {
        Need::Wanting(Part::FurtherApiServers)
    } else {
        Need::Nothing
    }
}

/// The stage without the start that has to wait for its turn.
pub fn hold_back(observed: &Observed, stage: Stage) -> Stage {
    let current = observed
        .deployment(Program::ApiServer)
        .map(|_| replicas_of(observed));
    Stage {
        api_servers: current,
        has_controllers: stage.has_controllers && have_controllers(observed),
    }
}

fn have_controllers(observed: &Observed) -> bool {
    CONTROLLERS
        .iter()
        .any(|program| observed.deployment(*program).is_some())
}

fn replicas_of(observed: &Observed) -> i32 {
    let spec = observed
        .deployment(Program::ApiServer)
        .and_then(|deployment| deployment.spec.as_ref());
    spec.and_then(|spec| spec.replicas).unwrap_or(0)
}

fn decide_api_servers(tenant: &Tenant, observed: &Observed, has_keys: bool) -> Option<i32> {
    let wanted = tenant.api_server.replicas;
    let first = wanted.min(1);
    let Some(deployment) = observed.deployment(Program::ApiServer) else {
        return (has_keys && observed.is_datastore_at_hand()).then_some(first);
    };
    let current = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(first);
    let answers = observed.available(Program::ApiServer) >= 1;
    let is_settled = answers && has_available_controllers(observed);
    if current >= wanted || is_settled {
        Some(wanted)
    } else {
        Some(current.max(first))
    }
}

/// The controllers start once an apiserver answers and from then on stay; an upgrade reaches them only after
/// every apiserver runs the new version (they may be older than the apiserver, never newer).
fn decide_controllers(tenant: &Tenant, observed: &Observed) -> bool {
    if !have_controllers(observed) {
        return observed.available(Program::ApiServer) >= 1;
    }
    let is_newer_wanted = CONTROLLERS.iter().any(|program| {
        observed.deployment(*program).and_then(version_of) != Some(tenant.version.to_string().as_str())
    });
    !is_newer_wanted || rolled_out_version(observed).as_deref() == Some(tenant.version.to_string().as_str())
}

/// Whether one controller manager and one scheduler run.
pub fn has_available_controllers(observed: &Observed) -> bool {
    observed.available(Program::ControllerManager) >= 1 && observed.available(Program::Scheduler) >= 1
}

/// The version that every apiserver runs; nothing while a rollout is under way or none runs.
pub fn rolled_out_version(observed: &Observed) -> Option<String> {
    let deployment = observed.deployment(Program::ApiServer)?;
    is_rolled_out(deployment)
        .then(|| version_of(deployment).map(str::to_owned))
        .flatten()
}

/// Whether all pods of a Deployment are of its newest revision, and at least one can take requests.
pub fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else {
        return false;
    };
    let replicas = status.replicas.unwrap_or(0);
    status.observed_generation == deployment.metadata.generation
        && replicas > 0
        && status.updated_replicas == Some(replicas)
        && status.available_replicas.unwrap_or(0) >= 1
}

fn version_of(deployment: &Deployment) -> Option<&str> {
    let template = &deployment.spec.as_ref()?.template;
    template
        .metadata
        .as_ref()?
        .labels
        .as_ref()?
        .get(VERSION)
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{observed_deployment, observed_serving, tenant};

    fn stage(observed: &Observed) -> Stage {
        decide_stage(&tenant(), observed, true)
    }

    #[test]
    fn nothing_runs_before_keys_and_datastore_are_there() {
        let serving = observed_serving();
        assert_eq!(stage(&Observed::default()).api_servers, None);
        assert_eq!(decide_stage(&tenant(), &serving, false).api_servers, None);
        assert_eq!(
            stage(&serving),
            Stage {
                api_servers: Some(1),
                has_controllers: false
            }
        );
    }

    #[test]
    fn the_first_apiserver_starts_beside_an_only_member_of_its_datastore() {
        let mut observed = observed_serving();
        let mut tell = |reason: &str, members: i32| {
            let etcd = observed.etcd.as_mut().unwrap();
            etcd.spec.members = members;
            let condition = &mut etcd.status.as_mut().unwrap().conditions[0];
            (condition.status, condition.reason) = ("False".to_owned(), reason.to_owned());
            stage(&observed).api_servers
        };
        assert_eq!(tell("Waiting", 1), None);
        assert_eq!(tell("Starting", 1), Some(1));
        assert_eq!(tell("Starting", 3), None);
    }

    #[test]
    fn controllers_come_second_and_other_apiservers_last() {
        let mut observed = observed_serving();
        observed_deployment(&mut observed, Program::ApiServer, 1, 0);
        assert_eq!(
            stage(&observed),
            Stage {
                api_servers: Some(1),
                has_controllers: false
            }
        );
        observed_deployment(&mut observed, Program::ApiServer, 1, 1);
        assert_eq!(
            stage(&observed),
            Stage {
                api_servers: Some(1),
                has_controllers: true
            }
        );
        observed_deployment(&mut observed, Program::ControllerManager, 2, 1);
        observed_deployment(&mut observed, Program::Scheduler, 2, 1);
        assert_eq!(
            stage(&observed),
            Stage {
                api_servers: Some(3),
                has_controllers: true
            }
        );
    }

    #[test]
    fn a_start_that_waits_for_its_turn_changes_nothing() {
        let mut observed = observed_serving();
        let first = stage(&observed);
        assert_eq!(need_of(&observed, first), Need::Wanting(Part::FirstApiServer));
        assert_eq!(hold_back(&observed, first).api_servers, None);
        observed_deployment(&mut observed, Program::ApiServer, 1, 0);
        assert_eq!(need_of(&observed, stage(&observed)), Need::Starting);
        observed_deployment(&mut observed, Program::ApiServer, 1, 1);
        let second = stage(&observed);
        assert_eq!(need_of(&observed, second), Need::Wanting(Part::Controllers));
        assert_eq!(
            hold_back(&observed, second),
            Stage {
                api_servers: Some(1),
                has_controllers: false
            }
        );
        observed_deployment(&mut observed, Program::ControllerManager, 2, 0);
        assert_eq!(need_of(&observed, stage(&observed)), Need::Starting);
        observed_deployment(&mut observed, Program::ControllerManager, 2, 1);
        observed_deployment(&mut observed, Program::Scheduler, 2, 1);
        let further = stage(&observed);
        assert_eq!(
            need_of(&observed, further),
            Need::Wanting(Part::FurtherApiServers)
        );
        assert_eq!(
            hold_back(&observed, further),
            Stage {
                api_servers: Some(1),
                has_controllers: true
            }
        );
        observed_deployment(&mut observed, Program::ApiServer, 3, 3);
        assert_eq!(need_of(&observed, stage(&observed)), Need::Nothing);
    }

    #[test]
    fn an_outage_takes_no_replica_away() {
        let mut observed = observed_serving();
        observed_deployment(&mut observed, Program::ApiServer, 3, 0);
        observed_deployment(&mut observed, Program::ControllerManager, 2, 0);
        observed_deployment(&mut observed, Program::Scheduler, 2, 0);
        observed.etcd = None;
        observed.secrets.clear();
        let stage = decide_stage(&tenant(), &observed, false);
        assert_eq!(
            stage,
            Stage {
                api_servers: Some(3),
                has_controllers: true
            }
        );
    }

    #[test]
    fn an_upgrade_reaches_the_controllers_after_every_apiserver() {
        let mut observed = observed_serving();
        observed_deployment(&mut observed, Program::ApiServer, 3, 3);
        observed_deployment(&mut observed, Program::ControllerManager, 2, 2);
        observed_deployment(&mut observed, Program::Scheduler, 2, 2);
        let mut newer = tenant();
        newer.version = "1.37.0".parse().unwrap();
        assert!(!decide_stage(&newer, &observed, true).has_controllers);
        let deployment = crate::build::api_server::build_deployment(&newer, 3);
        let spec = deployment.spec.clone();
        observed.deployments.get_mut("kube-apiserver").unwrap().spec = spec;
        assert!(decide_stage(&newer, &observed, true).has_controllers);
        let status = observed
            .deployments
            .get_mut("kube-apiserver")
            .unwrap()
            .status
            .as_mut()
            .unwrap();
        status.updated_replicas = Some(2);
        assert!(!decide_stage(&newer, &observed, true).has_controllers);
    }
}
