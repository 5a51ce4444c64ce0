//! How a snapshot, or one member of a lost quorum, takes the place of the data: all members go, their volumes are set
//! aside, and a first member is made.
//!
//! Nothing is deleted before the new cluster is whole: a snapshot that cannot be read after all has cost time, not data.

use skep_api::etcd_backup::BackupReason;
use skep_api::etcd_cluster::{EtcdRestoring, MemberAction, RestorePhase, RestoreSource};

use super::{Action, Signal, backups, delete_pod, latch, wait};
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
        (Some(under_way), None) => go_on(observed, under_way),
        (Some(under_way), Some(asked)) if under_way.source == *asked => go_on(observed, under_way),
        // A status that was lost: whether the restore was done is not known, so it is not done again.
        (None, Some(_)) if is_status_lost(observed) => None,
        (_, Some(asked)) => Some(match &asked.member {
            Some(member) => begin_from_member(observed, asked, member),
            None => begin_from_snapshot(observed, asked),
        }),
    }
}

fn is_status_lost(observed: &Observed) -> bool {
    let has_children = !observed.pods.is_empty() || !observed.claims.is_empty();
    !observed.bootstrapped && observed.intent.is_none() && has_children
}

fn begin_from_snapshot(observed: &Observed, asked: &RestoreSource) -> Action {
    // Where etcd does not answer there is nothing that could be read.
    let first = observed.membership.as_ref().filter(|_| observed.bootstrapped);
    let first = first.and_then(|_| backups::first(observed, BackupReason::BeforeRestore));
    first.unwrap_or_else(|| Action::BeginRestore(asked.clone()))
}

/// Only a lost quorum is worth the loss; one that has come back is passed over, so that it is not done at the next
/// short silence.
fn begin_from_member(observed: &Observed, asked: &RestoreSource, member: &str) -> Action {
    if observed.membership.is_some() {
        return Action::PassOver(asked.clone());
    }
    let claim = observed.claims.get(member).filter(|claim| !claim.is_deleting);
    if claim.is_none() {
        let text = format!("a person: spec.restore.member {member} has no volume; name a member that has");
        return wait(Signal::Person, text);
    }
    Action::BeginRestore(asked.clone())
}

fn go_on(observed: &Observed, under_way: &EtcdRestoring) -> Option<Action> {
    let kept = under_way.source.member.as_deref();
    match (under_way.phase, kept) {
        (RestorePhase::Clearing, _) => Some(clear(observed, kept)),
        (RestorePhase::Forming, Some(kept)) if observed.intent.is_none() => {
            Some(latch(MemberAction::Bootstrap, kept))
        }
        (RestorePhase::Forming, _) => None,
    }
}

/// All pods end before any volume is set aside, and all but the kept member's volume are before one is made anew.
fn clear(observed: &Observed, kept: Option<&str>) -> Action {
    if let Some((name, pod)) = observed.pods.iter().find(|(_, pod)| !pod.is_deleting) {
        return delete_pod(name, pod);
    }
    if let Some(name) = observed.pods.keys().next() {
        return wait(
            Signal::Watch,
            format!("pod {name} to end before its volume is set aside"),
        );
    }
    match observed.claims.iter().find(|(pod, _)| kept != Some(pod.as_str())) {
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
    use skep_api::etcd_cluster::VolumePolicy;

    use super::super::decide;
    use super::super::model::three;
    use super::*;
    use crate::observed::{Backups, ClaimState, Restore, Start};

    fn source(name: &str) -> RestoreSource {
        RestoreSource {
            name: name.to_owned(),
            snapshot: Some("s".to_owned()),
            owner: Some("u".to_owned()),
            member: None,
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

    /// Three members of which none answers, and the one that is to be kept.
    fn lost() -> (Observed, String) {
        let mut observed = three();
        observed.membership = None;
        let kept = observed.pods.keys().nth(1).unwrap().clone();
        observed.restore.asked = Some(RestoreSource {
            name: "r".to_owned(),
            snapshot: None,
            owner: None,
            member: Some(kept.clone()),
        });
        (observed, kept)
    }

    #[test]
    fn a_lost_quorum_is_formed_anew_by_the_member_that_is_kept() {
        let (mut observed, kept) = lost();
        let Action::BeginRestore(source) = decide(&observed) else {
            panic!("the recovery is not begun");
        };
        observed.bootstrapped = false;
        observed.restore.under_way = Some(EtcdRestoring {
            source,
            phase: RestorePhase::Clearing,
        });
        observed.pods.clear();
        let mut set_aside = Vec::new();
        while let Action::SetAside { pod, .. } = decide(&observed) {
            observed.claims.remove(&pod);
            set_aside.push(pod);
        }
        assert_eq!(set_aside.len(), 2);
        assert!(!set_aside.contains(&kept));
        assert_eq!(decide(&observed), Action::FormRestored);
        observed.restore.under_way.as_mut().unwrap().phase = RestorePhase::Forming;
        let Action::Latch(intent) = decide(&observed) else {
            panic!("no first member is chosen");
        };
        assert_eq!((intent.action, &intent.pod), (MemberAction::Bootstrap, &kept));
        observed.intent = Some(intent);
        let starts = Action::StartMember {
            pod: kept,
            start: Start::Force,
        };
        assert_eq!(decide(&observed), starts);
    }

    #[test]
    fn a_quorum_that_came_back_is_not_given_up_for_a_member() {
        let (mut observed, _) = lost();
        observed.membership = three().membership;
        assert!(matches!(decide(&observed), Action::PassOver(_)));
        observed.restore.done = Some("r".to_owned());
        assert_eq!(decide(&observed), Action::Done);
    }

    #[test]
    fn nothing_is_touched_for_a_member_without_a_volume() {
        let (mut observed, kept) = lost();
        observed.claims.remove(&kept);
        assert!(matches!(
            decide(&observed),
            Action::Wait {
                on: Signal::Person,
                ..
            }
        ));
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
