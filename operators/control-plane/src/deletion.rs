//! Takes a control plane away: everything at once, and the finalizer last.
//!
//! The namespace and the datastore are deleted together: Kubernetes ends a namespace's pods before it
//! touches anything else, so that a datastore that is told only by the namespace would end last. Then the
//! pods get one second to end: nothing of what they would finish is kept. Kubernetes looks at a namespace
//! five seconds after its deletion, and again only after half of the longest grace period of a pod that is
//! left; with the pods gone by then, it needs to look once.

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use skep_api::EtcdCluster;
use skep_core::Cpid;
use skep_runtime::{Applier, ApplyError, Categorised, api_category};

/// Time for a pod of a tenant that is being deleted, in seconds. Not zero: an object must outlive its processes.
const GRACE_SECONDS: u32 = 1;

/// A step of a deletion that failed.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// What is left could not be read.
    #[error("cannot read what is left of {namespace}")]
    Read {
        /// The namespace.
        namespace: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// A delete was refused.
    #[error("cannot delete a child")]
    Delete(#[source] ApplyError),
    /// The pods could not be deleted.
    #[error("cannot delete the pods of {namespace}")]
    Pods {
        /// The namespace.
        namespace: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
}

impl Categorised for DeletionError {
    fn category(&self) -> &'static str {
        match self {
            Self::Read { source, .. } | Self::Pods { source, .. } => api_category(source),
            Self::Delete(error) => error.category(),
        }
    }
}

/// What is left of a control plane that is being deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remains {
    /// What is left, each with its kind; empty when nothing is.
    pub objects: Vec<String>,
}

impl Remains {
    /// What is left, for people: at most eight names.
    pub fn message(&self) -> String {
        let shown = self
            .objects
            .iter()
            .take(8)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match self.objects.len().saturating_sub(8) {
            0 => format!("left to remove: {shown}"),
            more => format!("left to remove: {shown} and {more} more"),
        }
    }
}

/// Deletes what is there and tells what is left; a control plane of which nothing was ever made has no remains.
///
/// # Errors
/// When a read or a delete fails; the next pass goes on.
pub async fn delete(client: &Client, applier: &Applier, cpid: &Cpid) -> Result<Remains, DeletionError> {
    let name = cpid.namespace();
    let failed = |source| DeletionError::Read {
        namespace: name.clone(),
        source,
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let Some(namespace) = namespaces.get_opt(&name).await.map_err(failed)? else {
        return Ok(Remains::default());
    };
    let etcds: Api<EtcdCluster> = Api::namespaced(client.clone(), &name);
    let api: Api<Pod> = Api::namespaced(client.clone(), &name);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &name);
    let everything = ListParams::default();
    let (etcds, pods, claims) = tokio::try_join!(
        etcds.list(&everything),
        api.list_metadata(&everything),
        claims.list_metadata(&everything),
    )
    .map_err(failed)?;
    let mut deletions = Vec::with_capacity(etcds.items.len());
    for etcd in &etcds.items {
        deletions.push(applier.delete_observed(etcd));
    }
    let (datastores, namespace_gone) = tokio::join!(
        futures::future::join_all(deletions),
        applier.delete_observed(&namespace)
    );
    for result in datastores.into_iter().chain([namespace_gone]) {
        result.map_err(DeletionError::Delete)?;
    }
    if !pods.items.is_empty() {
        end_pods(client, &name).await?;
    }
    let mut objects: Vec<String> = Vec::new();
    objects.extend(pods.items.iter().map(|pod| format!("pod {}", pod.name_any())));
    objects.extend(
        etcds
            .items
            .iter()
            .map(|etcd| format!("etcdcluster {}", etcd.name_any())),
    );
    objects.extend(
        claims
            .items
            .iter()
            .map(|claim| format!("volume claim {}", claim.name_any())),
    );
    objects.push(format!("namespace {name}"));
    Ok(Remains { objects })
}

/// Ends every pod of a namespace that takes no new ones. Their grace period may only get shorter.
async fn end_pods(client: &Client, namespace: &str) -> Result<(), DeletionError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = DeleteParams::default().grace_period(GRACE_SECONDS);
    let ended = pods.delete_collection(&params, &ListParams::default()).await;
    ended.map(drop).map_err(|source| DeletionError::Pods {
        namespace: namespace.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_short() {
        let remains = Remains {
            objects: (0..10).map(|n| format!("pod p{n}")).collect(),
        };
        assert!(
            remains.message().ends_with("pod p7 and 2 more"),
            "{}",
            remains.message()
        );
        let remains = Remains {
            objects: vec!["namespace n".into()],
        };
        assert_eq!(remains.message(), "left to remove: namespace n");
    }
}
