//! Writes a control plane's children: what is independent at once, and nothing that is as it was left.
//!
//! A ledger in memory holds what each child looked like after our last write. A child whose wanted form and
//! whose observed version have both stayed the same is not written again; one that somebody changed is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt, join_all};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use skep_core::Cpid;
use skep_runtime::{Applier, ApplyError, Categorised, api_category};

use crate::build::Children;
use crate::observe::Observed;

/// A child that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A server-side apply failed.
    #[error("cannot apply a child")]
    Apply(#[source] ApplyError),
    /// A Secret could not be created.
    #[error("cannot create secret {name}")]
    Create {
        /// The Secret's name.
        name: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
}

impl Categorised for WriteError {
    fn category(&self) -> &'static str {
        match self {
            Self::Apply(error) => error.category(),
            Self::Create { source, .. } => api_category(source),
        }
    }
}

/// Generation, or resource version for kinds without one, of exactly one object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    uid: Option<String>,
    version: Option<String>,
}

impl Version {
    fn of(metadata: &ObjectMeta) -> Self {
        let generation = metadata.generation.map(|generation| generation.to_string());
        Self {
            uid: metadata.uid.clone(),
            version: generation.or_else(|| metadata.resource_version.clone()),
        }
    }
}

/// Kind and name of a child.
type Key = (String, String);

type Entries = HashMap<Cpid, HashMap<Key, Entry>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    wanted: [u8; 32],
    version: Version,
}

/// What each child looked like after our last write; empty after a start, so that all is applied once.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
}

impl Ledger {
    /// Forgets one control plane.
    pub fn forget(&self, cpid: &Cpid) {
        self.lock().remove(cpid);
    }

    fn is_current(&self, cpid: &Cpid, key: &Key, entry: &Entry) -> bool {
        self.lock().get(cpid).and_then(|known| known.get(key)) == Some(entry)
    }

    fn record(&self, cpid: &Cpid, key: Key, entry: Entry) {
        self.lock().entry(cpid.clone()).or_default().insert(key, entry);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // Every entry is whole whenever the lock is free, so a poisoned lock is still usable.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the children of one control plane.
pub struct Writer<'a> {
    /// Applies as this controller.
    pub applier: &'a Applier,
    /// What was written before.
    pub ledger: &'a Ledger,
    /// Whose children.
    pub cpid: &'a Cpid,
    /// What is there.
    pub observed: &'a Observed,
}

impl Writer<'_> {
    /// Writes the namespace, which everything else needs.
    pub async fn write_namespace(&self, children: &Children) -> Result<(), WriteError> {
        self.put(&children.namespace).await
    }

    /// Creates Secrets that must not exist yet; one that exists is a conflict, and the next pass reads it.
    pub async fn create_secrets(&self, secrets: &[Secret]) -> Result<(), WriteError> {
        let writes = secrets.iter().map(|secret| self.create(secret).boxed());
        all(writes).await
    }

    /// Applies leaves, which this operator alone renews.
    pub async fn apply_secrets(&self, secrets: &[Secret]) -> Result<(), WriteError> {
        let writes = secrets.iter().map(|secret| {
            async move {
                self.applier
                    .apply(secret)
                    .await
                    .map(drop)
                    .map_err(WriteError::Apply)
            }
            .boxed()
        });
        all(writes).await
    }

    /// Writes everything else, all at once.
    pub async fn write_children(&self, children: &Children) -> Result<(), WriteError> {
        let Children {
            namespace: _,
            etcd,
            service,
            configuration,
            disruption_budgets,
            deployments,
        } = children;
        let mut writes: Vec<BoxFuture<'_, Result<(), WriteError>>> = vec![
            self.put(etcd).boxed(),
            self.put(service).boxed(),
            self.put(configuration).boxed(),
        ];
        writes.extend(disruption_budgets.iter().map(|budget| self.put(budget).boxed()));
        writes.extend(deployments.iter().map(|deployment| self.put(deployment).boxed()));
        all(writes).await
    }

    async fn create(&self, secret: &Secret) -> Result<(), WriteError> {
        let namespace = self.cpid.namespace();
        let api: Api<Secret> = Api::namespaced(self.applier.client().clone(), &namespace);
        let params = PostParams {
            field_manager: Some(self.applier.manager().to_owned()),
            dry_run: false,
        };
        api.create(&params, secret)
            .await
            .map(drop)
            .map_err(|source| WriteError::Create {
                name: secret.name_any(),
                source,
            })
    }

    async fn put<K>(&self, object: &K) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Sync,
    {
        let key = (K::kind(&()).into_owned(), object.name_any());
        let wanted = digest(object);
        if let Some(metadata) = self.observed.metadata_of(&key.0, &key.1) {
            let entry = Entry {
                wanted,
                version: Version::of(metadata),
            };
            if self.ledger.is_current(self.cpid, &key, &entry) {
                return Ok(());
            }
        }
        let applied = self.applier.apply(object).await.map_err(WriteError::Apply)?;
        self.ledger.record(
            self.cpid,
            key,
            Entry {
                wanted,
                version: Version::of(applied.meta()),
            },
        );
        Ok(())
    }
}

/// Lets every write end and tells of the first that failed: one bad child does not hold up the others.
async fn all<'a>(
    writes: impl IntoIterator<Item = BoxFuture<'a, Result<(), WriteError>>>,
) -> Result<(), WriteError> {
    join_all(writes)
        .await
        .into_iter()
        .find(Result::is_err)
        .unwrap_or(Ok(()))
}

/// SHA-256 of the object's JSON; what cannot be encoded has no digest of its own and fails when applied.
fn digest<K: Serialize>(object: &K) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(object).unwrap_or_default()).into()
}
