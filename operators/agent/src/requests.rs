//! A certificate request on its way into the cell and the answer on its way back: pure.
//!
//! The copy lives in the tenant's own namespace, where the hub's objects never are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use skep_api::certificate_request::LIFETIME_SECONDS;
use skep_api::{CertificateRequest, CertificateRequestStatus, ControlPlane};
use skep_core::{CellName, Cpid, labels, reasons};
use skep_runtime::conditions::find;

use crate::{MANAGED_BY, ORIGIN};

/// What shall be done for a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Nothing, until something changes.
    Nothing,
    /// Its control plane is not in this cell, or not any more.
    NoControlPlane,
    /// Write this copy.
    Copy(Box<CertificateRequest>),
    /// Tell the hub this answer.
    Answer(CertificateRequestStatus),
    /// Delete the copy that was observed.
    Remove,
}

/// Decides from the hub's request, its copy in the cell and the control plane that it is for.
pub fn decide(
    cell: &CellName,
    request: Option<&CertificateRequest>,
    copy: Option<&CertificateRequest>,
    plane: Option<&ControlPlane>,
    now: Timestamp,
) -> Decision {
    let request = request.filter(|request| request.metadata.deletion_timestamp.is_none());
    match (request, copy) {
        (None, None) => Decision::Nothing,
        (None, Some(copy)) => remove(copy),
        (Some(request), Some(copy)) if origin(copy) != request.metadata.uid.as_deref() => remove(copy),
        (Some(request), Some(copy)) => match copy.status.as_ref().filter(|status| is_answered(status)) {
            Some(answer) if request.status.as_ref() != Some(answer) => Decision::Answer(answer.clone()),
            _ => Decision::Nothing,
        },
        (Some(request), None) if is_over(request, now) => Decision::Nothing,
        (Some(request), None) => match plane {
            Some(plane) if plane.metadata.deletion_timestamp.is_none() => {
                Decision::Copy(Box::new(build_copy(cell, request)))
            }
            _ => Decision::NoControlPlane,
        },
    }
}

/// Whether an object of the cell is a copy: the hub's own objects, which may be in the same API, are not.
pub fn is_copy(object: &CertificateRequest) -> bool {
    let home = object.spec.cpid.parse::<Cpid>().map(|cpid| cpid.namespace());
    origin(object).is_some() && home.is_ok_and(|home| object.namespace() == Some(home))
}

fn build_copy(cell: &CellName, request: &CertificateRequest) -> CertificateRequest {
    let cpid = &request.spec.cpid;
    let pairs = [
        (labels::CELL, cell.as_str()),
        (labels::CPID, cpid),
        (labels::APP_NAME, "certificate-request"),
        (labels::APP_INSTANCE, cpid),
        (labels::APP_PART_OF, "skep"),
        (labels::APP_MANAGED_BY, MANAGED_BY),
    ];
    let mut annotations = BTreeMap::new();
    annotations.extend(request.uid().map(|uid| (ORIGIN.to_owned(), uid)));
    if let Some(trace) = request.annotations().get(labels::TRACEPARENT) {
        annotations.insert(labels::TRACEPARENT.to_owned(), trace.clone());
    }
    let metadata = ObjectMeta {
        name: request.metadata.name.clone(),
        namespace: Some(format!("cp-{cpid}")),
        labels: Some(
            pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        ),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    CertificateRequest {
        metadata,
        spec: request.spec.clone(),
        status: None,
    }
}

fn remove(copy: &CertificateRequest) -> Decision {
    if copy.metadata.deletion_timestamp.is_some() {
        Decision::Nothing
    } else {
        Decision::Remove
    }
}

fn origin(copy: &CertificateRequest) -> Option<&str> {
    copy.annotations().get(ORIGIN).map(String::as_str)
}

/// Answered already, or too old to be copied: a copy that ended must not come again.
fn is_over(request: &CertificateRequest, now: Timestamp) -> bool {
    let age = request
        .creation_timestamp()
        .map(|born| now.duration_since(born.0).as_secs());
    request.status.as_ref().is_some_and(is_answered) || age.is_some_and(|age| age >= LIFETIME_SECONDS)
}

fn is_answered(status: &CertificateRequestStatus) -> bool {
    find(&status.conditions, reasons::ISSUED)
        .is_some_and(|issued| matches!(issued.status.as_str(), "True" | "False"))
}

#[cfg(test)]
mod tests;
