//! Derives a control plane's status from what was observed, and says what is waited for.
//!
//! Pure: the clock is an argument. The apply step writes it only when it differs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use skep_api::{ControlPlane, ControlPlaneStatus};
use skep_core::reasons;
use skep_runtime::conditions::{self, ConditionStatus, Conditions};
use skep_runtime::error::chain;

use crate::bootstrap::Bootstrap;
use crate::build::etcd;
use crate::cold_start::Turn;
use crate::inside::Inside;
use crate::material::{Material, MaterialError, is_complete};
use crate::observe::{Observed, SERVING};
use crate::stage::{is_rolled_out, rolled_out_version};
use crate::validate::{InvalidSpec, Program, Tenant};

/// The conditions of this controller beside `Ready`. Others write theirs into the same list (the gateway:
/// `RouteReady`), and taking one over would freeze it.
const OWN: [&str; 7] = [
    reasons::CERTIFICATES_READY,
    reasons::DATASTORE_READY,
    reasons::API_READY,
    reasons::CONTROLLERS_READY,
    reasons::BOOTSTRAPPED,
    reasons::COMPONENTS_APPLIED,
    reasons::PROGRESSING,
];

/// Everything that a status is derived from.
pub struct Facts<'a> {
    /// The object, with its last status.
    pub object: &'a ControlPlane,
    /// As it shall be.
    pub tenant: &'a Tenant,
    /// As it is.
    pub observed: &'a Observed,
    /// Its keys.
    pub material: Result<&'a Material, &'a MaterialError>,
    /// Its bootstrap data.
    pub bootstrap: &'a Bootstrap,
    /// What runs inside it.
    pub inside: &'a Inside,
    /// Whether an apiserver has to wait before it may start.
    pub turn: Turn,
    /// What kept the last writes from succeeding.
    pub problem: Option<String>,
}

/// One condition before it is stamped.
struct Finding {
    type_: &'static str,
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn holds(type_: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: ConditionStatus::True,
            reason: reasons::AS_DESIRED,
            message: message.into(),
        }
    }

    fn waits(type_: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: ConditionStatus::False,
            reason: reasons::WAITING,
            message: message.into(),
        }
    }

    fn fails(type_: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason: reasons::FAILED,
            ..Self::waits(type_, message)
        }
    }

    fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// Derives the status of a control plane.
pub fn build_status(facts: &Facts<'_>, now: Timestamp) -> ControlPlaneStatus {
    let last = facts.object.status.clone().unwrap_or_default();
    let findings = [
        find_certificates(facts),
        find_datastore(facts.observed),
        find_api(facts),
        find_controllers(facts),
        find_bootstrap(facts, &last.conditions),
    ];
    let mut set = Conditions::new(&last.conditions, facts.object.metadata.generation, now);
    let ready = summarise(&findings, facts.problem.as_deref());
    for finding in std::iter::once(ready)
        .chain(findings)
        // A control plane serves without what runs on its tenant's nodes.
        .chain([find_inside(facts, &last.conditions), find_progress(facts)])
    {
        set = set.set(finding.type_, finding.status, finding.reason, finding.message);
    }
    let authority = facts
        .material
        .ok()
        .map(|material| material.certificate_authority.to_string());
    ControlPlaneStatus {
        observed_generation: facts.object.metadata.generation,
        version: rolled_out_version(facts.observed).or(last.version),
        endpoint: Some(facts.tenant.endpoint.api.clone()),
        certificate_authority: authority.or(last.certificate_authority),
        conditions: set.build(),
    }
}

/// The status of a control plane whose spec cannot be acted upon; what runs goes on running.
pub fn build_invalid(object: &ControlPlane, error: &InvalidSpec, now: Timestamp) -> ControlPlaneStatus {
    build_not_ready(object, reasons::INVALID_SPEC, &error.to_string(), now)
}

/// The status of a control plane that is being deleted.
pub fn build_deleting(object: &ControlPlane, message: &str, now: Timestamp) -> ControlPlaneStatus {
    build_not_ready(object, reasons::DELETING, message, now)
}

/// The status of a control plane that must wait before anything can be done.
pub fn build_waiting(object: &ControlPlane, message: &str, now: Timestamp) -> ControlPlaneStatus {
    build_not_ready(object, reasons::WAITING, message, now)
}

fn build_not_ready(object: &ControlPlane, reason: &str, message: &str, now: Timestamp) -> ControlPlaneStatus {
    let last = object.status.clone().unwrap_or_default();
    let mut set = Conditions::new(&last.conditions, object.metadata.generation, now);
    set = set.set(reasons::READY, ConditionStatus::False, reason, message);
    for type_ in OWN {
        set = set.keep(type_);
    }
    ControlPlaneStatus {
        observed_generation: object.metadata.generation,
        conditions: set.build(),
        ..last
    }
}

fn summarise(findings: &[Finding], problem: Option<&str>) -> Finding {
    let missing = findings.iter().find(|finding| !finding.is_true());
    match (missing, problem) {
        (None, None) => Finding::holds(reasons::READY, "the control plane serves"),
        (None, Some(problem)) => {
            Finding::holds(reasons::READY, format!("the control plane serves; {problem}"))
        }
        (Some(finding), None) => Finding {
            type_: reasons::READY,
            message: finding.message.clone(),
            ..*finding
        },
        (Some(finding), Some(problem)) => {
            Finding::fails(reasons::READY, format!("{}; {problem}", finding.message))
        }
    }
}

