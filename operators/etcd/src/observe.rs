//! Reads the world: live reads of the API server, and what etcd's members say.
//!
//! Nothing here comes from a watch cache, because decisions that destroy are made of it.

pub mod backups;
pub mod drills;
mod growth;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ContainerState, PersistentVolumeClaim, Pod, PodStatus, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use skep_api::etcd_cluster::EtcdCluster;
use skep_api::{EtcdBackup, EtcdDrill};
use skep_core::labels;

use crate::build::{self, claim, pod, restoring};
use crate::members::{CLIENT_PORT, Credentials, ListedMember, Members, Target};
use crate::observe::growth::Growth;
use crate::observed::{
    Alarm, AlarmKind, Backups, ClaimState, Drills, Fills, Freed, Member, MemberStatus, Membership, Observed,
    PodState, Restore, Trust,
};
use crate::validate::Cluster;
use crate::version::Release;

/// A read that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}")]
pub struct ObserveError {
    /// What was read.
    what: &'static str,
    /// Why.
    #[source]
    pub(crate) source: kube::Error,
}

fn failed(what: &'static str) -> impl FnOnce(kube::Error) -> ObserveError {
    move |source| ObserveError { what, source }
}

/// The pods and claims of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Children {
    /// The pods, by name.
    pub pods: BTreeMap<String, PodState>,
    /// The claims, by pod.
    pub claims: BTreeMap<String, ClaimState>,
    /// The claims that were set aside, by the pod that each belonged to.
    pub set_aside: BTreeMap<String, ClaimState>,
}

/// Reads the object itself; nothing when it is gone.
pub async fn fetch_object(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<EtcdCluster>, ObserveError> {
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(failed("the etcd cluster"))
}

/// Reads the cluster's Secrets, by name.
pub async fn fetch_secrets(
    client: &Client,
    cluster: &Cluster,
) -> Result<BTreeMap<String, Secret>, ObserveError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace);
    let wanted = ListParams::default().labels(&build::selector(&cluster.name, &cluster.uid));
    let list = api.list(&wanted).await.map_err(failed("Secrets"))?;
    Ok(list
        .into_iter()
        .map(|secret| (secret.name_any(), secret))
        .collect())
}

/// Reads the pods and claims of the cluster `name` with exactly this `uid`.
pub async fn fetch_children(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<Children, ObserveError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let wanted = ListParams::default().labels(&build::selector(name, uid));
    let of_namesakes = ListParams::default().labels(&build::selector_of_name(name));
    let (pods, claims) = tokio::join!(pods.list(&wanted), claims.list(&of_namesakes));
    let pods = pods
        .map_err(failed("pods"))?
        .into_iter()
        .map(|pod| (pod.name_any(), pod_state(&pod)));
    let claims = claims.map_err(failed("volume claims"))?.items;
    let of = |label: &str| {
        let is_ours = |found: &&PersistentVolumeClaim| found.labels().get(label).is_some_and(|of| of == uid);
        claims.iter().filter(is_ours).filter_map(claim_state).collect()
    };
    Ok(Children {
        pods: pods.collect(),
        claims: of(build::UID_LABEL),
        set_aside: of(build::SET_ASIDE_LABEL),
    })
}

fn claim_state(found: &PersistentVolumeClaim) -> Option<(String, ClaimState)> {
    let pod = claim::pod_of(&found.name_any())?.to_owned();
    let state = ClaimState {
        uid: found.uid().unwrap_or_default(),
        is_deleting: found.metadata.deletion_timestamp.is_some(),
    };
    Some((pod, state))
}

/// Reads the snapshots that were asked for of one cluster; none where its spec wants none.
pub async fn fetch_backups(client: &Client, cluster: &Cluster) -> Result<Vec<EtcdBackup>, ObserveError> {
    if cluster.snapshots.is_none() {
        return Ok(Vec::new());
    }
    let api: Api<EtcdBackup> = Api::namespaced(client.clone(), &cluster.namespace);
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(failed("etcd backups"))?;
    let is_ours = |backup: &EtcdBackup| backup.spec.cluster == cluster.name;
    Ok(list.items.into_iter().filter(is_ours).collect())
}

