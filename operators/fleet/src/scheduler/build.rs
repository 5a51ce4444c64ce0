//! The record of one tenant, from what was resolved.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::{ClusterProfileSpec, DeploymentRecord, DeploymentRecordSpec, SizeClassSpec, TenantReference};
use skep_core::{CellName, Cpid, Domain, labels};
use skep_profiles::{ResolveError, Tenant, resolve, revision};

use super::{NAME, RECORD_FINALIZER};
use crate::validate::Resolved;

/// Everything that a record is made of.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// The tenant cluster.
    pub reference: TenantReference,
    /// Its control plane's identity.
    pub cpid: &'a Cpid,
    /// Its cell.
    pub cell: &'a CellName,
    /// The domain of the cell.
    pub domain: Domain,
    /// The choices that were made.
    pub resolved: &'a Resolved,
    /// The profile that was chosen.
    pub profile: &'a ClusterProfileSpec,
    /// The class that was chosen.
    pub class: &'a SizeClassSpec,
    /// The trace of the request that caused this.
    pub traceparent: Option<&'a str>,
}

/// Builds the record.
pub fn build_record(parts: &Parts<'_>) -> Result<DeploymentRecord, ResolveError> {
    let Parts {
        reference,
        cpid,
        cell,
        domain,
        resolved,
        profile,
        class,
        traceparent,
    } = parts;
    let tenant = Tenant {
        reference: reference.clone(),
        version: resolved.version,
        profile: resolved.profile.clone(),
        class: resolved.class.clone(),
        availability: resolved.availability,
        network: resolved.network.clone(),
        region: resolved.region.clone(),
        domain: domain.clone(),
    };
    let control_plane = resolve(profile, class, &tenant)?;
    let annotations =
        traceparent.map(|trace| BTreeMap::from([(labels::TRACEPARENT.to_owned(), trace.to_owned())]));
    let spec = DeploymentRecordSpec {
        tenant: reference.clone(),
        cpid: cpid.to_string(),
        revision: revision(&control_plane),
        control_plane,
    };
    let metadata = ObjectMeta {
        name: Some(cpid.to_string()),
        namespace: Some(cell.namespace()),
        labels: Some(build_labels(parts)),
        annotations,
        finalizers: Some(vec![RECORD_FINALIZER.to_owned()]),
        ..ObjectMeta::default()
    };
    Ok(DeploymentRecord {
        metadata,
        spec,
        status: None,
    })
}

/// Whether a record that stands says all that the built one does. One that is being deleted stays as it is.
pub fn is_as_built(found: &DeploymentRecord, built: &DeploymentRecord) -> bool {
    fn holds(found: Option<&BTreeMap<String, String>>, built: Option<&BTreeMap<String, String>>) -> bool {
        let mut wanted = built.into_iter().flatten();
        wanted.all(|(key, value)| found.and_then(|found| found.get(key)) == Some(value))
    }
    let (found_metadata, built_metadata) = (&found.metadata, &built.metadata);
    let has_finalizers = || {
        let known = found_metadata.finalizers.as_deref().unwrap_or_default();
        let mut wanted = built_metadata.finalizers.iter().flatten();
        wanted.all(|finalizer| known.contains(finalizer))
    };
    found_metadata.deletion_timestamp.is_some()
        || found.spec == built.spec
            && holds(found_metadata.labels.as_ref(), built_metadata.labels.as_ref())
            && holds(
                found_metadata.annotations.as_ref(),
                built_metadata.annotations.as_ref(),
            )
            && has_finalizers()
}

fn build_labels(parts: &Parts<'_>) -> BTreeMap<String, String> {
    let manager = labels::field_manager(NAME).replace('/', ".");
    let pairs = [
        (labels::CELL, parts.cell.to_string()),
        (labels::PROJECT, parts.reference.project.clone()),
        (labels::CLUSTER, parts.reference.name.clone()),
        (labels::CPID, parts.cpid.to_string()),
        (labels::CLASS, parts.resolved.class.clone()),
        (labels::PROFILE, parts.resolved.profile.clone()),
        (labels::APP_NAME, "control-plane".to_owned()),
        (labels::APP_INSTANCE, parts.cpid.to_string()),
        (labels::APP_PART_OF, "skep".to_owned()),
        (labels::APP_MANAGED_BY, manager),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
