//! How a snapshot takes the place of the data: all members go, their volumes are set aside, and a first member is made
//! from it.
//!
//! Nothing is deleted before the new cluster is whole: a snapshot that cannot be read after all has cost time, not data.

use skep_api::etcd_backup::BackupReason;
use skep_api::etcd_cluster::RestorePhase;

use super::{Action, Signal, backups, delete_pod, wait};
use crate::observed::Observed;

/// The step of a restore that is due; nothing while none is asked for, and while the first member is being made.
pub(super) fn decide(observed: &Observed) -> Option<Action> {
    let restore = &observed.restore;
    let under_way = restore.under_way.as_ref();
    let asked = restore
        .asked
        .as_ref()
        .filter(|asked| restore.done.as_ref() != Some(&asked.name));
    match (under_way, asked) {
        (None, None) => None,
        (Some(under_way), None) => go_on(observed, under_way.phase),
        (Some(under_way), Some(asked)) if under_way.source == *asked => go_on(observed, under_way.phase),
        // A status that was lost: whether the restore was done is not known, so it is not done again.
        (None, Some(_)) if is_status_lost(observed) => None,
        (_, Some(asked)) => {
            // Where etcd does not answer there is nothing that could be read.
            let first = observed.membership.as_ref().filter(|_| observed.bootstrapped);
            let first = first.and_then(|_| backups::first(observed, BackupReason::BeforeRestore));
            Some(first.unwrap_or_else(|| Action::BeginRestore(asked.clone())))
        }
    }
}

fn is_status_lost(observed: &Observed) -> bool {
    let has_children = !observed.pods.is_empty() || !observed.claims.is_empty();
    !observed.bootstrapped && observed.intent.is_none() && has_children
}

fn go_on(observed: &Observed, phase: RestorePhase) -> Option<Action> {
    match phase {
        RestorePhase::Clearing => Some(clear(observed)),
        RestorePhase::Forming => None,
    }
}

fn clear(observed: &Observed) -> Action {
    if let Some((name, pod)) = observed.pods.iter().find(|(_, pod)| !pod.is_deleting) {
        return delete_pod(name, pod);
    }
    if let Some(name) = observed.pods.keys().next() {
        return wait(
            Signal::Watch,
            format!("pod {name} to end before its volume is set aside"),
        );
    }
    match observed.claims.iter().next() {
        Some((pod, claim)) if claim.is_deleting => wait(Signal::Watch, format!("the volume of {pod} to go")),
        Some((pod, claim)) => Action::SetAside {
            pod: pod.clone(),
            uid: claim.uid.clone(),
        },
        None => Action::FormRestored,
    }
}

/// Deletes a volume that was set aside, once the cluster that took its place is whole.
pub(super) fn clean_up(observed: &Observed) -> Option<Action> {
    let (pod, claim) = observed.set_aside.iter().find(|(_, claim)| !claim.is_deleting)?;
    let is_deletable = observed.volume_policy == skep_api::etcd_cluster::VolumePolicy::Delete;
    is_deletable.then(|| Action::DeleteClaim {
        pod: pod.clone(),
        uid: claim.uid.clone(),
    })
}

#[cfg(test)]
mod tests {
    use skep_api::etcd_cluster::{EtcdRestoring, RestoreSource, VolumePolicy};

    use super::super::decide;
    use super::super::model::three;
    use super::*;
    use crate::observed::{Backups, ClaimState, Restore};

    fn source(name: &str) -> RestoreSource {
        RestoreSource {
            name: name.to_owned(),
            owner: "u".to_owned(),
            snapshot: "s".to_owned(),
        }
    }

    fn asked() -> Observed {
        Observed {
            restore: Restore {
                asked: Some(source("r")),
                ..Restore::default()
            },
            ..three()
        }
    }

    fn under_way(phase: RestorePhase) -> Observed {
        let mut observed = asked();
        observed.bootstrapped = false;
        observed.restore.under_way = Some(EtcdRestoring {
            source: source("r"),
            phase,
        });
        observed
    }

    #[test]
    fn a_restore_is_begun_once() {
        let mut observed = asked();
        assert_eq!(decide(&observed), Action::BeginRestore(source("r")));
        observed.restore.done = Some("r".to_owned());
        assert_eq!(decide(&observed), Action::Done);
    }

    #[test]
    fn a_snapshot_of_what_is_there_is_taken_first_where_it_can_be_read() {
        let mut observed = asked();
        observed.backups = Backups {
            is_wanted: true,
            ..Backups::default()
        };
        assert_eq!(decide(&observed), Action::Backup(BackupReason::BeforeRestore));
        observed.membership = None;
        assert_eq!(decide(&observed), Action::BeginRestore(source("r")));
    }

    #[test]
    fn pods_go_before_their_volumes_are_set_aside_and_both_before_a_member_is_made() {
        let mut observed = under_way(RestorePhase::Clearing);
        let mut seen = Vec::new();
        loop {
            match decide(&observed) {
                Action::DeletePod { pod, .. } => {
                    seen.push("pod");
                    observed.pods.remove(&pod);
                }
                Action::SetAside { pod, .. } => {
                    seen.push("claim");
                    observed.claims.remove(&pod);
                }
                last => {
                    assert_eq!(last, Action::FormRestored);
                    break;
                }
            }
        }
        assert_eq!(seen, ["pod", "pod", "pod", "claim", "claim", "claim"]);
    }

    #[test]
    fn a_pod_that_is_ending_holds_the_volumes() {
        let mut observed = under_way(RestorePhase::Clearing);
        for pod in observed.pods.values_mut() {
            pod.is_deleting = true;
        }
        assert!(matches!(decide(&observed), Action::Wait { .. }));
    }

    #[test]
    fn a_restore_is_not_done_again_where_the_status_was_lost() {
        let mut observed = asked();
        observed.bootstrapped = false;
        observed.intent = None;
        assert_eq!(decide(&observed), Action::RecordBootstrap);
        observed.membership = None;
        assert!(matches!(
            decide(&observed),
            Action::Wait {
                on: Signal::Person,
                ..
            }
        ));
    }

    #[test]
    fn another_restore_takes_the_place_of_one_under_way() {
        let mut observed = under_way(RestorePhase::Forming);
        observed.restore.asked = Some(source("other"));
        observed.membership = None;
        assert_eq!(decide(&observed), Action::BeginRestore(source("other")));
    }

    #[test]
    fn what_was_set_aside_goes_only_from_a_whole_cluster_whose_policy_says_so() {
        let mut observed = Observed {
            set_aside: [(
                "old".to_owned(),
                ClaimState {
                    uid: "o".to_owned(),
                    ..ClaimState::default()
                },
            )]
            .into(),
            volume_policy: VolumePolicy::Delete,
            ..three()
        };
        assert!(matches!(decide(&observed), Action::DeleteClaim { pod, .. } if pod == "old"));
        observed.volume_policy = VolumePolicy::Retain;
        assert_eq!(decide(&observed), Action::Done);
        observed.volume_policy = VolumePolicy::Delete;
        observed.membership.as_mut().unwrap().members[0].status = None;
        assert!(matches!(decide(&observed), Action::Wait { .. }));
    }
}