/// Reads the drills of one cluster; none where its spec wants none.
pub async fn fetch_drills(client: &Client, cluster: &Cluster) -> Result<Vec<EtcdDrill>, ObserveError> {
    if cluster
        .snapshots
        .as_ref()
        .is_none_or(|policy| policy.drill_every.is_none())
    {
        return Ok(Vec::new());
    }
    let api: Api<EtcdDrill> = Api::namespaced(client.clone(), &cluster.namespace);
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(failed("etcd drills"))?;
    let is_ours = |drill: &EtcdDrill| drill.spec.cluster == cluster.name;
    Ok(list.items.into_iter().filter(is_ours).collect())
}

/// What was read of one cluster at one moment.
pub struct Sight<'a> {
    /// The object.
    pub object: &'a EtcdCluster,
    /// Its pods and claims.
    pub children: Children,
    /// What etcd says, or without a quorum each member of itself.
    pub membership: Result<Membership, BTreeMap<String, MemberStatus>>,
    /// What is known of snapshots.
    pub backups: Backups,
    /// What is known of drills.
    pub drills: Drills,
    /// Whom members and clients trust.
    pub trust: Trust,
    /// A name that nothing of it has.
    pub fresh: String,
}

/// Puts together what a decision is made of; `cluster` as it runs, and the release that the spec wants.
pub fn assemble(cluster: &Cluster, wanted: &Release, memory: &Memory, sight: Sight<'_>) -> Observed {
    let Sight {
        object,
        children,
        membership,
        backups,
        drills,
        trust,
        fresh,
    } = sight;
    let (membership, alone) = match membership {
        Ok(membership) => (Some(membership), BTreeMap::new()),
        Err(alone) => (None, alone),
    };
    let status = object.status.clone().unwrap_or_default();
    let healthy_for = memory.healthy_for(&cluster.uid, membership.as_ref(), Instant::now());
    let freed = memory.freed(&cluster.uid, membership.as_ref());
    let fills = memory.fills(cluster, membership.as_ref(), Instant::now());
    Observed {
        desired: cluster.members,
        release: cluster.release.clone(),
        wanted: wanted.clone(),
        revision: pod::revision(cluster),
        volume_policy: cluster.volume_policy,
        bootstrapped: status.bootstrapped,
        intent: status.intent,
        avoided_nodes: cluster.avoided_nodes.clone(),
        recorded: status.members,
        pods: children.pods,
        claims: children.claims,
        membership,
        alone,
        quota_bytes: cluster.quota_bytes,
        fills,
        freed,
        healthy_for,
        trust,
        backups,
        drills,
        restore: Restore {
            asked: cluster.restore.clone(),
            under_way: status.restoring,
            done: status.restored,
        },
        set_aside: children.set_aside,
        fresh,
    }
}

