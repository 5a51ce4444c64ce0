//! When one authority takes another's place, in three steps between which every member is made anew.
//!
//! Members and clients read authorities when they start and leaves at every handshake: so the next authority is trusted
//! everywhere before it signs anything, and the last is trusted until nothing that it signed is left.

use skep_api::etcd_backup::BackupReason;

use super::membership::unsettled;
use super::{Action, Signal, backups, wait};
use crate::observed::{Membership, Observed, RotationStep};

/// The step that is due; whoever calls has found every member made with what is trusted now.
pub(super) fn next(observed: &Observed, members: &Membership) -> Option<Action> {
    let trust = &observed.trust;
    let step = trust.pending?;
    if let Some(reason) = unsettled(observed, members) {
        return Some(reason);
    }
    if step != RotationStep::Introduce && !trust.is_known_to_clients {
        let revision = trust.revision.as_deref().unwrap_or_default();
        let text = format!(
            "clients to start anew with the authorities {revision} of their Secrets; then spec.clientTrust says {revision}"
        );
        return Some(wait(Signal::Watch, text));
    }
    let risky = step == RotationStep::Introduce;
    let first = risky
        .then(|| backups::first(observed, BackupReason::BeforeRotation))
        .flatten();
    Some(first.unwrap_or(Action::Rotate(step)))
}

#[cfg(test)]
mod tests {
    use super::super::decide;
    use super::super::model::three;
    use super::*;
    use crate::observed::Trust;

    fn with(pending: Option<RotationStep>, is_known_to_clients: bool) -> Observed {
        let revision = pending.map(|_| "abc".to_owned());
        Observed {
            trust: Trust {
                revision,
                pending,
                is_known_to_clients,
                ..Trust::default()
            },
            ..three()
        }
    }

    #[test]
    fn nothing_is_rotated_that_is_not_due() {
        assert_eq!(decide(&with(None, false)), Action::Done);
    }

    #[test]
    fn clients_are_waited_for_before_a_step_that_they_would_notice() {
        use RotationStep::{Introduce, Retire, Sign};
        assert_eq!(decide(&with(Some(Introduce), false)), Action::Rotate(Introduce));
        for step in [Sign, Retire] {
            let waits = decide(&with(Some(step), false));
            assert!(
                matches!(&waits, Action::Wait { what, on: Signal::Watch } if what.contains("spec.clientTrust says abc")),
                "{waits:?}"
            );
            assert_eq!(decide(&with(Some(step), true)), Action::Rotate(step));
        }
    }

    #[test]
    fn a_member_that_was_made_before_is_made_anew_first() {
        let mut observed = with(Some(RotationStep::Sign), true);
        let pod = observed.pods.values_mut().next().unwrap();
        pod.revision = Some("before".to_owned());
        assert!(matches!(decide(&observed), Action::Latch(_)));
    }

    #[test]
    fn nothing_is_rotated_while_a_member_is_silent() {
        let mut observed = with(Some(RotationStep::Retire), true);
        observed.membership.as_mut().unwrap().members[0].status = None;
        assert!(matches!(decide(&observed), Action::Wait { .. }));
    }
}