fn find_certificates(facts: &Facts<'_>) -> Finding {
    let type_ = reasons::CERTIFICATES_READY;
    match facts.material {
        Err(error) => Finding::fails(type_, chain(error)),
        Ok(_) if !is_complete(&facts.observed.secrets) => Finding::waits(type_, "keys are being made"),
        Ok(material) => Finding::holds(
            type_,
            material.first_expiry.map_or_else(
                || "every certificate is fresh".to_owned(),
                |end| format!("the first certificate ends on {}", conditions::to_second(end)),
            ),
        ),
    }
}

fn find_datastore(observed: &Observed) -> Finding {
    let type_ = reasons::DATASTORE_READY;
    let found = observed
        .etcd
        .as_ref()
        .and_then(|etcd| Some((etcd.spec.members, etcd.status.as_ref()?)));
    let Some((members, status)) = found else {
        return Finding::waits(type_, "waiting for etcd to be started");
    };
    if !conditions::is_true(&status.conditions, SERVING) {
        let why = conditions::find(&status.conditions, SERVING)
            .or_else(|| conditions::find(&status.conditions, reasons::READY))
            .map_or("it has not said why", |condition| condition.message.as_str());
        return Finding::waits(type_, format!("waiting for etcd: {why}"));
    }
    if !observed.secrets.contains_key(etcd::CLIENT_SECRET) {
        return Finding::waits(type_, format!("waiting for secret {}", etcd::CLIENT_SECRET));
    }
    Finding::holds(
        type_,
        format!("etcd serves with {} of {members} members", status.ready_members),
    )
}

fn find_api(facts: &Facts<'_>) -> Finding {
    let type_ = reasons::API_READY;
    let wanted = facts.tenant.api_server.replicas;
    match (
        facts.observed.deployment(Program::ApiServer),
        facts.observed.available(Program::ApiServer),
    ) {
        (None, _) => Finding::waits(
            type_,
            facts
                .turn
                .message()
                .unwrap_or_else(|| "waiting for keys and datastore before kube-apiserver starts".into()),
        ),
        (Some(_), 0) if wanted == 0 => Finding::waits(type_, "kube-apiserver is scaled to zero"),
        (Some(_), 0) => Finding::waits(type_, "waiting for kube-apiserver to answer"),
        (Some(_), _) => Finding::holds(type_, "kube-apiserver answers"),
    }
}

fn find_controllers(facts: &Facts<'_>) -> Finding {
    let observed = facts.observed;
    let missing: Vec<&str> = [Program::ControllerManager, Program::Scheduler]
        .into_iter()
        .filter(|program| observed.available(*program) == 0)
        .map(Program::name)
        .collect();
    if missing.is_empty() {
        return Finding::holds(reasons::CONTROLLERS_READY, "controller manager and scheduler run");
    }
    let turn = facts
        .turn
        .message()
        .filter(|_| observed.available(Program::ApiServer) > 0);
    let message = turn.unwrap_or_else(|| format!("waiting for {}", missing.join(" and ")));
    Finding::waits(reasons::CONTROLLERS_READY, message)
}

fn find_bootstrap(facts: &Facts<'_>, last: &[Condition]) -> Finding {
    let type_ = reasons::BOOTSTRAPPED;
    let done = Finding::holds(type_, "the tenant holds its bootstrap data");
    match facts.bootstrap {
        Bootstrap::Done => done,
        Bootstrap::NotTried if conditions::is_true(last, type_) => done,
        Bootstrap::NotTried => Finding::waits(type_, "waiting for kube-apiserver to answer"),
        Bootstrap::Failed(why) => Finding::fails(type_, why.clone()),
    }
}

fn find_inside(facts: &Facts<'_>, last: &[Condition]) -> Finding {
    let type_ = reasons::COMPONENTS_APPLIED;
    match facts.inside {
        Inside::Applied(count) => Finding::holds(type_, format!("{count} objects are in the tenant")),
        Inside::NotTried => match conditions::find(last, type_) {
            Some(known) if known.status == "True" => Finding::holds(type_, known.message.clone()),
            _ => Finding::waits(type_, "waiting for kube-apiserver to answer"),
        },
        Inside::Failed(why) => Finding::fails(type_, why.clone()),
    }
}

/// Whether replicas or versions are still on their way; a control plane can be ready meanwhile.
fn find_progress(facts: &Facts<'_>) -> Finding {
    let Tenant {
        api_server,
        controller_manager,
        scheduler,
        ..
    } = facts.tenant;
    let parts = [
        (Program::ApiServer, api_server.replicas),
        (Program::ControllerManager, controller_manager.replicas),
        (Program::Scheduler, scheduler.replicas),
    ];
    let moving: Vec<String> = parts
        .into_iter()
        .filter(|(program, wanted)| {
            let is_rolled_out = facts.observed.deployment(*program).is_some_and(is_rolled_out);
            !is_rolled_out || facts.observed.available(*program) < *wanted
        })
        .map(|(program, wanted)| {
            format!(
                "{} of {wanted} {} available",
                facts.observed.available(program),
                program.name()
            )
        })
        .collect();
    if moving.is_empty() {
        let message = "every replica runs as desired";
        return Finding {
            status: ConditionStatus::False,
            ..Finding::holds(reasons::PROGRESSING, message)
        };
    }
    Finding {
        status: ConditionStatus::True,
        ..Finding::waits(reasons::PROGRESSING, moving.join(", "))
    }
}

#[cfg(test)]
mod tests;
