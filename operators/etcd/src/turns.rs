//! Whose turn it is: on one node at most one member of all clusters is disturbed at a time.
//!
//! Many clusters share a node and its disk. An upgrade of all of them would restart all of their members there at once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use skep_api::EtcdCluster;
use skep_api::etcd_cluster::{MemberAction, MemberIntent};
use tokio::sync::Mutex;

/// One that takes longer is broken, and the others go on without waiting for it.
const LONGEST: Duration = Duration::from_mins(10);

/// A member that is being disturbed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    node: String,
    cluster: String,
    since: Instant,
}

/// The turns that clusters have, by the clusters' unique ids.
#[derive(Debug)]
pub struct Turns {
    api: Api<EtcdCluster>,
    /// None until those that another process has begun were read.
    taken: Mutex<Option<HashMap<String, Turn>>>,
}

impl Turns {
    /// Turns of the clusters that `api` lists.
    pub fn new(api: Api<EtcdCluster>) -> Self {
        Self {
            api,
            taken: Mutex::default(),
        }
    }

    /// Takes the turn on a node for a cluster, or says which other has it. One that is urgent waits for nobody, and the others
    /// wait for it.
    pub async fn take(
        &self,
        uid: &str,
        cluster: &str,
        node: &str,
        is_urgent: bool,
    ) -> kube::Result<Option<String>> {
        let now = Instant::now();
        let mut taken = self.taken.lock().await;
        let taken = match &mut *taken {
            Some(taken) => taken,
            unread => unread.insert(self.read(now).await?),
        };
        Ok(take(taken, uid, cluster, node, is_urgent, now))
    }

    /// Gives a cluster's turn back, where nothing of it is being disturbed any more.
    pub async fn settle(&self, uid: &str, intent: Option<&MemberIntent>) {
        if intent.is_some_and(is_disruptive) {
            return;
        }
        if let Some(taken) = &mut *self.taken.lock().await {
            taken.remove(uid);
        }
    }

    async fn read(&self, now: Instant) -> kube::Result<HashMap<String, Turn>> {
        let all = self.api.list(&ListParams::default()).await?;
        let turns = all
            .iter()
            .filter_map(|object| Some((object.uid()?, begun(object, now)?)));
        Ok(turns.collect())
    }
}

/// The turn that a cluster's status says it has.
fn begun(object: &EtcdCluster, now: Instant) -> Option<Turn> {
    let status = object.status.as_ref()?;
    let intent = status.intent.as_ref().filter(|intent| is_disruptive(intent))?;
    let member = status.members.iter().find(|member| member.pod == intent.pod)?;
    Some(Turn {
        node: member.node.clone()?,
        cluster: format!("{}/{}", object.namespace()?, object.name_any()),
        since: now,
    })
}

fn take(
    taken: &mut HashMap<String, Turn>,
    uid: &str,
    cluster: &str,
    node: &str,
    is_urgent: bool,
    now: Instant,
) -> Option<String> {
    taken.retain(|_, turn| now.saturating_duration_since(turn.since) < LONGEST);
    let mut others = taken.iter().filter(|(other, _)| *other != uid && !is_urgent);
    if let Some((_, turn)) = others.find(|(_, turn)| turn.node == node) {
        return Some(turn.cluster.clone());
    }
    let turn = Turn {
        node: node.to_owned(),
        cluster: cluster.to_owned(),
        since: now,
    };
    taken.insert(uid.to_owned(), turn);
    None
}

/// Whether a change takes a member away for a while.
pub fn is_disruptive(intent: &MemberIntent) -> bool {
    matches!(intent.action, MemberAction::Restart | MemberAction::Defragment)
}

#[cfg(test)]
mod tests {
    use skep_api::etcd_cluster::{EtcdClusterStatus, EtcdMember};

    use super::*;
    use crate::fixtures;

    #[test]
    fn one_member_of_all_clusters_is_disturbed_on_a_node_at_a_time() {
        let (now, mut taken) = (Instant::now(), HashMap::new());
        assert_eq!(take(&mut taken, "1", "a/etcd", "n", false, now), None);
        assert_eq!(take(&mut taken, "1", "a/etcd", "n", false, now), None);
        assert_eq!(
            take(&mut taken, "2", "b/etcd", "n", false, now),
            Some("a/etcd".to_owned())
        );
        assert_eq!(take(&mut taken, "2", "b/etcd", "m", false, now), None);
        taken.remove("1");
        assert_eq!(take(&mut taken, "3", "c/etcd", "n", false, now), None);
    }

    #[test]
    fn one_that_is_urgent_waits_for_nobody_and_is_waited_for() {
        let (now, mut taken) = (Instant::now(), HashMap::new());
        assert_eq!(take(&mut taken, "1", "a/etcd", "n", false, now), None);
        assert_eq!(take(&mut taken, "2", "b/etcd", "n", true, now), None);
        taken.remove("1");
        let next = take(&mut taken, "3", "c/etcd", "n", false, now);
        assert_eq!(next, Some("b/etcd".to_owned()));
    }

    #[test]
    fn one_that_is_stuck_does_not_hold_up_the_others_for_ever() {
        let (now, mut taken) = (Instant::now(), HashMap::new());
        take(&mut taken, "1", "a/etcd", "n", false, now);
        let later = now + LONGEST;
        assert_eq!(take(&mut taken, "2", "b/etcd", "n", false, later), None);
    }

    #[test]
    fn what_another_process_has_begun_counts() {
        let mut object = fixtures::three();
        let intent = |action| MemberIntent {
            action,
            pod: "p".to_owned(),
        };
        object.status = Some(EtcdClusterStatus {
            intent: Some(intent(MemberAction::Restart)),
            members: vec![EtcdMember {
                pod: "p".to_owned(),
                node: Some("n".to_owned()),
                ..EtcdMember::default()
            }],
            ..EtcdClusterStatus::default()
        });
        let now = Instant::now();
        assert_eq!(begun(&object, now).map(|turn| turn.node), Some("n".to_owned()));
        object.status.as_mut().unwrap().intent = Some(intent(MemberAction::Add));
        assert_eq!(begun(&object, now), None);
    }
}
