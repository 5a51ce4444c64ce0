//! A record and the control plane that it becomes: pure.
//!
//! A control plane is a record's only when both were made for the same tenant, by its unique id. One that is
//! not, and one that is going, are never written to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::ResourceExt;
use skep_api::{ControlPlane, DeploymentRecord, DeploymentRecordStatus};
use skep_core::{CellName, labels, reasons};
use skep_runtime::conditions::{find, is_true_for};
use skep_runtime::{ConditionStatus, Conditions};

use crate::{MANAGED_BY, REVISION};

/// What shall be done for a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write this control plane.
    Apply(Box<ControlPlane>),
    /// It is written; the cell is at work or done.
    Keep,
    /// Delete the control plane that was observed.
    Delete,
    /// Wait until the observed control plane is gone.
    Await,
    /// Nothing is left.
    Gone,
    /// The record cannot be acted upon.
    Refuse(&'static str),
}

/// What there is to say of a record.
#[derive(Debug, Clone, Copy)]
pub enum Finding<'a> {
    /// Its control plane is written, and stands like this.
    Standing(&'a ControlPlane),
    /// Its control plane, or a predecessor's, is being removed.
    Removing(&'a ControlPlane),
    /// Nothing is left of it.
    Gone,
    /// It cannot be acted upon, for this reason.
    Refused(&'a str),
}

/// Decides from the record and the control plane of its name. `observed` must be what the API says, not what
/// a cache lacks.
pub fn decide(cell: &CellName, record: &DeploymentRecord, observed: Option<&ControlPlane>) -> Decision {
    let tenant = &record.spec.tenant;
    let is_deleting = record.metadata.deletion_timestamp.is_some();
    let ours = observed.filter(|observed| observed.spec.tenant.uid == tenant.uid);
    match (observed, ours) {
        _ if record.metadata.name.as_deref() != Some(record.spec.cpid.as_str()) => {
            refuse(is_deleting, "the record must be named after its cpid")
        }
        _ if record.spec.control_plane.tenant != *tenant => refuse(
            is_deleting,
            "spec.controlPlane.tenant must be the tenant of the record",
        ),
        (_, Some(ours)) if ours.metadata.deletion_timestamp.is_some() => Decision::Await,
        (_, Some(_)) if is_deleting => Decision::Delete,
        (_, None) if is_deleting => Decision::Gone,
        (Some(other), None) if other.metadata.deletion_timestamp.is_some() => Decision::Await,
        (Some(_), None) => Decision::Refuse("the control plane of this cpid is another tenant's"),
        (_, ours) => {
            let desired = build_control_plane(cell, record, ours);
            if ours.is_some_and(|ours| is_applied(&desired, ours)) {
                Decision::Keep
            } else {
                Decision::Apply(Box::new(desired))
            }
        }
    }
}

/// A record of which nothing can have been made has nothing to be removed.
fn refuse(is_deleting: bool, why: &'static str) -> Decision {
    if is_deleting {
        Decision::Gone
    } else {
        Decision::Refuse(why)
    }
}

/// Builds the control plane of a record. The uid of the observed one makes the write one on exactly that
/// object, and a conflict when it was replaced meanwhile.
pub fn build_control_plane(
    cell: &CellName,
    record: &DeploymentRecord,
    observed: Option<&ControlPlane>,
) -> ControlPlane {
    let mut annotations = BTreeMap::from([(REVISION.to_owned(), record.spec.revision.clone())]);
    if let Some(trace) = record.annotations().get(labels::TRACEPARENT) {
        annotations.insert(labels::TRACEPARENT.to_owned(), trace.clone());
    }
    let metadata = ObjectMeta {
        name: Some(record.spec.cpid.clone()),
        uid: observed.and_then(ResourceExt::uid),
        labels: Some(build_labels(cell, record)),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    ControlPlane {
        metadata,
        spec: record.spec.control_plane.clone(),
        status: None,
    }
}

fn build_labels(cell: &CellName, record: &DeploymentRecord) -> BTreeMap<String, String> {
    let (spec, cpid) = (&record.spec, &record.spec.cpid);
    let pairs = [
        (labels::CELL, cell.as_str()),
        (labels::PROJECT, &spec.tenant.project),
        (labels::CLUSTER, &spec.tenant.name),
        (labels::CPID, cpid),
        (labels::CLASS, &spec.control_plane.class),
        (labels::PROFILE, &spec.control_plane.profile),
        (labels::APP_NAME, "control-plane"),
        (labels::APP_INSTANCE, cpid),
        (labels::APP_PART_OF, "skep"),
        (labels::APP_MANAGED_BY, MANAGED_BY),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn is_applied(desired: &ControlPlane, observed: &ControlPlane) -> bool {
    let holds = |known: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| known.get(key) == Some(value))
    };
    desired.spec == observed.spec
        && holds(observed.labels(), desired.labels())
        && holds(observed.annotations(), desired.annotations())
}

/// Builds the status of a record.
///
/// `observedGeneration` says that the cell took the record, `observedRevision` that it made it true: the
/// revision of a control plane that is ready in its present generation. An earlier revision stays until then.
pub fn build_status(
    record: &DeploymentRecord,
    finding: Finding<'_>,
    now: Timestamp,
) -> DeploymentRecordStatus {
    let mut status = record.status.clone().unwrap_or_default();
    let known = std::mem::take(&mut status.conditions);
    let conditions = Conditions::new(&known, record.metadata.generation, now);
    let not_ready = |reason, message: &str| {
        conditions
            .clone()
            .set(reasons::READY, ConditionStatus::False, reason, message)
    };
    status.observed_generation = record.metadata.generation;
    status.conditions = match finding {
        Finding::Standing(plane) => {
            let said = plane.status.clone().unwrap_or_default();
            status.version = said.version.or(status.version);
            status.certificate_authority = said.certificate_authority.or(status.certificate_authority);
            if is_true_of(plane) {
                status.observed_revision = revision(plane).or(status.observed_revision);
            }
            let waiting = format!("waiting for the cell to act on revision {}", record.spec.revision);
            let ready = match find(&said.conditions, reasons::READY) {
                Some(told) if is_settled(record, plane) => vec![told.clone()],
                _ => not_ready(reasons::WAITING, &waiting).build(),
            };
            copied(ready, &said.conditions, record.metadata.generation)
        }
        Finding::Removing(plane) => {
            let told = plane
                .status
                .as_ref()
                .and_then(|said| find(&said.conditions, reasons::READY));
            let told = told
                .filter(|told| told.reason == reasons::DELETING)
                .map(|told| told.message.as_str());
            not_ready(
                reasons::DELETING,
                told.unwrap_or("the cell removes the control plane"),
            )
            .build()
        }
        Finding::Gone => {
            let message = "nothing is left in the cell";
            not_ready(reasons::DELETING, message)
                .set(
                    reasons::DELETED,
                    ConditionStatus::True,
                    reasons::AS_DESIRED,
                    message,
                )
                .build()
        }
        Finding::Refused(why) => copied(
            not_ready(reasons::INVALID_SPEC, why).build(),
            &known,
            record.metadata.generation,
        ),
    };
    status
}

/// `ready` and whatever else was said. The conditions speak to the hub, so that they name the record's
/// generation and not the control plane's.
fn copied(ready: Vec<Condition>, said: &[Condition], generation: Option<i64>) -> Vec<Condition> {
    let others = said.iter().filter(|told| told.type_ != reasons::READY).cloned();
    let all = ready.into_iter().chain(others);
    all.map(|told| Condition {
        observed_generation: generation,
        ..told
    })
    .collect()
}

/// Whether the control plane speaks of what the record now asks for.
fn is_settled(record: &DeploymentRecord, plane: &ControlPlane) -> bool {
    revision(plane).as_ref() == Some(&record.spec.revision) && speaks_of_present(plane)
}

/// Whether the control plane has made its own revision true.
fn is_true_of(plane: &ControlPlane) -> bool {
    let conditions = plane.status.as_ref().map_or(&[][..], |said| &said.conditions);
    speaks_of_present(plane) && is_true_for(conditions, reasons::READY, plane.metadata.generation)
}

fn speaks_of_present(plane: &ControlPlane) -> bool {
    let said = plane.status.as_ref().and_then(|said| said.observed_generation);
    said.is_some() && said == plane.metadata.generation
}

fn revision(plane: &ControlPlane) -> Option<String> {
    plane.annotations().get(REVISION).cloned()
}

#[cfg(test)]
mod tests;
