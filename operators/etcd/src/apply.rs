//! Writes what does not depend on the members: certificates, Services and the disruption budget.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use sha2::{Digest, Sha256};
use skep_core::labels;
use skep_runtime::{Applier, ApplyError};

use crate::CONTROLLER;
use crate::build::certificates::Certificates;
use crate::build::disruption_budget::build_disruption_budget;
use crate::build::service::{build_client_service, build_peer_service};
use crate::build::{client_service, peer_service};
use crate::validate::Cluster;

/// While etcd is asked several times a second, the rest need not be looked at as often.
const PAUSE: Duration = Duration::from_secs(3);

/// What this process last wrote of each cluster's lasting objects; losing it costs three writes.
#[derive(Debug, Default)]
pub struct Written {
    of: Mutex<HashMap<String, Lasting>>,
}

/// The lasting objects of one cluster as they were written.
#[derive(Debug, Clone, PartialEq)]
struct Lasting {
    at: Instant,
    members: usize,
    /// The hash of what was wanted.
    wanted: [u8; 32],
    /// The versions that the API server gave, in the order of writing.
    versions: [Option<String>; 3],
}

impl Written {
    /// Whether they were looked at, as they are wanted now, within the last three seconds.
    pub fn is_recent(&self, cluster: &Cluster, now: Instant) -> bool {
        self.get(&cluster.uid).is_some_and(|last| {
            last.members == cluster.members && now.saturating_duration_since(last.at) < PAUSE
        })
    }

    fn get(&self, uid: &str) -> Option<Lasting> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(uid).cloned()
    }

    fn note(&self, uid: &str, lasting: Lasting) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.insert(uid.to_owned(), lasting);
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Writes the certificates that are new: authorities are only created, so that none is ever overwritten.
pub async fn apply_certificates(
    applier: &Applier,
    cluster: &Cluster,
    certificates: &Certificates,
) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(applier.client().clone(), &cluster.namespace);
    let params = PostParams {
        field_manager: Some(labels::field_manager(CONTROLLER)),
        ..PostParams::default()
    };
    let authorities = certificates.authorities.iter().map(|secret| {
        let (api, params) = (&api, &params);
        async move {
            let failed = |source| ApplyError::Api {
                verb: "create",
                object: format!("Secret {}/{}", cluster.namespace, secret.name_any()),
                source,
            };
            api.create(params, secret).await.map(drop).map_err(failed)
        }
    });
    // First the authorities: a leaf must never be there before the one that signed it.
    futures::future::try_join_all(authorities).await?;
    let leaves = certificates.leaves.iter().map(|secret| applier.apply(secret));
    futures::future::try_join_all(leaves).await.map(drop)
}

/// Writes the Services and the disruption budget, unless they still are of the versions that this process wrote.
pub async fn apply_lasting(
    applier: &Applier,
    cluster: &Cluster,
    written: &Written,
) -> Result<(), ApplyError> {
    let client = build_client_service(cluster);
    let peer = build_peer_service(cluster);
    let budget = build_disruption_budget(cluster);
    let wanted = hash(&json!([client, peer, budget]));
    let last = written.get(&cluster.uid).filter(|last| last.wanted == wanted);
    let versions = match last {
        Some(last) if last.versions == fetch_versions(applier, cluster).await? => last.versions,
        _ => {
            let (client, peer, budget) = tokio::try_join!(
                applier.apply(&client),
                applier.apply(&peer),
                applier.apply(&budget)
            )?;
            [
                client.metadata.resource_version,
                peer.metadata.resource_version,
                budget.metadata.resource_version,
            ]
        }
    };
    let lasting = Lasting {
        at: Instant::now(),
        members: cluster.members,
        wanted,
        versions,
    };
    written.note(&cluster.uid, lasting);
    Ok(())
}

fn hash(wanted: &serde_json::Value) -> [u8; 32] {
    Sha256::digest(wanted.to_string().as_bytes()).into()
}

async fn fetch_versions(applier: &Applier, cluster: &Cluster) -> Result<[Option<String>; 3], ApplyError> {
    let (client, peer, budget) = tokio::try_join!(
        fetch_version::<Service>(applier, cluster, client_service(&cluster.name)),
        fetch_version::<Service>(applier, cluster, peer_service(&cluster.name)),
        fetch_version::<PodDisruptionBudget>(applier, cluster, cluster.name.clone()),
    )?;
    Ok([client, peer, budget])
}

async fn fetch_version<K>(
    applier: &Applier,
    cluster: &Cluster,
    name: String,
) -> Result<Option<String>, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(applier.client().clone(), &cluster.namespace);
    let found = api.get_metadata_opt(&name).await;
    let found = found.map_err(|source| ApplyError::Api {
        verb: "read",
        object: format!("{} {}/{name}", K::kind(&()), cluster.namespace),
        source,
    })?;
    Ok(found.and_then(|found| found.metadata.resource_version))
}
