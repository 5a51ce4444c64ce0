//! Leads one restore: reads the snapshot whole, says what is lost, waits for a person, and has the datastore do it.
//!
//! The datastore's own controller makes the members; this one only sets `spec.restore`, and only once.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::etcd_restore::{EtcdRestoreStatus, VERIFIED};
use skep_api::{EtcdCluster, EtcdRestore};
use skep_core::{labels, reasons};
use skep_runtime::error::chain;
use skep_runtime::{
    Applier, ApplyError, Categorised, ConditionStatus, Conditions, Events, Outcome, Reconcile,
};
use skep_snapshots::{InvalidName, Manifest, Owner, SnapshotError, SnapshotId};

use crate::backup::{BackupError, fetch_cluster, read};
use crate::snapshots::{StoreError, open};

/// The name of this controller in field managers, metrics and events.
pub const CONTROLLER: &str = "etcd-restore";

/// Until the datastore is looked at again.
const SOON: std::time::Duration = std::time::Duration::from_secs(2);
/// Until a look at what waits for a person; a change of the object triggers sooner.
const PERSON: std::time::Duration = std::time::Duration::from_mins(10);

/// A restore that does not go on.
#[derive(Debug, thiserror::Error)]
pub enum RestoresError {
    /// The datastore or its store.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The snapshot is named in a way that none is.
    #[error("spec.{field}")]
    Name {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        source: InvalidName,
    },
    /// There is no snapshot at all.
    #[error("there is no snapshot of {owner} in {location}")]
    Empty {
        /// Whose.
        owner: String,
        /// Where.
        location: String,
    },
    /// The snapshot cannot be read, or is refused.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// The datastore's spec could not be written.
    #[error("cannot ask EtcdCluster {cluster} for the restore")]
    Ask {
        /// Its name.
        cluster: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A status could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Categorised for RestoresError {
    fn category(&self) -> &'static str {
        match self {
            Self::Backup(error) => error.category(),
            Self::Name { .. } => "invalid-spec",
            Self::Empty { .. } => "no-snapshot",
            Self::Open(StoreError::Store(error)) | Self::Snapshot(error) => error.category(),
            Self::Open(_) => "store-secret",
            Self::Ask { source, .. } => skep_runtime::api_category(source),
            Self::Apply(error) => error.category(),
        }
    }
}

/// The reconciler of all restores.
pub struct Restorer {
    client: Client,
    applier: Applier,
    events: Events,
}

impl Reconcile<EtcdRestore> for Restorer {
    type Error = RestoresError;

    async fn reconcile(&self, cached: &EtcdRestore) -> Result<Outcome, RestoresError> {
        let namespace = cached.namespace().unwrap_or_default();
        let api: Api<EtcdRestore> = Api::namespaced(self.client.clone(), &namespace);
        let found = api
            .get_opt(&cached.name_any())
            .await
            .map_err(read("the restore"))?;
        let Some(object) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
            return Ok(Outcome::skipped("the object is gone"));
        };
        if is_true(&object, reasons::READY) {
            return Ok(Outcome::Converged);
        }
        let result = self.lead(&namespace, &object).await;
        if let Err(error) = &result {
            self.tell_failure(&object, error).await?;
        }
        result
    }
}

impl Restorer {
    pub(crate) fn new(client: Client, instance: Option<String>) -> Self {
        Self {
            applier: Applier::new(client.clone(), CONTROLLER),
            events: Events::new(client.clone(), CONTROLLER, instance),
            client,
        }
    }

    async fn lead(&self, namespace: &str, object: &EtcdRestore) -> Result<Outcome, RestoresError> {
        if !is_true(object, VERIFIED) {
            return self.verify(namespace, object).await;
        }
        if !object.spec.approved {
            return Ok(Outcome::waiting("spec.approved", PERSON));
        }
        self.have_it_done(namespace, object).await
    }

    /// Reads the snapshot whole and says what is lost by it.
    async fn verify(&self, namespace: &str, object: &EtcdRestore) -> Result<Outcome, RestoresError> {
        let (cluster, policy) = fetch_cluster(&self.client, namespace, &object.spec.cluster).await?;
        let store = open(&self.client, namespace, &policy).await?;
        let owner = object.spec.owner.as_deref().unwrap_or(&cluster.uid);
        let owner = Owner::new(owner).map_err(name("owner"))?;
        let id: SnapshotId = if let Some(text) = &object.spec.snapshot {
            text.parse().map_err(name("snapshot"))?
        } else {
            let newest = store.list(&owner).await?.into_iter().next();
            let empty = || RestoresError::Empty {
                owner: owner.to_string(),
                location: policy.location.to_string(),
            };
            newest.ok_or_else(empty)?.id
        };
        let manifest = store.verify(&owner, id).await?;
        let loss = describe_loss(&manifest, Timestamp::now());
        let text = format!(
            "snapshot {id} of {} was read whole; {loss}; set spec.approved to begin",
            policy.location
        );
        let conditions = Self::conditions(object)
            .set(
                VERIFIED,
                ConditionStatus::True,
                reasons::AS_DESIRED,
                format!("snapshot {id} was read whole"),
            )
            .set(
                reasons::READY,
                ConditionStatus::False,
                reasons::BLOCKED,
                format!("waiting for a person: {text}"),
            );
        let status = EtcdRestoreStatus {
            observed_generation: object.metadata.generation,
            snapshot: Some(id.to_string()),
            revision: manifest.about.revision,
            taken_at: Some(Time(id.taken_at())),
            loss: Some(loss),
            conditions: conditions.build(),
        };
        self.applier.apply_status(object, &status).await?;
        self.events
            .normal(object, "SnapshotVerified", "Verify", &text)
            .await;
        // Its own write triggers the next look.
        Ok(Outcome::waiting("spec.approved", SOON))
    }

