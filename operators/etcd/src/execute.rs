//! Carries out one [`Action`]; every one of them may be repeated, and none is believed to have worked.
//!
//! Deletions carry the unique id that was observed. What etcd refuses because its time has not come is no
//! error.

mod snapshots;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use skep_api::etcd_cluster::{EtcdCluster, EtcdClusterStatus, MemberIntent, RestorePhase};
use skep_core::labels;
use skep_pki::PkiError;
use skep_runtime::{Applier, ApplyError, Events};

use crate::CONTROLLER;
use crate::build::certificates::{AUTHORITIES, secret_name};
use crate::build::{self, authority, claim, pod};
use crate::decide::Action;
use crate::members::{Credentials, Members, MembersError, Target};
use crate::observe::{Memory, target};
use crate::observed::{AlarmKind, Observed, RotationStep, Start};
use crate::status::{build_status, write_status};
use crate::turns::{Turns, is_disruptive};
use crate::validate::Cluster;
use crate::version::Release;

/// What became of an action.
#[derive(Debug)]
pub enum Effect {
    /// It was carried out, or had been: observe again.
    Again,
    /// Etcd did not do it now; why.
    Refused(String),
    /// It is another cluster's turn; whose.
    Queued(String),
}

/// An action that failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The API server refused a write or could not be reached.
    #[error("cannot {verb}")]
    Write {
        /// What was tried.
        verb: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The API server could not be read.
    #[error("cannot read {what}")]
    Read {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// An authority cannot be replaced.
    #[error("cannot replace the authority in Secret {secret}")]
    Authority {
        /// The Secret's name.
        secret: String,
        /// Why.
        #[source]
        source: PkiError,
    },
    /// A delete failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Everything that an action may need.
pub struct Step<'a, M> {
    /// The API server.
    pub client: &'a Client,
    /// Deletes.
    pub applier: &'a Applier,
    /// Tells people.
    pub events: &'a Events,
    /// Etcd.
    pub members: &'a M,
    /// What shall be.
    pub cluster: &'a Cluster,
    /// The object as it was read.
    pub object: &'a EtcdCluster,
    /// What was observed.
    pub observed: &'a Observed,
    /// What was done before.
    pub memory: &'a Memory,
    /// Whose member is disturbed on which node.
    pub turns: &'a Turns,
    /// The operator's certificate.
    pub credentials: &'a Arc<Credentials>,
}

impl<M: Members> Step<'_, M> {
    /// Carries out `action`; [`Action::Wait`] and [`Action::Done`] do nothing.
    pub async fn execute(&self, action: &Action, now: Timestamp) -> Result<Effect, ExecuteError> {
        match action {
            Action::Latch(intent) => {
                if let Some(other) = self.ask_for_turn(intent).await? {
                    return Ok(Effect::Queued(other));
                }
                self.record(action, now, |status| status.intent = Some(intent.clone()))
                    .await
            }
            Action::ClearIntent => self.record(action, now, |status| status.intent = None).await,
            Action::Adopt(release) => self.adopt(action, release, now).await,
            Action::RecordBootstrap => self.record_bootstrap(action, now).await,
            Action::StartMember { pod, start } => self.start_member(pod, start).await,
            Action::SetStart { pod, version, start } => {
                let mut annotations = pod::start_annotations(self.cluster, pod, start);
                let before = self.observed.pods.get(pod).and_then(|state| state.start.as_ref());
                if before == Some(&Start::Force) {
                    // Once the cluster is whole it is made anew without what has recovered its data.
                    annotations.insert(pod::REVISION.to_owned(), "recovered".to_owned());
                }
                self.change_pod(pod, version, json!({"metadata": {"annotations": annotations}}))
                    .await
            }
            Action::Release { pod, version } => {
                self.change_pod(
                    pod,
                    version,
                    json!({"metadata": {}, "spec": {"schedulingGates": null}}),
                )
                .await
            }
            Action::DeletePod { pod, uid } => {
                let api: Api<Pod> = self.api();
                deleted(self.applier.delete(&api, pod, Some(only(uid))).await)
            }
            Action::DeleteClaim { pod, uid } => {
                let api: Api<PersistentVolumeClaim> = self.api();
                deleted(
                    self.applier
                        .delete(&api, &claim::name(pod), Some(only(uid)))
                        .await,
                )
            }
            Action::AddLearner { .. }
            | Action::Promote { .. }
            | Action::MoveLeader { .. }
            | Action::RemoveMember { .. }
            | Action::Compact { .. }
            | Action::Disarm(_) => Ok(self.ask_leader(action).await),
            Action::Defragment { pod } => self.defragment(action, pod, now).await,
            Action::Rotate(step) => self.rotate(*step, now).await,
            Action::Backup(why) => self.ask_for_backup(*why, now).await,
            Action::Drill => self.ask_for_drill(now).await,
            Action::BeginRestore(source) => self.begin_restore(action, source, now).await,
            Action::PassOver(source) => self.pass_over(action, source, now).await,
            Action::SetAside { pod, uid } => self.set_aside(pod, uid).await,
            Action::FormRestored => {
                let form = |status: &mut EtcdClusterStatus| {
                    if let Some(restoring) = &mut status.restoring {
                        restoring.phase = RestorePhase::Forming;
                    }
                };
                self.record(action, now, form).await
            }
            Action::Wait { .. } | Action::Done => Ok(Effect::Again),
        }
    }

    /// What has the turn on the node of a member that is going to be disturbed; nothing once this cluster has it.
    async fn ask_for_turn(&self, intent: &MemberIntent) -> Result<Option<String>, ExecuteError> {
        let node = self.observed.node_of(&intent.pod);
        let Some(node) = node.filter(|_| is_disruptive(intent)) else {
            return Ok(None);
        };
        // Where nothing can be written nobody is waited for.
        let members = self.observed.membership.as_ref();
        let is_full = members.is_some_and(|members| members.has_alarm(AlarmKind::NoSpace));
        let asked = self
            .turns
            .take(&self.cluster.uid, &self.cluster.full_name(), node, is_full)
            .await;
        asked.map_err(|source| ExecuteError::Read {
            what: "which etcd clusters are being worked on",
            source,
        })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.cluster.namespace)
    }

    async fn record(
        &self,
        action: &Action,
        now: Timestamp,
        change: impl FnOnce(&mut EtcdClusterStatus) + Send,
    ) -> Result<Effect, ExecuteError> {
        let mut status = build_status(self.object, self.observed, action, now);
        change(&mut status);
        match write_status(self.client, self.object, &status).await {
            Ok(()) => Ok(Effect::Again),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Effect::Again),
            Err(source) => Err(ExecuteError::Write {
                verb: "record a step in the status",
                source,
            }),
        }
    }

    async fn record_bootstrap(&self, action: &Action, now: Timestamp) -> Result<Effect, ExecuteError> {
        let effect = self
            .record(action, now, |status| {
                let was_lost = !status.bootstrapped && status.intent.is_none();
                status.bootstrapped = true;
                status.intent = None;
                if let Some(done) = status.restoring.take() {
                    let recovered = done.source.member.map(|_| done.source.name.clone());
                    status.recovered = recovered.or(status.recovered.take());
                    status.restored = Some(done.source.name);
                } else if was_lost {
                    // Nobody knows whether it was done; under another name it is asked for again.
                    status.restored = self.cluster.restore.as_ref().map(|source| source.name.clone());
                }
            })
            .await?;
        let (reason, note) = match &self.cluster.forming_from {
            Some(source) => {
                let note = format!(
                    "the first member serves the data of {}",
                    snapshots::describe(source)
                );
                ("Restored", note)
            }
            None => (
                "Bootstrapped",
                "the first member has formed the cluster".to_owned(),
            ),
        };
        self.events.normal(self.object, reason, "Bootstrap", &note).await;
        Ok(effect)
    }

    async fn adopt(
        &self,
        action: &Action,
        release: &Release,
        now: Timestamp,
    ) -> Result<Effect, ExecuteError> {
        let effect = self
            .record(action, now, |status| status.release = Some(release.to_record()))
            .await?;
        let (from, to) = (self.observed.release.version, release.version);
        let note = format!(
            "members are made anew one by one: {from} to {to}, image {}",
            release.image
        );
        self.events
            .normal(self.object, "ReleaseAdopted", "Adopt", &note)
            .await;
        Ok(effect)
    }

    async fn start_member(&self, name: &str, start: &Start) -> Result<Effect, ExecuteError> {
        let params = PostParams {
            field_manager: Some(labels::field_manager(CONTROLLER)),
            ..PostParams::default()
        };
        if !self.observed.claims.contains_key(name) {
            let api: Api<PersistentVolumeClaim> = self.api();
            let built = claim::build_claim(self.cluster, name);
            created("create a volume claim", api.create(&params, &built).await)?;
        }
        if !self.observed.pods.contains_key(name) {
            let api: Api<Pod> = self.api();
            let built = pod::build_pod(self.cluster, name, start);
            created("create a pod", api.create(&params, &built).await)?;
        }
        Ok(Effect::Again)
    }

    /// Changes a pod only while it is of the version that was observed.
    async fn change_pod(
        &self,
        name: &str,
        version: &str,
        mut body: serde_json::Value,
    ) -> Result<Effect, ExecuteError> {
        let api: Api<Pod> = self.api();
        body["metadata"]["resourceVersion"] = version.into();
        let params = PatchParams {
            field_manager: Some(labels::field_manager(CONTROLLER)),
            ..PatchParams::default()
        };
        match api.patch(name, &params, &Patch::Merge(body)).await {
            Ok(_) => Ok(Effect::Again),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(Effect::Again)
            }
            Err(source) => Err(ExecuteError::Write {
                verb: "change a pod",
                source,
            }),
        }
    }

    /// Has a member write its database anew, and takes the intent out of the status.
    async fn defragment(&self, action: &Action, pod: &str, now: Timestamp) -> Result<Effect, ExecuteError> {
        let state = self.observed.pods.get(pod);
        let Some(target) = state.and_then(|state| target(self.cluster, pod, state, self.credentials)) else {
            return Ok(Effect::Refused(format!("{pod} to run")));
        };
        if let Err(error) = self.members.defragment(&target).await {
            return Ok(refused(&error));
        }
        let members = self.observed.membership.as_ref();
        if let Some(member) = members.and_then(|members| members.of_pod(pod)) {
            self.memory.note_defragmented(&self.cluster.uid, member.id);
        }
        self.tell(action).await;
        self.record(action, now, |status| status.intent = None).await
    }

    /// Brings every authority for which a step is due that step closer to its replacement.
    async fn rotate(&self, step: RotationStep, now: Timestamp) -> Result<Effect, ExecuteError> {
        let api: Api<Secret> = self.api();
        let failed = |source| ExecuteError::Write {
            verb: "replace an authority",
            source,
        };
        for part in AUTHORITIES {
            let name = secret_name(&self.cluster.name, part);
            let secret = api.get(&name).await.map_err(failed)?;
            let rotation = self.cluster.authority_rotation;
            let after = authority::advance(&secret, step, rotation, now).map_err(|source| {
                ExecuteError::Authority {
                    secret: name.clone(),
                    source,
                }
            })?;
            let Some(after) = after else { continue };
            let params = PatchParams {
                field_manager: Some(labels::field_manager(CONTROLLER)),
                ..PatchParams::default()
            };
            let patch = Patch::Merge(authority::build_patch(&secret, &after));
            match api.patch(&name, &params, &patch).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(Effect::Again),
                result => drop(result.map_err(failed)?),
            }
        }
        self.tell(&Action::Rotate(step)).await;
        Ok(Effect::Again)
    }

    /// Asks the leader to change its members or its store.
    async fn ask_leader(&self, action: &Action) -> Effect {
        let Some(leader) = self.leader() else {
            return Effect::Refused("a leader that answers".to_owned());
        };
        let result = match action {
            Action::AddLearner { pod } => {
                self.members
                    .add_learner(&leader, &build::peer_url(self.cluster, pod))
                    .await
            }
            Action::Promote { id, .. } => self.members.promote(&leader, *id).await,
            Action::RemoveMember { id, .. } => self.members.remove(&leader, *id).await,
            Action::MoveLeader { to } => self.members.move_leader(&leader, *to).await,
            Action::Compact { revision } => self.compact(&leader, *revision).await,
            Action::Disarm(alarm) => self.members.disarm(&leader, *alarm).await,
            _ => return Effect::Again,
        };
        match result {
            Ok(()) => {
                self.tell(action).await;
                Effect::Again
            }
            Err(error) => refused(&error),
        }
    }

    async fn compact(&self, leader: &Target, revision: i64) -> Result<(), MembersError> {
        match self.members.compact(leader, revision).await {
            // Another was first.
            Err(error) if !error.is_compacted() => Err(error),
            _ => {
                self.memory.note_compacted(&self.cluster.uid, revision);
                Ok(())
            }
        }
    }

    fn leader(&self) -> Option<Target> {
        let members = self.observed.membership.as_ref()?;
        let leader = members
            .members
            .iter()
            .find(|member| Some(member.id) == members.leader)?;
        let pod = leader.pod.as_deref()?;
        target(self.cluster, pod, self.observed.pods.get(pod)?, self.credentials)
    }

    async fn tell(&self, action: &Action) {
        let (reason, verb, note) = match action {
            Action::AddLearner { pod } => ("MemberAdded", "AddMember", format!("{pod} joins without a vote")),
            Action::Promote { pod, .. } => ("MemberPromoted", "PromoteMember", format!("{pod} votes")),
            Action::RemoveMember { pod, .. } => ("MemberRemoved", "RemoveMember", format!("{pod} has left")),
            Action::MoveLeader { to } => ("LeaderMoved", "MoveLeader", format!("member {to:x} leads")),
            Action::Compact { revision } => (
                "Compacted",
                "Compact",
                format!("the database is full: history before revision {revision} is gone"),
            ),
            Action::Defragment { pod } => {
                let note = format!("the database of {pod} was written anew without its holes");
                ("Defragmented", "Defragment", note)
            }
            Action::Disarm(_) => {
                let note = "the database has room again, the alarm NOSPACE was taken back".to_owned();
                ("SpaceFreed", "Disarm", note)
            }
            Action::Rotate(step) => {
                let (reason, note) = match step {
                    RotationStep::Introduce => (
                        "AuthorityIntroduced",
                        "new authorities are trusted beside today's",
                    ),
                    RotationStep::Sign => (
                        "AuthorityReplaced",
                        "the new authorities sign, the old are still trusted",
                    ),
                    RotationStep::Retire => ("AuthorityRetired", "the old authorities are trusted no more"),
                };
                (reason, "RotateAuthorities", note.to_owned())
            }
            _ => return,
        };
        tracing::info!(reason, note, "members changed");
        self.events.normal(self.object, reason, verb, &note).await;
    }
}

fn deleted(result: Result<skep_runtime::Deletion, ApplyError>) -> Result<Effect, ExecuteError> {
    match result {
        Ok(_) => Ok(Effect::Again),
        // Another object has taken its place since it was observed.
        Err(error) if error.is_conflict() => Ok(Effect::Again),
        Err(error) => Err(error.into()),
    }
}

fn refused(error: &MembersError) -> Effect {
    if error.is_expected() {
        tracing::debug!(%error, "etcd refused for now");
    } else {
        tracing::warn!(%error, "etcd refused");
    }
    Effect::Refused(format!("etcd ({error})"))
}

fn only(uid: &str) -> Preconditions {
    Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    }
}

/// An object of this name that is there already is observed next time.
fn created<K>(verb: &'static str, result: kube::Result<K>) -> Result<(), ExecuteError> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(ExecuteError::Write { verb, source }),
    }
}
