//! When a snapshot is asked for: when its time has come, and before whatever could lose data.
//!
//! Another controller takes it; here it is only waited for, and only by what is risky.

use skep_api::etcd_backup::BackupReason;

use super::{Action, Signal, wait};
use crate::observed::{BackupAge, Observed};

/// A young snapshot, before a step that could lose data; nothing where there is one or none is wanted.
pub(super) fn first(observed: &Observed, why: BackupReason) -> Option<Action> {
    let backups = &observed.backups;
    if !backups.is_wanted || backups.age == BackupAge::Young {
        return None;
    }
    Some(match &backups.pending {
        Some(pending) => wait(Signal::Watch, format!("a snapshot first: {pending}")),
        None => Action::Backup(why),
    })
}

/// The snapshot whose time has come.
pub(super) fn next(observed: &Observed) -> Option<Action> {
    let backups = &observed.backups;
    let is_due = backups.is_wanted && backups.age >= BackupAge::Due && backups.pending.is_none();
    is_due.then_some(Action::Backup(BackupReason::Scheduled))
}

/// The drill whose time has come; there must be something to try.
pub(super) fn next_drill(observed: &Observed) -> Option<Action> {
    let is_due = observed.drills.is_due && observed.backups.newest.is_some();
    is_due.then_some(Action::Drill)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use skep_api::etcd_cluster::EtcdSnapshot;

    use super::super::decide;
    use super::super::model::three;
    use super::*;
    use crate::observed::{Backups, RotationStep, Trust};

    fn wanted() -> Backups {
        Backups {
            is_wanted: true,
            age: BackupAge::Fresh,
            ..Backups::default()
        }
    }

    fn upgraded(backups: Backups) -> Observed {
        let mut observed = Observed { backups, ..three() };
        observed.wanted.image = "another".to_owned();
        observed
    }

    #[test]
    fn a_snapshot_is_taken_when_its_time_has_come_and_not_twice() {
        let due = |pending| Observed {
            backups: Backups {
                age: BackupAge::Due,
                pending,
                ..wanted()
            },
            ..three()
        };
        assert_eq!(decide(&due(None)), Action::Backup(BackupReason::Scheduled));
        assert_eq!(decide(&due(Some("it is written".to_owned()))), Action::Done);
        let unwanted = Observed {
            backups: Backups {
                age: BackupAge::Due,
                ..Backups::default()
            },
            ..three()
        };
        assert_eq!(decide(&unwanted), Action::Done);
    }

    #[test]
    fn a_drill_is_asked_for_when_it_is_due_and_there_is_a_snapshot() {
        let mut observed = Observed {
            backups: wanted(),
            ..three()
        };
        observed.drills.is_due = true;
        assert_eq!(decide(&observed), Action::Done);
        observed.backups.newest = Some(EtcdSnapshot {
            backup: "b".to_owned(),
            snapshot: "s".to_owned(),
            revision: None,
            taken_at: Time(jiff::Timestamp::UNIX_EPOCH),
        });
        assert_eq!(decide(&observed), Action::Drill);
        observed.membership.as_mut().unwrap().members[0].status = None;
        assert!(matches!(decide(&observed), Action::Wait { .. } | Action::Drill));
    }

    #[test]
    fn authorities_are_replaced_after_a_snapshot() {
        let observed = Observed {
            backups: wanted(),
            trust: Trust {
                pending: Some(RotationStep::Introduce),
                ..Trust::default()
            },
            ..three()
        };
        assert_eq!(decide(&observed), Action::Backup(BackupReason::BeforeRotation));
    }

    #[test]
    fn another_release_waits_for_a_snapshot_that_is_young() {
        let mut observed = upgraded(wanted());
        assert_eq!(decide(&observed), Action::Backup(BackupReason::BeforeUpgrade));
        observed.backups.pending = Some("the store does not answer".to_owned());
        let waits = decide(&observed);
        assert!(
            matches!(&waits, Action::Wait { what, .. } if what.contains("a snapshot first: the store does not answer")),
            "{waits:?}"
        );
        observed.backups.age = BackupAge::Young;
        assert!(matches!(decide(&observed), Action::Adopt(_)));
    }

    #[test]
    fn a_release_that_may_mend_a_member_waits_for_no_snapshot() {
        let mut observed = upgraded(wanted());
        observed.membership.as_mut().unwrap().members[0].status = None;
        assert!(matches!(decide(&observed), Action::Adopt(_)));
    }
}