    /// Sets the datastore's `spec.restore`, and waits until its members serve the data.
    async fn have_it_done(&self, namespace: &str, object: &EtcdRestore) -> Result<Outcome, RestoresError> {
        let asked = object.uid().unwrap_or_default();
        let name = &object.spec.cluster;
        let api: Api<EtcdCluster> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(read("the datastore"))?;
        let found = found.ok_or_else(|| BackupError::NoCluster(name.clone()))?;
        let status = found.status.clone().unwrap_or_default();
        if status.restored.as_ref() == Some(&asked) {
            return self.wait_until_whole(object, &status.conditions).await;
        }
        if found.spec.restore.as_ref().map(|restore| &restore.name) != Some(&asked) {
            let owner = object
                .spec
                .owner
                .clone()
                .or_else(|| found.uid())
                .unwrap_or_default();
            let snapshot = object.status.as_ref().and_then(|status| status.snapshot.clone());
            // With the unique id: a namesake that was made since is another datastore.
            let patch = json!({
                "metadata": {"uid": found.uid()},
                "spec": {"restore": {"name": asked, "owner": owner, "snapshot": snapshot, "member": null}},
            });
            let params = PatchParams {
                field_manager: Some(labels::field_manager(CONTROLLER)),
                ..PatchParams::default()
            };
            let ask = |source| RestoresError::Ask {
                cluster: name.clone(),
                source,
            };
            api.patch(name, &params, &Patch::Merge(patch))
                .await
                .map_err(ask)?;
            self.events
                .normal(
                    object,
                    "RestoreBegun",
                    "Restore",
                    "the datastore was asked for the restore",
                )
                .await;
        }
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == reasons::READY);
        let what = ready.map_or("it is being looked at", |ready| ready.message.as_str());
        self.tell_waiting(object, &format!("waiting for EtcdCluster {name}: {what}"))
            .await
    }

    async fn wait_until_whole(
        &self,
        object: &EtcdRestore,
        conditions: &[Condition],
    ) -> Result<Outcome, RestoresError> {
        let name = &object.spec.cluster;
        let ready = conditions
            .iter()
            .find(|condition| condition.type_ == reasons::READY);
        if let Some(ready) = ready.filter(|ready| ready.status != "True") {
            let text = format!(
                "the data are restored and served; waiting for EtcdCluster {name}: {}",
                ready.message
            );
            return self.tell_waiting(object, &text).await;
        }
        let status = object.status.clone().unwrap_or_default();
        let snapshot = status.snapshot.clone().unwrap_or_default();
        let text = format!("EtcdCluster {name} serves the data of snapshot {snapshot}");
        let conditions = Self::conditions(object).keep(VERIFIED).set(
            reasons::READY,
            ConditionStatus::True,
            reasons::AS_DESIRED,
            &text,
        );
        self.write(object, conditions).await?;
        self.events.normal(object, "Restored", "Restore", &text).await;
        Ok(Outcome::Converged)
    }

    async fn tell_waiting(&self, object: &EtcdRestore, text: &str) -> Result<Outcome, RestoresError> {
        let conditions = Self::conditions(object).keep(VERIFIED).set(
            reasons::READY,
            ConditionStatus::False,
            reasons::WAITING,
            text,
        );
        self.write(object, conditions).await?;
        Ok(Outcome::waiting(text, SOON))
    }

    async fn tell_failure(&self, object: &EtcdRestore, error: &RestoresError) -> Result<(), RestoresError> {
        let text = chain(error);
        let mut conditions = Self::conditions(object);
        if is_true(object, VERIFIED) {
            conditions = conditions.keep(VERIFIED);
        } else {
            conditions = conditions.set(VERIFIED, ConditionStatus::False, reasons::REFUSED, &text);
        }
        let conditions = conditions.set(reasons::READY, ConditionStatus::False, reasons::FAILED, &text);
        self.write(object, conditions).await?;
        self.events
            .warning(object, "RestoreFailed", "Restore", &text)
            .await;
        Ok(())
    }

    fn conditions(object: &EtcdRestore) -> Conditions {
        let observed = object.status.as_ref().map(|status| status.conditions.clone());
        Conditions::new(
            &observed.unwrap_or_default(),
            object.metadata.generation,
            Timestamp::now(),
        )
    }

    async fn write(&self, object: &EtcdRestore, conditions: Conditions) -> Result<(), RestoresError> {
        let status = EtcdRestoreStatus {
            observed_generation: object.metadata.generation,
            conditions: conditions.build(),
            ..object.status.clone().unwrap_or_default()
        };
        self.applier.apply_status(object, &status).await?;
        Ok(())
    }
}

fn is_true(object: &EtcdRestore, type_: &str) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Which writes are not in a snapshot, for people.
fn describe_loss(manifest: &Manifest, now: Timestamp) -> String {
    let taken = manifest.about.id().taken_at();
    let minutes = now.duration_since(taken).as_mins();
    let revision = manifest.about.revision;
    let revision = revision.map_or(String::new(), |revision| format!(", at revision {revision}"));
    format!("everything written since {taken}{revision}, {minutes} min ago, is lost")
}

fn name(field: &'static str) -> impl FnOnce(InvalidName) -> RestoresError {
    move |source| RestoresError::Name { field, source }
}
