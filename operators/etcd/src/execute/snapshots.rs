//! The steps that have to do with snapshots: one is asked for, or takes the place of the data.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use skep_api::etcd_backup::{BackupReason, EtcdBackup, EtcdBackupSpec};
use skep_api::etcd_cluster::{EtcdRestoring, RestorePhase, RestoreSource};
use skep_api::etcd_drill::{EtcdDrill, EtcdDrillSpec};
use skep_core::labels;

use super::{Effect, ExecuteError, Step, created};
use crate::CONTROLLER;
use crate::build::{self, claim};
use crate::decide::Action;
use crate::members::Members;

impl<M: Members> Step<'_, M> {
    /// Another controller takes it; its name says when it was asked for, so that two asked for at once are one.
    pub(super) async fn ask_for_backup(
        &self,
        why: BackupReason,
        now: Timestamp,
    ) -> Result<Effect, ExecuteError> {
        let name = named_by_time(&self.cluster.name, now);
        let spec = EtcdBackupSpec {
            cluster: self.cluster.name.clone(),
            why,
        };
        let mut backup = EtcdBackup::new(&name, spec);
        backup.metadata = build::owned(self.cluster, name);
        let params = PostParams {
            field_manager: Some(labels::field_manager(CONTROLLER)),
            ..PostParams::default()
        };
        let api: Api<EtcdBackup> = self.api();
        created("ask for a backup", api.create(&params, &backup).await)?;
        Ok(Effect::Again)
    }

    pub(super) async fn ask_for_drill(&self, now: Timestamp) -> Result<Effect, ExecuteError> {
        let name = named_by_time(&format!("{}-drill", self.cluster.name), now);
        let spec = EtcdDrillSpec {
            cluster: self.cluster.name.clone(),
            snapshot: None,
        };
        let mut drill = EtcdDrill::new(&name, spec);
        drill.metadata = build::owned(self.cluster, name);
        let params = PostParams {
            field_manager: Some(labels::field_manager(CONTROLLER)),
            ..PostParams::default()
        };
        let api: Api<EtcdDrill> = self.api();
        created("ask for a drill", api.create(&params, &drill).await)?;
        Ok(Effect::Again)
    }

    /// From here on nothing of the members that are there counts any more.
    pub(super) async fn begin_restore(
        &self,
        action: &Action,
        source: &RestoreSource,
        now: Timestamp,
    ) -> Result<Effect, ExecuteError> {
        if self.cluster.operator_image.is_none() {
            let what =
                "a person: the operator does not know its own image; set SKEP_IMAGE in its environment";
            return Ok(Effect::Refused(what.to_owned()));
        }
        let effect = self
            .record(action, now, |status| {
                status.restoring = Some(EtcdRestoring {
                    source: source.clone(),
                    phase: RestorePhase::Clearing,
                });
                status.bootstrapped = false;
                status.intent = None;
                status.members = Vec::new();
                status.leader = None;
                status.ready_members = 0;
                status.cluster_id = None;
            })
            .await?;
        let note = format!(
            "all members are replaced: {} takes the place of the data",
            describe(source)
        );
        self.events
            .normal(self.object, "RestoreBegun", "Restore", &note)
            .await;
        Ok(effect)
    }

    pub(super) async fn pass_over(
        &self,
        action: &Action,
        source: &RestoreSource,
        now: Timestamp,
    ) -> Result<Effect, ExecuteError> {
        let done = source.name.clone();
        let effect = self
            .record(action, now, |status| status.restored = Some(done))
            .await?;
        let note = "a quorum of members answers, so none is given up for the data of one";
        self.events
            .normal(self.object, "RecoveryNotNeeded", "Restore", note)
            .await;
        Ok(effect)
    }

    pub(super) async fn set_aside(&self, pod: &str, uid: &str) -> Result<Effect, ExecuteError> {
        let api: Api<PersistentVolumeClaim> = self.api();
        let labels = json!({build::UID_LABEL: null, build::SET_ASIDE_LABEL: self.cluster.uid});
        let patch = Patch::Merge(json!({"metadata": {"uid": uid, "labels": labels}}));
        match api
            .patch(&claim::name(pod), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => Ok(Effect::Again),
            // It is gone, or another has its name.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(Effect::Again)
            }
            Err(source) => Err(ExecuteError::Write {
                verb: "set a volume claim aside",
                source,
            }),
        }
    }
}

/// Two that are asked for in the same second are one.
fn named_by_time(what: &str, now: Timestamp) -> String {
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dt%H%M%Sz");
    format!("{what}-{time}")
}

/// What data come from, for people.
pub(super) fn describe(source: &RestoreSource) -> String {
    match (&source.snapshot, &source.owner, &source.member) {
        (Some(snapshot), Some(owner), _) => format!("snapshot {snapshot} of {owner}"),
        (_, _, Some(member)) => format!("member {member}"),
        _ => "nothing".to_owned(),
    }
}
