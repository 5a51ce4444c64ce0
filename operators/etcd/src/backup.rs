//! Takes one snapshot: reads it from the leader, writes it to the store, reads it back whole, and lets old ones go.
//!
//! Apart from the controller of members, which must never wait for a store.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use skep_api::etcd_backup::EtcdBackupStatus;
use skep_api::{EtcdBackup, EtcdCluster};
use skep_core::reasons;
use skep_runtime::error::chain;
use skep_runtime::{
    Applier, ApplyError, Categorised, ConditionStatus, Conditions, Events, Outcome, Reconcile, api_category,
};
use skep_snapshots::{About, Fingerprint, Manifest, Owner, SnapshotError, SnapshotId, Store};

use crate::build::certificates::{OPERATOR, secret_name};
use crate::members::{Credentials, Members, MembersError, Target};
use crate::metrics::SNAPSHOTS;
use crate::observe::backups::is_taken;
use crate::observe::{ObserveError, fetch_children, target};
use crate::observed::MemberStatus;
use crate::snapshots::{Policy, StoreError, open};
use crate::validate::{Cluster, InvalidSpec, validate};

/// The name of this controller in field managers, metrics and events.
pub const CONTROLLER: &str = "etcd-backup";

/// How many backups of one datastore are kept as objects: with one an hour for years they would be many for an API server.
const REMEMBERED: usize = 10;

/// While a member hashes, its writes wait: a follower does where there is one, an only member up to so many bytes.
const HASHED_BYTES: i64 = 1 << 30;

/// A snapshot that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The datastore is not there.
    #[error("there is no EtcdCluster {0} in this namespace")]
    NoCluster(String),
    /// The datastore has no store for snapshots.
    #[error("EtcdCluster {0} has no spec.snapshots, which says where snapshots go")]
    NoPolicy(String),
    /// The datastore's spec cannot be acted upon.
    #[error("EtcdCluster {cluster} cannot be acted upon")]
    Invalid {
        /// Its name.
        cluster: String,
        /// Why.
        #[source]
        source: InvalidSpec,
    },
    /// The world could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// An object could not be read.
    #[error("cannot read {what}")]
    Read {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The Secret of the operator's own certificate lacks something.
    #[error("Secret {0} holds no certificate for the operator")]
    NoCertificate(String),
    /// No member answers and leads.
    #[error("no member of EtcdCluster {0} leads")]
    NoLeader(String),
    /// A member refused.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] StoreError),
    /// The store, or what etcd sent.
    #[error(transparent)]
    Store(#[from] SnapshotError),
    /// A status could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Categorised for BackupError {
    fn category(&self) -> &'static str {
        match self {
            Self::NoCluster(_) => "no-cluster",
            Self::NoPolicy(_) => "no-store",
            Self::Invalid { .. } => "invalid-spec",
            Self::Observe(error) => api_category(&error.source),
            Self::Read { source, .. } => api_category(source),
            Self::NoCertificate(_) => "certificates",
            Self::NoLeader(_) => "no-leader",
            Self::Members(error) => error.category(),
            Self::Open(StoreError::Store(error)) | Self::Store(error) => error.category(),
            Self::Open(_) => "store-secret",
            Self::Apply(error) => error.category(),
        }
    }
}

/// The reconciler of all backups.
pub struct Taker<M> {
    client: Client,
    applier: Applier,
    events: Events,
    members: M,
}

/// A snapshot that was taken.
struct Taken {
    manifest: Manifest,
    location: String,
}

impl<M: Members> Reconcile<EtcdBackup> for Taker<M> {
    type Error = BackupError;

    async fn reconcile(&self, cached: &EtcdBackup) -> Result<Outcome, BackupError> {
        let namespace = cached.namespace().unwrap_or_default();
        let api: Api<EtcdBackup> = Api::namespaced(self.client.clone(), &namespace);
        let found = api
            .get_opt(&cached.name_any())
            .await
            .map_err(read("the backup"))?;
        let Some(object) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
            return Ok(Outcome::skipped("the object is gone"));
        };
        if is_taken(&object) {
            return Ok(Outcome::Converged);
        }
        match self.take(&namespace, &object).await {
            Ok(taken) => self.tell_taken(&object, &taken).await,
            Err(error) => {
                self.tell_failure(&object, &error).await?;
                Err(error)
            }
        }
    }
}

impl<M: Members> Taker<M> {
    pub(crate) fn new(client: Client, members: M, instance: Option<String>) -> Self {
        Self {
            applier: Applier::new(client.clone(), CONTROLLER),
            events: Events::new(client.clone(), CONTROLLER, instance),
            client,
            members,
        }
    }