/// Asks every member about itself, and one that has a vote and a leader about all; without a quorum there is only what
/// each says of itself, by pod.
pub async fn fetch_membership<M: Members>(
    members: &M,
    cluster: &Cluster,
    pods: &BTreeMap<String, PodState>,
    credentials: &Arc<Credentials>,
) -> Result<Membership, BTreeMap<String, MemberStatus>> {
    let targets = pods
        .iter()
        .filter_map(|(name, pod)| Some((name, target(cluster, name, pod, credentials)?)));
    let answers = join_all(targets.map(|(name, target)| async move {
        let status = members.status(&target).await;
        if let Err(error) = &status {
            tracing::debug!(member = target.server_name, %error, "a member does not answer");
        }
        status.ok().map(|status| (name, target, status))
    }));
    let answers: Vec<_> = answers.await.into_iter().flatten().collect();
    let alone = |(name, _, status): &(&String, Target, MemberStatus)| ((*name).clone(), status.clone());
    let alone: BTreeMap<_, _> = answers.iter().map(alone).collect();
    let mut answers: Vec<(Target, MemberStatus)> = answers
        .into_iter()
        .map(|(_, target, status)| (target, status))
        .collect();
    answers.sort_by_key(|(_, status)| (status.leader != Some(status.id), status.id));
    let able = answers
        .iter()
        .filter(|(_, status)| !status.is_learner && status.leader.is_some());
    for (target, status) in able {
        let has_errors = answers.iter().any(|(_, status)| !status.errors.is_empty());
        let alarms = async {
            if has_errors {
                members.alarms(target).await
            } else {
                Ok(Vec::new())
            }
        };
        match tokio::try_join!(members.list(target), alarms) {
            Ok((listed, alarms)) => return Ok(join(cluster, listed, alarms, status, &answers)),
            Err(error) => tracing::debug!(member = target.server_name, %error, "a member cannot list"),
        }
    }
    Err(alone)
}

/// Where and how the member in a pod is reached.
pub fn target(
    cluster: &Cluster,
    name: &str,
    pod: &PodState,
    credentials: &Arc<Credentials>,
) -> Option<Target> {
    if pod.is_finished {
        return None;
    }
    Some(Target {
        address: pod.address.clone()?,
        port: CLIENT_PORT,
        server_name: build::member_host(cluster, name),
        credentials: Some(credentials.clone()),
    })
}

fn join(
    cluster: &Cluster,
    listed: Vec<ListedMember>,
    alarms: Vec<Alarm>,
    from: &MemberStatus,
    answers: &[(Target, MemberStatus)],
) -> Membership {
    let mut members: Vec<Member> = listed
        .into_iter()
        .map(|member| {
            let peer_url = member.peer_urls.first().cloned().unwrap_or_default();
            Member {
                id: member.id,
                pod: build::pod_of_peer_url(cluster, &peer_url),
                peer_url,
                is_started: !member.name.is_empty(),
                is_learner: member.is_learner,
                status: answers
                    .iter()
                    .map(|(_, status)| status)
                    .find(|status| status.id == member.id)
                    .cloned(),
            }
        })
        .collect();
    members.sort_by_key(|member| member.id);
    Membership {
        cluster_id: from.cluster_id,
        leader: from.leader,
        members,
        alarms,
    }
}

fn pod_state(found: &Pod) -> PodState {
    let status = found.status.clone().unwrap_or_default();
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find(|state| state.name == pod::CONTAINER);
    let last_end = container.and_then(|state| state.last_state.as_ref()?.terminated.as_ref());
    let phase = status.phase.as_deref().unwrap_or_default();
    PodState {
        uid: found.uid().unwrap_or_default(),
        version: found.resource_version().unwrap_or_default(),
        is_gated: found
            .spec
            .as_ref()
            .is_some_and(|spec| spec.scheduling_gates.iter().flatten().next().is_some()),
        node: found.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        is_deleting: found.metadata.deletion_timestamp.is_some(),
        is_finished: phase == "Failed" || phase == "Succeeded",
        address: status.pod_ip.clone().filter(|_| phase == "Running"),
        is_ready: is_ready(&status),
        zone: found.labels().get(labels::TOPOLOGY_ZONE).cloned(),
        revision: found.annotations().get(pod::REVISION).cloned(),
        start: pod::read_start(&found.name_any(), found.annotations()),
        restarts: container.map_or(0, |state| state.restart_count),
        is_out_of_memory: last_end.is_some_and(|end| end.reason.as_deref() == Some("OOMKilled")),
        trouble: trouble(found, container.and_then(|state| state.state.as_ref())),
    }
}

fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn trouble(found: &Pod, state: Option<&ContainerState>) -> Option<String> {
    let conditions = found
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition.message.clone().unwrap_or_default();
        return Some(format!("its pod is not scheduled: {why}"));
    }
    if let Some(why) = restore_trouble(found) {
        return Some(why);
    }
    match state {
        None => Some("its pod is starting".to_owned()),
        Some(state) => {
            if let Some(waiting) = &state.waiting {
                let reason = waiting.reason.as_deref().unwrap_or("waiting");
                return Some(format!("its container is in {reason}"));
            }
            let ended = state.terminated.as_ref()?;
            Some(format!("its container ended with {}", ended.exit_code))
        }
    }
}

/// How the making of data from a snapshot goes, where that is not done.
fn restore_trouble(found: &Pod) -> Option<String> {
    let statuses = found.status.as_ref()?.init_container_statuses.as_ref()?;
    let restoring = statuses
        .iter()
        .find(|status| status.name == restoring::CONTAINER)?;
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let end = ended(&restoring.state).or_else(|| ended(&restoring.last_state));
    match end {
        Some(end) if end.exit_code == 0 => None,
        Some(end) => {
            let said = end.message.unwrap_or_default();
            let said = said.lines().last().unwrap_or("it said nothing").to_owned();
            Some(format!("its data cannot be made from the snapshot: {said}"))
        }
        None => Some("its data are made from the snapshot".to_owned()),
    }
}

/// What the process remembers between reconciles; losing it costs a few seconds and nothing else.
#[derive(Debug, Default)]
pub struct Memory {
    healthy: Mutex<HashMap<String, (Vec<u64>, Instant)>>,
    freed: Mutex<HashMap<String, Freed>>,
    growth: Mutex<HashMap<String, Growth>>,
}

impl Memory {
    /// How long exactly these voters have all been healthy at every look.
    fn healthy_for(&self, uid: &str, membership: Option<&Membership>, now: Instant) -> Duration {
        let mut healthy = self.healthy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(members) = membership.filter(|members| members.is_every_voter_healthy()) else {
            healthy.remove(uid);
            return Duration::ZERO;
        };
        let voters: Vec<u64> = members.voters().map(|member| member.id).collect();
        match healthy.get(uid) {
            Some((known, since)) if *known == voters => now.saturating_duration_since(*since),
            _ => {
                healthy.insert(uid.to_owned(), (voters, now));
                Duration::ZERO
            }
        }
    }

    /// How soon the data of a cluster reach its quota, by the most that any of its members holds.
    fn fills(&self, cluster: &Cluster, membership: Option<&Membership>, now: Instant) -> Option<Fills> {
        let members = membership.iter().flat_map(|members| &members.members);
        let statuses = members.filter_map(|member| member.status.as_ref());
        let used = statuses.map(|status| status.used_bytes).max();
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        let growth = growth.entry(cluster.uid.clone()).or_default();
        match used.and_then(|used| u64::try_from(used).ok()) {
            Some(used) => growth.note(now, used, cluster.quota_bytes),
            None => growth.told(),
        }
    }

    /// Notes that a cluster's history was thrown away up to a revision.
    pub fn note_compacted(&self, uid: &str, revision: i64) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        let members = BTreeSet::new();
        freed.insert(uid.to_owned(), Freed { revision, members });
    }

    /// Notes that a member has written its database anew.
    pub fn note_defragmented(&self, uid: &str, member: u64) {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(freed) = freed.get_mut(uid) {
            freed.members.insert(member);
        }
    }

    /// What was done since NOSPACE was raised.
    fn freed(&self, uid: &str, membership: Option<&Membership>) -> Option<Freed> {
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        if membership.is_some_and(|members| !members.has_alarm(AlarmKind::NoSpace)) {
            freed.remove(uid);
        }
        freed.get(uid).cloned()
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.growth
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        self.freed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        self.healthy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

#[cfg(test)]
mod tests;
