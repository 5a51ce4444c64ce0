//! Says on each control plane whether the gateway routes to it: the condition `RouteReady`, and no other.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use skep_api::ControlPlane;
use skep_core::reasons;
use skep_runtime::{Applier, ApplyError, ConditionStatus, Conditions, Outcome, Reconcile};

use crate::board::Board;
use crate::route::host_names;

/// When to look again for a control plane that the route's watch has not shown yet.
const RETRY: Duration = Duration::from_secs(5);

/// The part of a status that is the gateway's.
#[derive(Debug, Serialize, PartialEq)]
pub struct RouteStatus {
    conditions: Vec<Condition>,
}

/// What to say of a control plane whose apiserver is published, or not.
pub fn build_status(observed: &ControlPlane, host: &str, is_routed: bool, now: Timestamp) -> RouteStatus {
    let known = observed
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let (reason, message) = if is_routed {
        (reasons::AS_DESIRED, format!("{host} leads to a ready apiserver"))
    } else {
        (reasons::WAITING, "no apiserver is ready".to_owned())
    };
    let status = ConditionStatus::from_bool(is_routed);
    let conditions = Conditions::new(known, observed.metadata.generation, now);
    RouteStatus {
        conditions: conditions
            .set(reasons::ROUTE_READY, status, reason, message)
            .build(),
    }
}

/// Writes the condition when it changed.
pub(crate) struct StatusWriter {
    pub board: Arc<Board>,
    pub applier: Applier,
}

impl Reconcile<ControlPlane> for StatusWriter {
    type Error = ApplyError;

    async fn reconcile(&self, object: &ControlPlane) -> Result<Outcome, ApplyError> {
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::skipped("the control plane is being deleted"));
        }
        let Ok((cpid, hosts)) = host_names(object) else {
            return Ok(Outcome::skipped("its host names cannot be made"));
        };
        let Some(is_routed) = self.board.is_routed(&cpid) else {
            return Ok(Outcome::waiting("its route", RETRY));
        };
        let status = build_status(object, &hosts.api, is_routed, Timestamp::now());
        self.applier.apply_status_part(object, &status).await?;
        Ok(Outcome::Converged)
    }
}
