//! Leads one restore: reads the snapshot whole, says what is lost, waits for a person, and has the datastore do it.
//!
//! The datastore's own controller makes the members; this one only sets `spec.restore`, and only once.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::etcd_restore::{EtcdRestoreStatus, VERIFIED};
use skep_api::{EtcdCluster, EtcdRestore};
use skep_core::reasons::PROGRESSING;
use skep_core::{labels, reasons};
use skep_runtime::error::chain;
use skep_runtime::{
    Applier, ApplyError, Categorised, ConditionStatus, Conditions, Events, Outcome, Reconcile, conditions,
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
        if is_true(&object, reasons::READY) || is_superseded(&object) {
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
        let own = object.uid().unwrap_or_default();
        let name = &object.spec.cluster;
        let api: Api<EtcdCluster> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(read("the datastore"))?;
        let found = found.ok_or_else(|| BackupError::NoCluster(name.clone()))?;
        let status = found.status.clone().unwrap_or_default();
        let asked = found.spec.restore.as_ref().map(|restore| restore.name.as_str());
        let names = [asked, status.restored.as_deref()];
        let is_older = self.is_one_newer(namespace, object, names).await?;
        let has_asked = is_true(object, PROGRESSING) || is_older;
        match next_step(&own, has_asked, asked, status.restored.as_deref()) {
            Step::Ask => {
                self.ask(&api, object, &found).await?;
                self.tell_waiting(object, &format!("EtcdCluster {name} was asked for it"))
                    .await
            }
            Step::Follow => {
                let ready = conditions::find(&status.conditions, reasons::READY);
                let what = ready.map_or("it is being looked at", |ready| ready.message.as_str());
                self.tell_waiting(object, &format!("waiting for EtcdCluster {name}: {what}"))
                    .await
            }
            Step::Finish => self.wait_until_whole(object, &status.conditions).await,
            Step::GiveUp => self.tell_superseded(object).await,
        }
    }

    /// Whether one of the restores with these unique ids was created after this one: a person wanted that one later, also
    /// where this one's snapshot took longer to be read.
    async fn is_one_newer(
        &self,
        namespace: &str,
        object: &EtcdRestore,
        uids: [Option<&str>; 2],
    ) -> Result<bool, RestoresError> {
        if uids
            .iter()
            .flatten()
            .all(|uid| Some(*uid) == object.metadata.uid.as_deref())
        {
            return Ok(false);
        }
        let api: Api<EtcdRestore> = Api::namespaced(self.client.clone(), namespace);
        let all = api
            .list(&ListParams::default())
            .await
            .map_err(read("the restores"))?;
        Ok(all.iter().any(|other| {
            let is_named = uids.contains(&other.metadata.uid.as_deref()) && other.metadata.uid.is_some();
            is_named && other.creation_timestamp() > object.creation_timestamp()
        }))
    }

    async fn ask(
        &self,
        api: &Api<EtcdCluster>,
        object: &EtcdRestore,
        found: &EtcdCluster,
    ) -> Result<(), RestoresError> {
        let owner = object.spec.owner.clone().or_else(|| found.uid());
        let snapshot = object.status.as_ref().and_then(|status| status.snapshot.clone());
        // With the unique id: a namesake that was made since is another datastore.
        let patch = json!({
            "metadata": {"uid": found.uid()},
            "spec": {"restore": {"name": object.uid(), "owner": owner, "snapshot": snapshot, "member": null}},
        });
        let params = PatchParams {
            field_manager: Some(labels::field_manager(CONTROLLER)),
            ..PatchParams::default()
        };
        let cluster = &object.spec.cluster;
        api.patch(cluster, &params, &Patch::Merge(patch))
            .await
            .map_err(|source| RestoresError::Ask {
                cluster: cluster.clone(),
                source,
            })?;
        let note = "the datastore was asked for the restore";
        self.events.normal(object, "RestoreBegun", "Restore", note).await;
        Ok(())
    }

    async fn wait_until_whole(
        &self,
        object: &EtcdRestore,
        conditions: &[Condition],
    ) -> Result<Outcome, RestoresError> {
        let name = &object.spec.cluster;
        let ready = conditions::find(conditions, reasons::READY);
        if ready.is_none_or(|ready| ready.status != "True") {
            let what = ready.map_or("it is being looked at", |ready| ready.message.as_str());
            let text = format!("the data are restored and served; waiting for EtcdCluster {name}: {what}");
            return self.tell_waiting(object, &text).await;
        }
        let status = object.status.clone().unwrap_or_default();
        let snapshot = status.snapshot.clone().unwrap_or_default();
        let text = format!("EtcdCluster {name} serves the data of snapshot {snapshot}");
        let conditions = Self::conditions(object)
            .keep(VERIFIED)
            .set(PROGRESSING, ConditionStatus::False, reasons::AS_DESIRED, &text)
            .set(reasons::READY, ConditionStatus::True, reasons::AS_DESIRED, &text);
        self.write(object, conditions).await?;
        self.events.normal(object, "Restored", "Restore", &text).await;
        Ok(Outcome::Converged)
    }

    async fn tell_waiting(&self, object: &EtcdRestore, text: &str) -> Result<Outcome, RestoresError> {
        let conditions = Self::conditions(object)
            .keep(VERIFIED)
            .set(PROGRESSING, ConditionStatus::True, reasons::WAITING, text)
            .set(reasons::READY, ConditionStatus::False, reasons::WAITING, text);
        self.write(object, conditions).await?;
        Ok(Outcome::waiting(text, SOON))
    }

    /// The end of a restore whose place another has taken: asking again would undo what a person wanted later.
    async fn tell_superseded(&self, object: &EtcdRestore) -> Result<Outcome, RestoresError> {
        let name = &object.spec.cluster;
        let text =
            format!("another restore of EtcdCluster {name} was approved later and has taken its place");
        let conditions = Self::conditions(object)
            .keep(VERIFIED)
            .set(PROGRESSING, ConditionStatus::False, reasons::SUPERSEDED, &text)
            .set(reasons::READY, ConditionStatus::False, reasons::SUPERSEDED, &text);
        self.write(object, conditions).await?;
        self.events
            .warning(object, "RestoreSuperseded", "Restore", &text)
            .await;
        Ok(Outcome::Converged)
    }

    async fn tell_failure(&self, object: &EtcdRestore, error: &RestoresError) -> Result<(), RestoresError> {
        let text = chain(error);
        let mut conditions = Self::conditions(object);
        if is_true(object, VERIFIED) {
            conditions = conditions.keep(VERIFIED);
        } else {
            conditions = conditions.set(VERIFIED, ConditionStatus::False, reasons::REFUSED, &text);
        }
        let conditions = conditions.keep(PROGRESSING);
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

fn is_superseded(object: &EtcdRestore) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == reasons::READY && condition.reason == reasons::SUPERSEDED)
}