    async fn take(&self, namespace: &str, object: &EtcdBackup) -> Result<Taken, BackupError> {
        let (cluster, policy) = fetch_cluster(&self.client, namespace, &object.spec.cluster).await?;
        let store = open(&self.client, namespace, &policy).await?;
        let owner = Owner::new(&cluster.uid)
            .map_err(|error| InvalidSpec::new("metadata.uid", error.to_string()))
            .map_err(invalid(&cluster.name))?;
        let (leader, about) = self.find_leader(&cluster).await?;
        let pieces = self.members.snapshot(&leader).await?;
        let manifest = store.write(&owner, about, pieces).await?;
        store.verify(&owner, manifest.about.id()).await?;
        // What is too old goes; a failure of that takes nothing from this snapshot.
        if let Err(error) = self.let_go(namespace, &cluster, &policy, &store, &owner).await {
            tracing::warn!(error = chain(&error), "cannot delete old snapshots");
            self.events
                .warning(object, "OldSnapshotsStay", "DeleteSnapshots", &chain(&error))
                .await;
        }
        Ok(Taken {
            manifest,
            location: policy.location.to_string(),
        })
    }

    /// The member that leads, and what is known of its database.
    async fn find_leader(&self, cluster: &Cluster) -> Result<(Target, About), BackupError> {
        let credentials = Arc::new(fetch_credentials(&self.client, cluster).await?);
        let children = fetch_children(&self.client, &cluster.namespace, &cluster.name, &cluster.uid).await?;
        let targets = children
            .pods
            .iter()
            .filter_map(|(name, pod)| target(cluster, name, pod, &credentials));
        let answers = join_all(targets.map(|target| async {
            let status = self.members.status(&target).await.ok()?;
            Some((target, status))
        }));
        let answers: Vec<_> = answers.await.into_iter().flatten().collect();
        let leads = |(_, status): &&(Target, MemberStatus)| status.leader == Some(status.id);
        let leader = answers.iter().find(leads);
        let (target, status) = leader.ok_or_else(|| BackupError::NoLeader(cluster.name.clone()))?;
        let is_follower = |other: &MemberStatus| {
            other.leader == Some(status.id) && !other.is_learner && other.id != status.id
        };
        let followers: Vec<_> = answers.iter().filter(|(_, other)| is_follower(other)).collect();
        let mut found = None;
        for (follower, other) in &followers {
            if found.is_some() {
                break;
            }
            // Both hold what the one that is behind holds.
            let revision = status.revision.min(other.revision);
            found = self.fingerprint(follower, revision).await;
        }
        if followers.is_empty() && status.used_bytes <= HASHED_BYTES {
            found = self.fingerprint(target, status.revision).await;
        }
        let (revision, content) = found.map_or((status.revision, None), |(revision, content)| {
            (revision, Some(content))
        });
        let about = About {
            cluster: cluster.name.clone(),
            etcd_version: status.version.clone(),
            cluster_id: status.cluster_id,
            revision: Some(revision),
            content,
            taken_at: Timestamp::now(),
        };
        Ok((target.clone(), about))
    }

    /// What a drill compares later. A snapshot is worth more than this, so a member that cannot say it costs only this.
    async fn fingerprint(&self, target: &Target, revision: i64) -> Option<(i64, Fingerprint)> {
        match self.members.fingerprint(target, revision).await {
            Ok(found) => Some((revision, found)),
            Err(error) => {
                tracing::warn!(%error, member = target.server_name, "cannot hash what a snapshot will hold");
                None
            }
        }
    }

    /// Deletes snapshots whose time is over, and the objects that speak of them or of what is long past.
    async fn let_go(
        &self,
        namespace: &str,
        cluster: &Cluster,
        policy: &Policy,
        store: &Store,
        owner: &Owner,
    ) -> Result<(), BackupError> {
        let now = Timestamp::now();
        let gone = store
            .delete_older_than(owner, policy.keep, policy.keep_at_least, now)
            .await?;
        let api: Api<EtcdBackup> = Api::namespaced(self.client.clone(), namespace);
        let all = api.list(&ListParams::default()).await.map_err(read("backups"))?;
        let ours = all
            .items
            .into_iter()
            .filter(|backup| backup.spec.cluster == cluster.name);
        for backup in past(ours.collect(), &gone) {
            self.applier.delete_observed(&backup).await?;
        }
        Ok(())
    }

    async fn tell_taken(&self, object: &EtcdBackup, taken: &Taken) -> Result<Outcome, BackupError> {
        SNAPSHOTS.with_label_values(&["taken"]).inc();
        let Taken { manifest, location } = taken;
        let id = manifest.about.id();
        let text = format!("snapshot {id} was written to {location} and read back whole");
        let status = EtcdBackupStatus {
            observed_generation: object.metadata.generation,
            snapshot: Some(id.to_string()),
            owner: Some(manifest.owner.to_string()),
            location: Some(location.clone()),
            revision: manifest.about.revision,
            keys: manifest.about.content.map(|content| content.keys),
            bytes: i64::try_from(manifest.bytes).ok(),
            taken_at: Some(Time(id.taken_at())),
            conditions: conditions(object, ConditionStatus::True, reasons::AS_DESIRED, &text),
        };
        self.applier.apply_status(object, &status).await?;
        self.events
            .normal(object, "SnapshotTaken", "TakeSnapshot", &text)
            .await;
        Ok(Outcome::Converged)
    }

