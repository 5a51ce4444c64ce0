//! The tenant's status: what was decided at the hub, and what its cell says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use skep_api::{DeploymentRecord, TenantCluster, TenantClusterStatus};
use skep_core::{CellName, Cpid, reasons};
use skep_runtime::conditions::{find, is_true};
use skep_runtime::{ConditionStatus, Conditions};

use super::decide::Placement;
use crate::validate::FieldError;

/// Conditions that the scheduler states itself; every other one is the cell's.
const OWN: [&str; 5] = [
    reasons::READY,
    reasons::VALID,
    reasons::SCHEDULED,
    reasons::PULLED,
    reasons::DELETED,
];

/// What there is to say of a tenant.
#[derive(Debug, Clone)]
pub enum Finding<'a> {
    /// Its spec cannot be acted upon.
    Invalid(&'a [FieldError]),
    /// It has no cell; the text says why.
    Unplaced(String),
    /// Its cell is not registered.
    CellGone(&'a CellName),
    /// It has a cell, and a record once that is written.
    Placed(&'a Placement, Option<&'a DeploymentRecord>),
    /// It is protected from the deletion that was asked for.
    Protected,
    /// It is being deleted; the text says what is waited for.
    Deleting(String),
}

/// Builds the status.
pub fn build_status(
    tenant: &TenantCluster,
    cpid: &Cpid,
    finding: &Finding<'_>,
    now: Timestamp,
) -> TenantClusterStatus {
    let mut status = tenant.status.clone().unwrap_or_default();
    status.observed_generation = tenant.metadata.generation;
    status.cpid = Some(cpid.to_string());
    let conditions = Conditions::new(&status.conditions, tenant.metadata.generation, now);
    let no = ConditionStatus::False;
    let conditions = match finding {
        Finding::Invalid(errors) => {
            let message = errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            keep_all(conditions, &status.conditions)
                .set(reasons::VALID, no, reasons::INVALID_SPEC, message.as_str())
                .set(reasons::READY, no, reasons::INVALID_SPEC, message)
        }
        Finding::Unplaced(why) => valid(conditions)
            .set(reasons::SCHEDULED, no, reasons::NO_CELL, why.as_str())
            .set(reasons::READY, no, reasons::NO_CELL, why.as_str()),
        Finding::CellGone(cell) => {
            let message = format!("its cell {cell} is not registered");
            keep_all(conditions, &status.conditions)
                .set(reasons::SCHEDULED, no, reasons::NO_CELL, message.as_str())
                .set(
                    reasons::READY,
                    ConditionStatus::Unknown,
                    reasons::NO_CELL,
                    message,
                )
        }
        Finding::Placed(placement, record) => {
            place(&mut status, placement, *record);
            placed(conditions, placement, *record)
        }
        Finding::Protected => {
            let message =
                "deletion is refused while spec.deletionProtection is true; set it to false to go on";
            keep_all(conditions, &status.conditions).set(reasons::DELETED, no, reasons::BLOCKED, message)
        }
        Finding::Deleting(what) => keep_all(conditions, &status.conditions)
            .set(reasons::DELETED, no, reasons::WAITING, what.as_str())
            .set(reasons::READY, no, reasons::DELETING, what.as_str()),
    };
    status.conditions = conditions.build();
    status
}

/// Whether the cell has made true what the record asks for.
pub fn is_converged(record: &DeploymentRecord) -> bool {
    let status = record.status.as_ref();
    status.is_some_and(|status| {
        status.observed_revision.as_deref() == Some(record.spec.revision.as_str())
            && is_true(&status.conditions, reasons::READY)
    })
}

fn place(status: &mut TenantClusterStatus, placement: &Placement, record: Option<&DeploymentRecord>) {
    status.cell = Some(placement.cell.to_string());
    status.version = Some(placement.resolved.version.to_string());
    status.class = Some(placement.resolved.class.clone());
    status.endpoint = Some(placement.endpoint.clone());
    status.address = Some(placement.address.clone());
    status.revision = record.and_then(|record| record.status.as_ref()?.observed_revision.clone());
}

fn valid(conditions: Conditions) -> Conditions {
    conditions.set(
        reasons::VALID,
        ConditionStatus::True,
        reasons::AS_DESIRED,
        "every field can be acted upon",
    )
}

fn placed(conditions: Conditions, placement: &Placement, record: Option<&DeploymentRecord>) -> Conditions {
    let cell = &placement.cell;
    let conditions = valid(conditions).set(
        reasons::SCHEDULED,
        ConditionStatus::True,
        reasons::AS_DESIRED,
        format!("in cell {cell}"),
    );
    let Some(record) = record else {
        let message = "its record is being written";
        return conditions.set(reasons::READY, ConditionStatus::False, reasons::WAITING, message);
    };
    let told: &[Condition] = record.status.as_ref().map_or(&[], |status| &status.conditions);
    let mut conditions = pulled(conditions, cell, record);
    for condition in told
        .iter()
        .filter(|condition| !OWN.contains(&condition.type_.as_str()))
    {
        let state = state_of(&condition.status);
        conditions = conditions.set(
            &condition.type_,
            state,
            &condition.reason,
            condition.message.as_str(),
        );
    }
    let (state, reason, message) = readiness(cell, record, find(told, reasons::READY));
    conditions.set(reasons::READY, state, &reason, message)
}

fn pulled(conditions: Conditions, cell: &CellName, record: &DeploymentRecord) -> Conditions {
    if is_pulled(record) {
        let message = format!("cell {cell} works on revision {}", record.spec.revision);
        return conditions.set(
            reasons::PULLED,
            ConditionStatus::True,
            reasons::AS_DESIRED,
            message,
        );
    }
    let message = format!("cell {cell} has not yet taken revision {}", record.spec.revision);
    conditions.set(reasons::PULLED, ConditionStatus::False, reasons::WAITING, message)
}

fn is_pulled(record: &DeploymentRecord) -> bool {
    let observed = record
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed.is_some() && observed == record.metadata.generation
}

fn readiness(
    cell: &CellName,
    record: &DeploymentRecord,
    told: Option<&Condition>,
) -> (ConditionStatus, String, String) {
    let waiting = |message: String| (ConditionStatus::False, reasons::WAITING.to_owned(), message);
    if is_converged(record) {
        let message = "the control plane is as asked for".to_owned();
        return (ConditionStatus::True, reasons::AS_DESIRED.to_owned(), message);
    }
    match told {
        _ if !is_pulled(record) => waiting(format!(
            "cell {cell} has not yet taken revision {}",
            record.spec.revision
        )),
        Some(told) if told.status != "True" => {
            (state_of(&told.status), told.reason.clone(), told.message.clone())
        }
        _ => waiting(format!(
            "cell {cell} is making revision {} true",
            record.spec.revision
        )),
    }
}

fn keep_all(conditions: Conditions, observed: &[Condition]) -> Conditions {
    observed
        .iter()
        .fold(conditions, |conditions, known| conditions.keep(&known.type_))
}

fn state_of(status: &str) -> ConditionStatus {
    match status {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    }
}