/// What a restore that a person approved does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It asks the datastore.
    Ask,
    /// It waits for the datastore to begin and to serve.
    Follow,
    /// Its data are served; it waits for all members.
    Finish,
    /// Another was asked for since.
    GiveUp,
}

/// `asked` and `done` are the names of the restores that the datastore was last asked for and has last done; a restore
/// asks once, and not where a newer one has, so that of two that are approved the later is done and neither is done twice.
fn next_step(own: &str, has_asked: bool, asked: Option<&str>, done: Option<&str>) -> Step {
    match (asked, done) {
        (_, Some(done)) if done == own => Step::Finish,
        (Some(asked), _) if asked == own => Step::Follow,
        (Some(_), _) | (_, Some(_)) if has_asked => Step::GiveUp,
        _ => Step::Ask,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_are_approved_the_later_is_done_and_neither_twice() {
        assert_eq!(next_step("a", false, None, None), Step::Ask);
        // Its own note that it has asked may be lost; the datastore still knows.
        assert_eq!(next_step("a", false, Some("a"), None), Step::Follow);
        assert_eq!(next_step("b", false, Some("a"), None), Step::Ask);
        assert_eq!(next_step("a", true, Some("b"), None), Step::GiveUp);
        assert_eq!(next_step("a", true, Some("b"), Some("b")), Step::GiveUp);
        assert_eq!(next_step("b", true, Some("b"), Some("b")), Step::Finish);
        // One that was done before another was asked for is done.
        assert_eq!(next_step("a", true, Some("b"), Some("a")), Step::Finish);
    }

    #[test]
    fn one_that_was_taken_out_of_the_spec_is_asked_for_again() {
        assert_eq!(next_step("a", true, None, None), Step::Ask);
    }
}
