//! The end of a cluster: carries out what [`crate::decide::decide_teardown`] says, then lets the object go.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::Preconditions;
use kube::{Api, ResourceExt};
use skep_api::etcd_cluster::EtcdCluster;
use skep_core::labels;
use skep_runtime::{ApplyError, Outcome};

use crate::CONTROLLER;
use crate::build::claim;
use crate::controller::{Operator, is_held};
use crate::decide::{Action, decide_teardown};
use crate::error::Error;
use crate::members::Members;
use crate::observe::fetch_children;
use crate::observed::Remains;
use crate::status::{WATCH_FALLBACK, build_deleting_status};

/// Deletions in one reconcile; more than a cluster has pods and claims.
const DELETIONS_AT_A_TIME: usize = 32;

impl<M: Members> Operator<M> {
    /// Takes an object that is being deleted apart; its spec need not be valid.
    pub(crate) async fn tear_down(&self, object: EtcdCluster) -> Result<Outcome, Error> {
        if !is_held(&object) {
            return Ok(Outcome::skipped("the object is being deleted"));
        }
        for _ in 0..DELETIONS_AT_A_TIME {
            let observed = self.look_at_remains(&object).await?;
            let action = decide_teardown(&observed);
            match &action {
                Action::DeletePod { pod, uid } => self.delete::<Pod>(&object, pod, uid).await?,
                Action::DeleteClaim { pod, uid } => {
                    self.delete::<PersistentVolumeClaim>(&object, &claim::name(pod), uid)
                        .await?;
                }
                Action::Done => return self.let_go(&object).await,
                Action::Wait { what, .. } => {
                    let status = build_deleting_status(&object, what, Timestamp::now());
                    self.write(&object, &status).await?;
                    return Ok(Outcome::waiting(what.clone(), WATCH_FALLBACK));
                }
                other => tracing::error!(action = ?other, "no step of a deletion"),
            }
        }
        Ok(Outcome::waiting(
            "the remaining pods and volumes",
            std::time::Duration::from_secs(1),
        ))
    }

    async fn look_at_remains(&self, object: &EtcdCluster) -> Result<Remains, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let children = fetch_children(&self.client, &namespace, &object.name_any(), &uid).await?;
        Ok(Remains {
            volume_policy: object.spec.volume_policy,
            pods: children.pods,
            claims: children.claims.into_iter().chain(children.set_aside).collect(),
        })
    }

    async fn delete<K>(&self, object: &EtcdCluster, name: &str, uid: &str) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let only = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        match self.applier.delete(&api, name, Some(only)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn let_go(&self, object: &EtcdCluster) -> Result<Outcome, Error> {
        let uid = object.uid().unwrap_or_default();
        self.turns.settle(&uid, None).await;
        self.memory.forget(&uid);
        self.written.forget(&uid);
        match self
            .applier
            .remove_finalizer(object, &labels::finalizer(CONTROLLER))
            .await
        {
            Ok(()) => Ok(Outcome::Converged),
            Err(ApplyError::Api {
                source: kube::Error::Api(status),
                ..
            }) if status.is_conflict() => Ok(Outcome::waiting(
                "another write to settle",
                std::time::Duration::from_millis(100),
            )),
            Err(error) => Err(error.into()),
        }
    }
}
