//! What scheduler, kubelets and etcds do by themselves.

use std::collections::BTreeSet;

use super::world::{BROKEN, EtcdMemberModel, World};
use crate::observed::Start;
use crate::version::Line;

impl World {
    /// Kubelets and etcds do their part.
    pub fn pass(&mut self) {
        self.authorities.pass();
        self.pods.retain(|_, pod| !pod.is_deleting);
        let waiting: Vec<String> = self
            .pods
            .iter()
            .filter(|(pod, state)| !state.is_finished && !state.is_gated && !self.running.contains(*pod))
            .map(|(pod, _)| pod.clone())
            .collect();
        for pod in waiting {
            self.start_container(&pod);
        }
        self.elect();
        // Etcd takes a newer version over when every member runs it.
        let lines: Vec<Line> = self
            .members
            .iter()
            .filter(|member| self.is_running(member))
            .map(|member| self.release_of(&member.pod).version.line())
            .collect();
        if lines.len() == self.members.len() {
            self.line = lines.into_iter().min().unwrap_or(self.line);
        }
        let is_every_voter_healthy = self.voters().iter().all(|member| self.is_running(member));
        self.healthy_steps = if is_every_voter_healthy {
            self.healthy_steps + 1
        } else {
            0
        };
    }

    pub fn start_container(&mut self, pod: &str) {
        if !self.disks.contains_key(pod) {
            return;
        }
        self.place(pod);
        let disk = self.disks.get(pod).cloned().unwrap_or_default();
        let made = self.release_of(pod);
        if made.image == BROKEN {
            return;
        }
        if self.is_sick(pod) {
            self.pods
                .entry(pod.to_owned())
                .and_modify(|state| state.restarts += 1);
            return;
        }
        assert!(
            made.version.line() >= self.line,
            "{pod} starts with a version that cannot read the data"
        );
        let start = self.pods.get(pod).and_then(|state| state.start.clone());
        let address = Some("10.0.0.1".to_owned());
        match (disk.member, start) {
            (Some(id), _) => {
                if self.members.iter().any(|member| member.id == id) {
                    self.running.insert(pod.to_owned());
                }
            }
            (None, Some(Start::Seed)) => {
                let id = self.serial();
                let is_second = self.clusters_formed > 0 && !self.members.is_empty();
                assert!(!is_second || !self.bootstrapped, "{pod} formed a second cluster");
                self.clusters_formed += 1;
                self.line = made.version.line();
                self.members = vec![EtcdMemberModel {
                    id,
                    pod: pod.to_owned(),
                    is_learner: false,
                    is_started: true,
                }];
                self.fill_disk(pod, id);
                self.running = BTreeSet::from([pod.to_owned()]);
            }
            (None, Some(Start::Join(list))) => {
                let listed: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
                let known: BTreeSet<&str> = self.members.iter().map(|member| member.pod.as_str()).collect();
                if listed != known || !self.has_quorum() {
                    return;
                }
                if let Some(member) = self.members.iter_mut().find(|member| member.pod == pod) {
                    assert!(
                        !member.is_started,
                        "{pod} came back under its old id without its data"
                    );
                    member.is_started = true;
                    let id = member.id;
                    self.fill_disk(pod, id);
                    self.running.insert(pod.to_owned());
                }
            }
            (None, Some(Start::Rejoin | Start::Force) | None) => {
                if let Some(state) = self.pods.get_mut(pod) {
                    state.restarts += 1;
                    // It is told of the last end alone.
                    state.is_out_of_memory = false;
                }
            }
        }
        if let Some(state) = self.pods.get_mut(pod) {
            state.address = address;
            state.is_ready = true;
        }
    }

    fn fill_disk(&mut self, pod: &str, id: u64) {
        self.disks.entry(pod.to_owned()).or_default().member = Some(id);
    }

    /// A pod goes where its volume is; a new volume is made on a node that has no other member and is not avoided.
    fn place(&mut self, pod: &str) {
        let used: BTreeSet<&String> = self
            .pods
            .keys()
            .filter_map(|other| self.disks.get(other)?.node.as_ref())
            .collect();
        let free = (0..=used.len() + self.avoided_nodes.len())
            .map(|node| format!("n{node}"))
            .find(|node| !used.contains(node) && !self.avoided_nodes.contains(node));
        let disk = self.disks.entry(pod.to_owned()).or_default();
        disk.node = disk.node.take().or(free);
        let node = disk.node.clone();
        self.pods
            .entry(pod.to_owned())
            .and_modify(|state| state.node = node);
    }
}
