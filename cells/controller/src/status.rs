//! Whether a cell is ready: a valid spec, and an agent that checked in lately.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use skep_api::Cell;
use skep_core::reasons;
use skep_runtime::{ConditionStatus, Conditions};

use crate::validate::FieldError;

/// How long a check-in counts: four of the agent's periods, so that a lost one or two change nothing.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// This controller's part of a cell's status; the rest is the agent's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusPart {
    /// The generation that this speaks of.
    pub observed_generation: Option<i64>,
    /// `Ready` first.
    pub conditions: Vec<Condition>,
}

/// What there is to say of a cell.
#[derive(Debug, Clone)]
pub enum Finding<'a> {
    /// Its spec cannot be acted upon.
    Invalid(&'a [FieldError]),
    /// Its spec is right; its check-ins decide.
    Valid,
    /// It is being deleted and still holds tenants.
    Held,
}

/// How long the last check-in still counts; nothing when it does not.
pub fn patience_left(cell: &Cell, now: Timestamp) -> Option<Duration> {
    let last = cell.status.as_ref()?.last_check_in.as_ref()?.0;
    // A check-in from the future is a clock that runs ahead by a little; it counts as one of now.
    let age: Duration = now.duration_since(last).try_into().unwrap_or(Duration::ZERO);
    PATIENCE.checked_sub(age).filter(|left| !left.is_zero())
}

/// Builds this controller's part of the status.
pub fn build_status(cell: &Cell, finding: &Finding<'_>, now: Timestamp) -> StatusPart {
    let observed: &[Condition] = cell.status.as_ref().map_or(&[], |status| &status.conditions);
    let generation = cell.metadata.generation;
    let conditions = Conditions::new(observed, generation, now);
    let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
    let valid = |conditions: Conditions| {
        conditions.set(
            reasons::VALID,
            yes,
            reasons::AS_DESIRED,
            "every field can be acted upon",
        )
    };
    let conditions = match finding {
        Finding::Invalid(errors) => {
            let message = errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            conditions
                .set(reasons::VALID, no, reasons::INVALID_SPEC, message.as_str())
                .set(reasons::READY, no, reasons::INVALID_SPEC, message)
        }
        Finding::Held => {
            let message = "the cell still holds records of tenants; they must be moved or deleted first";
            valid(conditions).set(reasons::READY, no, reasons::DELETING, message)
        }
        Finding::Valid if patience_left(cell, now).is_some() => {
            valid(conditions).set(reasons::READY, yes, reasons::CHECKED_IN, "the agent checks in")
        }
        Finding::Valid => valid(conditions).set(reasons::READY, no, reasons::NOT_CHECKED_IN, silence(cell)),
    };
    StatusPart {
        observed_generation: generation,
        conditions: conditions.build(),
    }
}

fn silence(cell: &Cell) -> String {
    match cell
        .status
        .as_ref()
        .and_then(|status| status.last_check_in.as_ref())
    {
        Some(last) => format!("the agent has not checked in since {}", last.0),
        None => "the agent has not checked in yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(last_check_in: Option<&str>) -> Cell {
        let spec = "
apiVersion: skep.dev/v1alpha1
kind: Cell
metadata: {name: local, generation: 3}
spec:
  region: local
  domain: skep.internal
  zones: [a]
  network: {nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: 198.18.16.0/20}
  gateway: {address: '198.18.0.2:443'}
status: {readyNodes: 3, tenants: 2}
";
        let mut cell: Cell = serde_saphyr::from_str(spec).unwrap();
        let time = last_check_in.map(|text| serde_json::from_value(text.into()).unwrap());
        cell.status.as_mut().unwrap().last_check_in = time;
        cell
    }

    fn ready(last_check_in: Option<&str>, finding: &Finding<'_>) -> (String, String, String) {
        let now = "2026-11-01T10:00:00Z".parse().unwrap();
        let ready = build_status(&cell(last_check_in), finding, now)
            .conditions
            .remove(0);
        assert_eq!(ready.type_, "Ready");
        (ready.status, ready.reason, ready.message)
    }

    #[test]
    fn a_check_in_counts_for_two_minutes() {
        for (time, state) in [
            (Some("2026-11-01T10:00:00Z"), "True"),
            (Some("2026-11-01T09:58:01Z"), "True"),
            (Some("2026-11-01T09:58:00Z"), "False"),
            (Some("2026-11-01T10:00:05Z"), "True"),
            (None, "False"),
        ] {
            assert_eq!(ready(time, &Finding::Valid).0, state, "{time:?}");
        }
        let (_, reason, message) = ready(Some("2026-11-01T09:00:00Z"), &Finding::Valid);
        assert_eq!(reason, "NotCheckedIn");
        assert_eq!(message, "the agent has not checked in since 2026-11-01T09:00:00Z");
    }

    #[test]
    fn a_wrong_spec_is_never_ready() {
        let errors = [FieldError {
            field: "zones",
            message: "a is there twice".to_owned(),
        }];
        let (state, reason, message) = ready(Some("2026-11-01T10:00:00Z"), &Finding::Invalid(&errors));
        assert_eq!((state.as_str(), reason.as_str()), ("False", "InvalidSpec"));
        assert_eq!(message, "zones: a is there twice");
    }

    #[test]
    fn the_agents_fields_are_left_to_the_agent() {
        let part = build_status(&cell(None), &Finding::Valid, Timestamp::UNIX_EPOCH);
        let fields = serde_json::to_value(part).unwrap();
        let fields: Vec<&String> = fields.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["conditions", "observedGeneration"]);
    }
}
