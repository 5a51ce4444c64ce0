//! What a cluster's `EtcdDrill`s say of its snapshots, seen at one moment.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use skep_api::EtcdDrill;
use skep_api::etcd_cluster::EtcdDrillResult;
use skep_core::reasons;

use crate::observed::Drills;
use crate::snapshots::Policy;

/// One that failed is tried again after so long at most: the next snapshot may be a good one.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// After so many times as long as there should be between two drills the last proves nothing any more.
const OVERDUE: i32 = 3;

/// Puts together what is known of drills; `drills` are those of one cluster.
pub fn assemble_drills(policy: Option<&Policy>, drills: &[EtcdDrill], now: Timestamp) -> Drills {
    let Some(every) = policy.and_then(|policy| policy.drill_every) else {
        return Drills::default();
    };
    let newest = drills
        .iter()
        .filter_map(result_of)
        .max_by_key(|result| result.at.0);
    let pause = |result: &EtcdDrillResult| if result.passed { every } else { every.min(AGAIN) };
    let is_due = newest
        .as_ref()
        .is_none_or(|result| now.duration_since(result.at.0) >= pause(result));
    let is_running = drills.iter().any(|drill| {
        let is_over = has_passed(drill) || has_failed(drill);
        !is_over && drill.metadata.deletion_timestamp.is_none()
    });
    Drills {
        is_wanted: true,
        is_due: is_due && !is_running,
        is_overdue: newest
            .as_ref()
            .is_some_and(|result| now.duration_since(result.at.0) > every.saturating_mul(OVERDUE)),
        newest,
    }
}

fn result_of(drill: &EtcdDrill) -> Option<EtcdDrillResult> {
    let status = drill.status.as_ref()?;
    if !has_passed(drill) && !has_failed(drill) {
        return None;
    }
    Some(EtcdDrillResult {
        drill: drill.name_any(),
        snapshot: status.snapshot.clone(),
        passed: has_passed(drill),
        at: status.ended_at.clone()?,
        message: ready(drill)?.message.clone(),
    })
}

fn ready(drill: &EtcdDrill) -> Option<&Condition> {
    let conditions = &drill.status.as_ref()?.conditions;
    conditions.iter().find(|known| known.type_ == reasons::READY)
}

/// Whether what was made of the snapshot is what was taken.
pub fn has_passed(drill: &EtcdDrill) -> bool {
    ready(drill).is_some_and(|ready| ready.status == "True")
}

/// Whether it has ended otherwise.
pub fn has_failed(drill: &EtcdDrill) -> bool {
    ready(drill).is_some_and(|ready| ready.status == "False" && ready.reason == reasons::FAILED)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use skep_api::EtcdDrillSpec;
    use skep_api::etcd_drill::EtcdDrillStatus;
    use skep_api::snapshot_store::{SnapshotPolicy, SnapshotStore};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn policy(drill_every_hours: i64) -> Policy {
        Policy::parse(&SnapshotPolicy {
            store: SnapshotStore {
                s3: None,
                directory: Some("/snapshots".into()),
            },
            keys_secret: "keys".into(),
            every_minutes: 60,
            keep_days: 7,
            keep_at_least: 3,
            drill_every_hours,
        })
        .unwrap()
    }

    fn drill(hours_ago: i64, status: &str, reason: &str) -> EtcdDrill {
        let spec = EtcdDrillSpec {
            cluster: "etcd".into(),
            snapshot: None,
        };
        let at = Time(Timestamp::from_second(NOW - 3600 * hours_ago).unwrap());
        let mut drill = EtcdDrill::new(&format!("d-{hours_ago}"), spec);
        drill.status = Some(EtcdDrillStatus {
            ended_at: Some(at.clone()),
            conditions: vec![Condition {
                type_: reasons::READY.into(),
                status: status.into(),
                reason: reason.into(),
                message: "it has 40 keys".into(),
                last_transition_time: at,
                observed_generation: None,
            }],
            ..EtcdDrillStatus::default()
        });
        drill
    }

    fn seen(every: i64, drills: &[EtcdDrill]) -> Drills {
        assemble_drills(Some(&policy(every)), drills, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn a_drill_is_due_when_the_last_is_long_ago_and_none_runs() {
        assert!(seen(24, &[]).is_due);
        assert!(!seen(24, &[drill(23, "True", "AsDesired")]).is_due);
        assert!(seen(24, &[drill(24, "True", "AsDesired")]).is_due);
        let running = drill(0, "False", reasons::WAITING);
        assert!(!seen(24, &[drill(30, "True", "AsDesired"), running]).is_due);
    }

    #[test]
    fn one_that_failed_is_told_and_tried_again_sooner() {
        let failed = drill(1, "False", reasons::FAILED);
        let seen = seen(24, &[failed, drill(5, "True", "AsDesired")]);
        assert!(seen.is_due && seen.newest.is_some_and(|newest| !newest.passed));
    }

    #[test]
    fn one_of_long_ago_proves_nothing() {
        assert!(!seen(24, &[drill(72, "True", "AsDesired")]).is_overdue);
        assert!(seen(24, &[drill(73, "True", "AsDesired")]).is_overdue);
    }

    #[test]
    fn none_is_due_where_none_is_wanted() {
        assert_eq!(seen(0, &[]), Drills::default());
        assert_eq!(
            assemble_drills(None, &[], Timestamp::UNIX_EPOCH),
            Drills::default()
        );
    }
}
