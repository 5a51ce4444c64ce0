//! Profile × class × tenant → control plane.
//!
//! What comes out is checked against what went in: no template and no value may change for whom, in which
//! version or with which ranges a control plane runs.

use serde::Serialize;
use skep_api::tenant_cluster::Network;
use skep_api::{Availability, ClusterProfileSpec, ControlPlaneSpec, SizeClassSpec, TenantReference};
use skep_core::{Domain, KubernetesVersion, Region};

use crate::render::{RenderError, render};

/// What is decided of one tenant before its control plane is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The tenant cluster.
    pub reference: TenantReference,
    /// The Kubernetes version.
    pub version: KubernetesVersion,
    /// The name of the profile.
    pub profile: String,
    /// The name of the size class.
    pub class: String,
    /// The spread over zones.
    pub availability: Availability,
    /// The address ranges.
    pub network: Network,
    /// The region, part of the host names.
    pub region: Region,
    /// The domain, part of the host names.
    pub domain: Domain,
}

/// A control plane that could not be resolved: the profile or the class is at fault, not the tenant.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The template does not render.
    #[error("profile {profile} does not render")]
    Render {
        /// The profile.
        profile: String,
        /// Where and why.
        #[source]
        source: RenderError,
    },
    /// What was rendered is no control plane.
    #[error("profile {profile} with class {class} does not render a control plane")]
    Parse {
        /// The profile.
        profile: String,
        /// The class.
        class: String,
        /// Where and why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The template changed what the tenant's own fields say.
    #[error("profile {profile} renders another {field} than the tenant's")]
    Changed {
        /// The profile.
        profile: String,
        /// The field of the control plane.
        field: &'static str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Values<'a> {
    tenant: &'a Tenant,
    profile: &'a ClusterProfileSpec,
    class: &'a SizeClassSpec,
    zone_redundant: bool,
}

/// Resolves the control plane of `tenant`.
pub fn resolve(
    profile: &ClusterProfileSpec,
    class: &SizeClassSpec,
    tenant: &Tenant,
) -> Result<ControlPlaneSpec, ResolveError> {
    let zone_redundant = match tenant.availability {
        Availability::ZoneRedundant => true,
        Availability::Single => false,
    };
    let values = Values {
        tenant,
        profile,
        class,
        zone_redundant,
    };
    let text = render(&profile.template, &values).map_err(|source| ResolveError::Render {
        profile: tenant.profile.clone(),
        source,
    })?;
    let spec: ControlPlaneSpec = serde_saphyr::from_str(&text).map_err(|source| ResolveError::Parse {
        profile: tenant.profile.clone(),
        class: tenant.class.clone(),
        source: Box::new(source),
    })?;
    match changed_field(&spec, tenant) {
        Some(field) => Err(ResolveError::Changed {
            profile: tenant.profile.clone(),
            field,
        }),
        None => Ok(spec),
    }
}

fn changed_field(spec: &ControlPlaneSpec, tenant: &Tenant) -> Option<&'static str> {
    let Tenant {
        reference,
        version,
        profile,
        class,
        availability,
        network,
        region,
        domain,
    } = tenant;
    let checks = [
        ("tenant", spec.tenant == *reference),
        ("version", spec.version == version.to_string()),
        ("profile", spec.profile == *profile),
        ("class", spec.class == *class),
        ("availability", spec.availability == *availability),
        ("network", spec.network == *network),
        ("region", spec.region == region.as_str()),
        ("domain", spec.domain == domain.as_str()),
    ];
    checks
        .into_iter()
        .find(|(_, is_same)| !is_same)
        .map(|(field, _)| field)
}
