//! Writes what does not depend on the members: certificates, Services and the disruption budget.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use skep_core::labels;
use skep_runtime::{Applier, ApplyError};

use crate::CONTROLLER;
use crate::build::certificates::Certificates;
use crate::build::disruption_budget::build_disruption_budget;
use crate::build::service::{build_client_service, build_peer_service};
use crate::validate::Cluster;

/// While etcd is asked several times a second, the rest need not be written as often.
const PAUSE: Duration = Duration::from_secs(3);

/// When each cluster's lasting objects were last written by this process, and for how many members.
#[derive(Debug, Default)]
pub struct Written {
    at: Mutex<HashMap<String, (Instant, usize)>>,
}

impl Written {
    /// Whether they were written, as they are wanted now, within the last three seconds.
    pub fn is_recent(&self, cluster: &Cluster, now: Instant) -> bool {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.get(&cluster.uid).is_some_and(|(at, members)| {
            *members == cluster.members && now.saturating_duration_since(*at) < PAUSE
        })
    }

    fn note(&self, cluster: &Cluster) {
        self.at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(cluster.uid.clone(), (Instant::now(), cluster.members));
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
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

/// Writes the Services and the disruption budget.
pub async fn apply_lasting(
    applier: &Applier,
    cluster: &Cluster,
    written: &Written,
) -> Result<(), ApplyError> {
    let client = build_client_service(cluster);
    let peer = build_peer_service(cluster);
    let budget = build_disruption_budget(cluster);
    tokio::try_join!(
        applier.apply(&client),
        applier.apply(&peer),
        applier.apply(&budget)
    )?;
    written.note(cluster);
    Ok(())
}
