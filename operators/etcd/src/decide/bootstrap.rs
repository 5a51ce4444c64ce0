//! How a cluster is formed: by one member, once.
//!
//! A seed is started only while the status says that nothing was ever formed and no volume but the seed's
//! own exists; a cluster that lost its status is found again rather than formed a second time.

use skep_api::etcd_cluster::MemberAction;

use super::{Action, Signal, clear_finished_pod, delete_pod, latch, prepare, trouble, wait};
use crate::observed::{Observed, Start};

pub(super) fn decide(observed: &Observed) -> Action {
    let Some(seed) = seed(observed) else {
        return without_intent(observed);
    };
    if let Some(other) = observed.claims.keys().find(|pod| pod.as_str() != seed) {
        return lost_status(observed, other);
    }
    if let Some(action) = clear_finished_pod(observed).or_else(|| take_over(observed, seed)) {
        return action;
    }
    match (observed.pods.get(seed), observed.claims.get(seed)) {
        (Some(pod), _) if pod.is_deleting => wait(Signal::Watch, format!("pod {seed} to end")),
        (Some(pod), Some(claim)) if claim.is_deleting => delete_pod(seed, pod),
        (None, Some(claim)) if claim.is_deleting => {
            wait(Signal::Watch, format!("the volume of {seed} to go"))
        }
        (Some(pod), Some(_)) if is_formed(observed) => {
            prepare(seed, pod, &Start::Rejoin).unwrap_or(Action::RecordBootstrap)
        }
        (Some(pod), Some(_)) if observed.is_stale(pod) => delete_pod(seed, pod),
        (Some(pod), Some(_)) if pod.is_gated => {
            prepare(seed, pod, &start(observed)).unwrap_or_else(|| wait(Signal::Watch, format!("pod {seed}")))
        }
        (Some(pod), Some(_)) => {
            let on = if pod.address.is_some() {
                Signal::Etcd
            } else {
                Signal::Watch
            };
            wait(
                on,
                format!("the first member {seed}: {}", trouble(observed, seed)),
            )
        }
        (None, _) | (_, None) => Action::StartMember {
            pod: seed.to_owned(),
            start: start(observed),
        },
    }
}

/// With what the first member starts: an empty volume, or, after a lost quorum, the data that it has.
fn start(observed: &Observed) -> Start {
    let under_way = observed.restore.under_way.as_ref();
    match under_way.filter(|under_way| under_way.source.member.is_some()) {
        Some(_) => Start::Force,
        None => Start::Seed,
    }
}

fn seed(observed: &Observed) -> Option<&str> {
    let intent = observed.intent.as_ref()?;
    (intent.action == MemberAction::Bootstrap).then_some(intent.pod.as_str())
}

/// What the spec says now may be what was missing; but a first member that has run may have left data that are not read by
/// what came before.
fn take_over(observed: &Observed, seed: &str) -> Option<Action> {
    if is_formed(observed) || observed.wanted == observed.release {
        return None;
    }
    let is_untouched = !observed.pods.contains_key(seed) && !observed.claims.contains_key(seed);
    let (from, to) = (observed.release.version, observed.wanted.version);
    if is_untouched || to.line() == from.line() || to.line() == from.line().next() {
        return Some(Action::Adopt(observed.wanted.clone()));
    }
    let text = format!(
        "a person: the first member may have written data with {from}, which {to} cannot read; delete the cluster and create it anew"
    );
    Some(wait(Signal::Person, text))
}

fn is_formed(observed: &Observed) -> bool {
    observed.membership.is_some()
}

fn without_intent(observed: &Observed) -> Action {
    if is_formed(observed) {
        return Action::RecordBootstrap;
    }
    match observed.claims.keys().chain(observed.pods.keys()).next() {
        Some(pod) => lost_status(observed, pod),
        None => latch(MemberAction::Bootstrap, &observed.fresh),
    }
}

/// The status knows of no cluster, and yet something of one is there: forming another would lose its data.
fn lost_status(observed: &Observed, pod: &str) -> Action {
    if is_formed(observed) {
        return Action::RecordBootstrap;
    }
    let text =
        format!("the status knows of no cluster but {pod} has a volume or a pod; set status.bootstrapped");
    wait(Signal::Person, text)
}
