//! What runs inside a tenant, applied through its own API: rendered from the profile, and again every ten minutes in
//! case somebody removed or changed it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use skep_core::{Endpoint, TenantNetwork, labels};
use skep_profiles::{Pair, PartError, Surroundings, parts};
use skep_runtime::Categorised;
use skep_runtime::manifests::{self, ManifestError};
use skep_runtime::{Applier, ApplyError};

use crate::CONTROLLER;
use crate::build::labels::MANAGED_BY;
use crate::material::text;
use crate::observe::Observed;
use crate::secrets::{CERTIFICATE, CLUSTER_CA, KONNECTIVITY_CA, METRICS_SERVER, PRIVATE_KEY};
use crate::validate::Tenant;

/// Writes under way at once: a tenant's smallest apiserver takes fifty, and its own users come first.
const AT_ONCE: usize = 6;
/// The longest that all of them may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Parts that could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A template is wrong; a bug of this build.
    #[error("cannot render what runs inside the tenant")]
    Render(#[from] PartError),
    /// A template renders no objects; a bug of this build.
    #[error("part {0} is no manifest")]
    Parse(&'static str, #[source] ManifestError),
    /// The tenant's API refused, or did not answer.
    #[error("the tenant's API does not take {part}")]
    Write {
        /// Which part.
        part: &'static str,
        /// Why.
        #[source]
        source: ApplyError,
    },
    /// The tenant's API took too long.
    #[error("the tenant's API did not take everything within {} s", LIMIT.as_secs())]
    TimedOut,
}

impl Categorised for PartsError {
    fn category(&self) -> &'static str {
        match self {
            Self::Render(_) | Self::Parse(..) => "config",
            Self::Write { source, .. } => source.category(),
            Self::TimedOut => "timeout",
        }
    }
}

/// What the parts of one tenant are made from.
#[derive(Clone, PartialEq, Eq)]
pub struct Wanted {
    endpoint: Endpoint,
    network: TenantNetwork,
    images: BTreeMap<String, String>,
    upstream_dns: String,
    authority: String,
    konnectivity_authority: String,
    metrics_server: Pair,
}

impl Wanted {
    /// Reads it off a tenant and its keys; nothing while a key is missing.
    pub fn of(tenant: &Tenant, observed: &Observed) -> Option<Self> {
        let key = |secret: &str, key: &str| text(observed.secrets.get(secret)?, key).map(str::to_owned);
        Some(Self {
            endpoint: tenant.endpoint.clone(),
            network: tenant.network.clone(),
            images: tenant.images.clone(),
            upstream_dns: tenant.upstream_dns.clone(),
            authority: key(CLUSTER_CA, CERTIFICATE)?,
            konnectivity_authority: key(KONNECTIVITY_CA, CERTIFICATE)?,
            metrics_server: Pair {
                certificate: key(METRICS_SERVER, CERTIFICATE)?,
                key: key(METRICS_SERVER, PRIVATE_KEY)?,
            },
        })
    }

    fn objects(&self) -> Result<Vec<(&'static str, DynamicObject)>, PartsError> {
        let rendered = parts(&Surroundings {
            endpoint: &self.endpoint,
            network: &self.network,
            images: &self.images,
            upstream_dns: &self.upstream_dns,
            authority: &self.authority,
            konnectivity_authority: &self.konnectivity_authority,
            metrics_server: &self.metrics_server,
        })?;
        let mut objects = Vec::new();
        for part in rendered {
            let parsed =
                manifests::parse(&part.manifest).map_err(|source| PartsError::Parse(part.name, source))?;
            objects.extend(parsed.into_iter().map(|mut object| {
                let own = object.metadata.labels.get_or_insert_default();
                own.insert(labels::APP_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
                own.insert(labels::COMPONENT.to_owned(), part.name.to_owned());
                (part.name, object)
            }));
        }
        Ok(objects)
    }

    /// Applies every part; a write that is refused holds up what comes after it, and the next try does it all again.
    pub async fn apply(&self, client: &Client) -> Result<usize, PartsError> {
        let objects = self.objects()?;
        let count = objects.len();
        let applier = Applier::new(client.clone(), CONTROLLER);
        let mut writes = Vec::with_capacity(count);
        for (part, object) in objects {
            writes.push(write(&applier, part, object));
        }
        let applying = futures::stream::iter(writes)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>();
        match tokio::time::timeout(LIMIT, applying).await {
            Ok(result) => result.map(|()| count),
            Err(_) => Err(PartsError::TimedOut),
        }
    }
}

async fn write(applier: &Applier, part: &'static str, object: DynamicObject) -> Result<(), PartsError> {
    applier
        .apply_with(&object, &kind_of(&object))
        .await
        .map(drop)
        .map_err(|source| PartsError::Write { part, source })
}

/// Every kind among the parts has the plural that kube derives from its name.
fn kind_of(object: &DynamicObject) -> ApiResource {
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    let mut kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    if types.kind == "Endpoints" {
        "endpoints".clone_into(&mut kind.plural);
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;

    #[test]
    fn every_part_parses_and_says_whose_it_is() {
        let names = [
            "kube-proxy",
            "envoy",
            "busybox",
            "konnectivity",
            "coredns",
            "metrics-server",
            "local-path-provisioner",
        ];
        let wanted = Wanted {
            endpoint: tenant().endpoint,
            network: tenant().network,
            images: names
                .map(|name| (name.to_owned(), format!("localhost/{name}:1")))
                .into(),
            upstream_dns: String::new(),
            authority: "A".into(),
            konnectivity_authority: "K".into(),
            metrics_server: Pair {
                certificate: "C".into(),
                key: "K".into(),
            },
        };
        let objects = wanted.objects().unwrap();
        assert!(objects.len() > 30, "{}", objects.len());
        for (part, object) in objects {
            let labels = object.metadata.labels.unwrap();
            assert_eq!(labels[labels::COMPONENT], part);
            assert!(object.types.is_some() && object.metadata.name.is_some());
        }
    }

    #[test]
    fn nothing_is_wanted_before_the_keys_are_there() {
        assert!(Wanted::of(&tenant(), &Observed::default()).is_none());
    }
}