    async fn tell_failure(&self, object: &EtcdBackup, error: &BackupError) -> Result<(), BackupError> {
        SNAPSHOTS.with_label_values(&["failed"]).inc();
        let text = chain(error);
        let status = EtcdBackupStatus {
            observed_generation: object.metadata.generation,
            conditions: conditions(object, ConditionStatus::False, reasons::FAILED, &text),
            ..EtcdBackupStatus::default()
        };
        self.applier.apply_status(object, &status).await?;
        self.events
            .warning(object, "SnapshotFailed", "TakeSnapshot", &text)
            .await;
        Ok(())
    }
}

/// The backups whose snapshots are gone, and all but the newest of the others that were taken: the store knows the rest.
fn past(backups: Vec<EtcdBackup>, gone: &[SnapshotId]) -> Vec<EtcdBackup> {
    let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
    let snapshot = |backup: &EtcdBackup| backup.status.as_ref().and_then(|status| status.snapshot.clone());
    let mut taken: Vec<EtcdBackup> = backups.into_iter().filter(is_taken).collect();
    // A snapshot's name begins with its time.
    taken.sort_by_key(|backup| std::cmp::Reverse(snapshot(backup)));
    let is_gone = |backup: &EtcdBackup| snapshot(backup).is_some_and(|snapshot| gone.contains(&snapshot));
    let (gone, mut kept): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_gone);
    let past = kept.split_off(kept.len().min(REMEMBERED));
    gone.into_iter().chain(past).collect()
}

fn conditions(object: &EtcdBackup, status: ConditionStatus, reason: &str, text: &str) -> Vec<Condition> {
    let observed = object.status.as_ref().map(|status| &status.conditions);
    ready(object, observed, status, reason, text)
}

/// The condition `Ready` of an object that is done once, which is all that it says.
pub(crate) fn ready<K: Resource>(
    object: &K,
    observed: Option<&Vec<Condition>>,
    status: ConditionStatus,
    reason: &str,
    text: &str,
) -> Vec<Condition> {
    let observed = observed.map(Vec::as_slice).unwrap_or_default();
    Conditions::new(observed, object.meta().generation, Timestamp::now())
        .set(reasons::READY, status, reason, text)
        .build()
}

/// Reads a datastore and what it says of its snapshots.
pub(crate) async fn fetch_cluster(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(Cluster, Policy), BackupError> {
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(read("the datastore"))?;
    let found = found.ok_or_else(|| BackupError::NoCluster(name.to_owned()))?;
    let cluster = validate(&found).map_err(invalid(name))?.as_it_runs(&found);
    let policy = cluster.snapshots.clone();
    Ok((
        cluster,
        policy.ok_or_else(|| BackupError::NoPolicy(name.to_owned()))?,
    ))
}

async fn fetch_credentials(client: &Client, cluster: &Cluster) -> Result<Credentials, BackupError> {
    let name = secret_name(&cluster.name, &format!("client-{OPERATOR}"));
    let api: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace);
    let secret = api.get(&name).await.map_err(read(&format!("Secret {name}")))?;
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        text.ok_or_else(|| BackupError::NoCertificate(name.clone()))
    };
    Ok(Credentials {
        authority: text("ca.crt")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    })
}

pub(crate) fn read(what: &str) -> impl FnOnce(kube::Error) -> BackupError {
    let what = what.to_owned();
    move |source| BackupError::Read { what, source }
}

fn invalid(cluster: &str) -> impl FnOnce(InvalidSpec) -> BackupError {
    let cluster = cluster.to_owned();
    move |source| BackupError::Invalid { cluster, source }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use skep_api::EtcdBackupSpec;
    use skep_api::etcd_backup::BackupReason;

    use super::*;

    fn backup(day: usize, ready: &str) -> EtcdBackup {
        let spec = EtcdBackupSpec {
            cluster: "etcd".into(),
            why: BackupReason::Scheduled,
        };
        let mut backup = EtcdBackup::new(&format!("day-{day}"), spec);
        backup.status = Some(EtcdBackupStatus {
            snapshot: Some(snapshot(day)),
            conditions: vec![Condition {
                type_: reasons::READY.into(),
                status: ready.into(),
                message: String::new(),
                reason: "x".into(),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                observed_generation: None,
            }],
            ..EtcdBackupStatus::default()
        });
        backup
    }

    fn snapshot(day: usize) -> String {
        format!("202611{day:02}T041410Z-{day:019}")
    }

    #[test]
    fn what_is_gone_and_what_is_long_past_is_forgotten() {
        let mut all: Vec<EtcdBackup> = (1..=15).map(|day| backup(day, "True")).collect();
        all.push(backup(16, "False"));
        let gone = [snapshot(14).parse().unwrap()];
        let names: Vec<String> = past(all, &gone).iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["day-14", "day-4", "day-3", "day-2", "day-1"]);
    }
}
