//! How a cluster ends: its pods, then its volumes where the policy says so, then the finalizer.

use skep_api::etcd_cluster::VolumePolicy;

use super::{Action, Signal, wait};
use crate::observed::Remains;

/// The one step to take for a cluster that is being deleted; [`Action::Done`] lets the object go.
pub fn decide_teardown(observed: &Remains) -> Action {
    if let Some((pod, state)) = observed.pods.iter().find(|(_, state)| !state.is_deleting) {
        return Action::DeletePod {
            pod: pod.clone(),
            uid: state.uid.clone(),
        };
    }
    if let Some(pod) = observed.pods.keys().next() {
        return wait(Signal::Watch, format!("pod {pod} to end"));
    }
    match observed.volume_policy {
        VolumePolicy::Retain => Action::Done,
        VolumePolicy::Delete => delete_claims(observed),
    }
}

fn delete_claims(observed: &Remains) -> Action {
    if let Some((pod, state)) = observed.claims.iter().find(|(_, state)| !state.is_deleting) {
        return Action::DeleteClaim {
            pod: pod.clone(),
            uid: state.uid.clone(),
        };
    }
    match observed.claims.keys().next() {
        Some(pod) => wait(Signal::Watch, format!("the volume of {pod} to go")),
        None => Action::Done,
    }
}
