//! What a cluster's `EtcdBackup`s say of its snapshots, seen at one moment.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use skep_api::EtcdBackup;
use skep_api::etcd_cluster::EtcdSnapshot;
use skep_core::reasons;

use crate::observed::{BackupAge, Backups};
use crate::snapshots::Policy;

/// A snapshot of so short a time ago is young enough before a risky step.
const YOUNG: SignedDuration = SignedDuration::from_mins(5);
/// How much later than the schedule wants it a snapshot may come.
const GRACE: SignedDuration = SignedDuration::from_mins(10);

/// Puts together what is known of snapshots; `backups` are those of one cluster.
pub fn assemble_backups(policy: Option<&Policy>, backups: &[EtcdBackup], now: Timestamp) -> Backups {
    let Some(policy) = policy else {
        return Backups::default();
    };
    let newest = backups
        .iter()
        .filter_map(snapshot_of)
        .max_by_key(|snapshot| snapshot.taken_at.0);
    let age = newest
        .as_ref()
        .map(|newest| now.duration_since(newest.taken_at.0));
    let age = match age {
        Some(age) if age < policy.every.min(YOUNG) => BackupAge::Young,
        Some(age) if age < policy.every => BackupAge::Fresh,
        Some(age) if age < policy.every.saturating_add(GRACE) => BackupAge::Due,
        _ => BackupAge::Overdue,
    };
    Backups {
        is_wanted: true,
        age,
        pending: backups.iter().find_map(pending),
        newest,
    }
}

fn snapshot_of(backup: &EtcdBackup) -> Option<EtcdSnapshot> {
    let status = backup.status.as_ref().filter(|_| is_taken(backup))?;
    Some(EtcdSnapshot {
        backup: backup.name_any(),
        snapshot: status.snapshot.clone()?,
        revision: status.revision,
        taken_at: status.taken_at.clone()?,
    })
}

fn pending(backup: &EtcdBackup) -> Option<String> {
    if is_taken(backup) || backup.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = backup.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == reasons::READY);
    let why = ready
        .next()
        .map_or("it is not begun yet", |ready| ready.message.as_str());
    Some(format!("EtcdBackup {}: {why}", backup.name_any()))
}

/// Whether a snapshot was written and read back.
pub fn is_taken(backup: &EtcdBackup) -> bool {
    let conditions = backup.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == reasons::READY && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use skep_api::EtcdBackupSpec;
    use skep_api::etcd_backup::{BackupReason, EtcdBackupStatus};
    use skep_api::snapshot_store::{SnapshotPolicy, SnapshotStore};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn policy() -> Policy {
        let policy = SnapshotPolicy {
            store: SnapshotStore {
                s3: None,
                directory: Some("/snapshots".into()),
            },
            keys_secret: "keys".into(),
            every_minutes: 60,
            keep_days: 7,
            keep_at_least: 3,
            drill_every_hours: 24,
        };
        Policy::parse(&policy).unwrap()
    }

    fn backup(name: &str, minutes_ago: i64, ready: &str) -> EtcdBackup {
        let spec = EtcdBackupSpec {
            cluster: "etcd".into(),
            why: BackupReason::Asked,
        };
        let at = Time(Timestamp::from_second(NOW - 60 * minutes_ago).unwrap());
        let condition = Condition {
            type_: reasons::READY.into(),
            status: ready.into(),
            message: "the store is full".into(),
            reason: "x".into(),
            last_transition_time: at.clone(),
            observed_generation: None,
        };
        let mut backup = EtcdBackup::new(name, spec);
        backup.status = Some(EtcdBackupStatus {
            snapshot: Some(format!("s-{name}")),
            revision: Some(7),
            taken_at: Some(at),
            conditions: vec![condition],
            ..EtcdBackupStatus::default()
        });
        backup
    }

    fn seen(backups: &[EtcdBackup]) -> Backups {
        assemble_backups(Some(&policy()), backups, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn the_newest_says_when_the_next_is_due() {
        for (minutes, age) in [
            (4, BackupAge::Young),
            (5, BackupAge::Fresh),
            (59, BackupAge::Fresh),
            (60, BackupAge::Due),
            (70, BackupAge::Overdue),
        ] {
            let seen = seen(&[backup("a", 90, "True"), backup("b", minutes, "True")]);
            assert_eq!(seen.age, age, "{minutes} minutes");
            assert_eq!(seen.newest.unwrap().snapshot, "s-b");
        }
        assert_eq!(seen(&[]).age, BackupAge::Overdue);
    }

    #[test]
    fn one_that_failed_is_pending_and_counts_for_nothing() {
        let seen = seen(&[backup("a", 1, "False")]);
        assert!(seen.age == BackupAge::Overdue && seen.newest.is_none());
        assert_eq!(seen.pending.as_deref(), Some("EtcdBackup a: the store is full"));
    }

    #[test]
    fn nothing_is_known_where_nothing_is_wanted() {
        let all = [backup("a", 1, "True")];
        let seen = assemble_backups(None, &all, Timestamp::from_second(NOW).unwrap());
        assert_eq!(seen, Backups::default());
    }
}
