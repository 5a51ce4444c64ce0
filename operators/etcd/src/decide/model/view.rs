//! What is seen of the world, and what the status says of it.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_api::etcd_cluster::{EtcdMember, MemberRole};

use super::world::{FULL, SMALL, World, revision};
use crate::observed::{Backups, Drills, Member, MemberStatus, Membership, Observed, Restore};

impl World {
    /// All that a decision is made on.
    pub fn observe(&self) -> Observed {
        let membership = self.has_quorum().then(|| Membership {
            cluster_id: 1,
            leader: self.leader,
            alarms: self.alarm().into_iter().collect(),
            members: self
                .members
                .iter()
                .map(|member| Member {
                    id: member.id,
                    pod: Some(member.pod.clone()),
                    peer_url: format!("https://{}.p:2380", member.pod),
                    is_started: member.is_started,
                    is_learner: member.is_learner,
                    status: self.is_running(member).then(|| MemberStatus {
                        id: member.id,
                        leader: self.leader,
                        database_bytes: if self.has_history || self.holes.contains(&member.pod) {
                            FULL
                        } else {
                            SMALL
                        },
                        // Until etcd can write it does not count what was freed.
                        used_bytes: if self.is_full { FULL } else { SMALL },
                        revision: self.revision,
                        version: self.release_of(&member.pod).version.to_string(),
                        ..MemberStatus::default()
                    }),
                })
                .collect(),
        });
        Observed {
            desired: self.desired,
            revision: revision(self.current(), self.authorities.revision()),
            release: self.current().clone(),
            wanted: self.wanted.clone(),
            volume_policy: self.policy,
            bootstrapped: self.bootstrapped,
            intent: self.intent.clone(),
            avoided_nodes: self.avoided_nodes.clone(),
            recorded: self.recorded.clone(),
            pods: self.pods.clone(),
            claims: self.claims.clone(),
            membership,
            quota_bytes: 64 << 20,
            fills: None,
            freed: self.freed.clone().filter(|_| self.is_full),
            healthy_for: Duration::from_secs(self.healthy_steps * 3),
            trust: self.authorities.observe(),
            backups: Backups::default(),
            drills: Drills::default(),
            restore: Restore::default(),
            alone: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            fresh: format!("m-{}", self.next),
        }
    }

    /// The status is written with every look, as the driver does.
    pub fn record(&mut self) {
        self.release = Some(self.current().clone());
        if self.has_quorum() {
            self.recorded = self
                .members
                .iter()
                .map(|member| EtcdMember {
                    pod: member.pod.clone(),
                    node: self.disks.get(&member.pod).and_then(|disk| disk.node.clone()),
                    id: Some(format!("{:x}", member.id)),
                    role: if member.is_learner {
                        MemberRole::Learner
                    } else {
                        MemberRole::Voter
                    },
                    ..EtcdMember::default()
                })
                .collect();
        }
    }
}
