//! One stream of one Envoy: requests and changes in, responses out. No I/O.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource,
};

use crate::metrics;
use crate::resources::Kind;
use crate::snapshot::{Changes, Snapshot};
use crate::subscription::{Delta, Interest, Subscription};

/// The most resources in one response, so that a message stays small (about 1 KiB a resource).
const MOST_RESOURCES: usize = 1000;

/// The state of one stream.
#[derive(Debug)]
pub struct Session {
    node: String,
    nonce: u64,
    subscriptions: BTreeMap<Kind, Subscription>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            node: "unknown".to_owned(),
            nonce: 0,
            subscriptions: Kind::ALL.map(|kind| (kind, Subscription::new(kind))).into(),
        }
    }
}

impl Session {
    /// Who is at the other end.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Takes a request in: an answer to a response, a change of interest, or both.
    pub fn request(
        &mut self,
        request: DeltaDiscoveryRequest,
        snapshot: &Snapshot,
    ) -> Vec<DeltaDiscoveryResponse> {
        if let Some(node) = request.node.as_ref().filter(|node| !node.id.is_empty()) {
            self.node.clone_from(&node.id);
        }
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            tracing::warn!(
                node = self.node,
                type_url = request.type_url,
                "an Envoy asks for what there is not"
            );
            return Vec::new();
        };
        self.note_answer(kind, &request);
        let Some(subscription) = self.subscriptions.get_mut(&kind) else {
            return Vec::new();
        };
        let interest = Interest {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            versions: request.initial_resource_versions.into_iter().collect(),
        };
        let delta = subscription.request(interest, snapshot);
        self.respond([(kind, delta)])
    }

    /// What to send after these resources changed.
    pub fn changed(&mut self, changes: &Changes, snapshot: &Snapshot) -> Vec<DeltaDiscoveryResponse> {
        let deltas: Vec<(Kind, Delta)> = self
            .subscriptions
            .iter_mut()
            .map(|(kind, subscription)| {
                let names = changes
                    .iter()
                    .filter(|(of, _)| of == kind)
                    .map(|(_, name)| name.as_str());
                (*kind, subscription.changed(names, snapshot))
            })
            .collect();
        self.respond(deltas)
    }

    /// What to send after an unknown number of changes.
    pub fn compared(&mut self, snapshot: &Snapshot) -> Vec<DeltaDiscoveryResponse> {
        let deltas: Vec<(Kind, Delta)> = self
            .subscriptions
            .iter_mut()
            .map(|(kind, known)| (*kind, known.compared(snapshot)))
            .collect();
        self.respond(deltas)
    }

    fn note_answer(&self, kind: Kind, request: &DeltaDiscoveryRequest) {
        match &request.error_detail {
            Some(error) => {
                metrics::ANSWERS.with_label_values(&[kind.label(), "nack"]).inc();
                tracing::error!(
                    node = self.node,
                    kind = kind.label(),
                    nonce = request.response_nonce,
                    error = error.message,
                    "an Envoy refused a response"
                );
            }
            None if !request.response_nonce.is_empty() => {
                metrics::ANSWERS.with_label_values(&[kind.label(), "ack"]).inc();
            }
            None => {}
        }
    }

    fn respond(&mut self, deltas: impl IntoIterator<Item = (Kind, Delta)>) -> Vec<DeltaDiscoveryResponse> {
        deltas
            .into_iter()
            .flat_map(|(kind, delta)| self.pages(kind, delta))
            .collect()
    }

    fn pages(&mut self, kind: Kind, delta: Delta) -> Vec<DeltaDiscoveryResponse> {
        let Delta {
            resources,
            mut removed,
        } = delta;
        let wire = |(name, resource): (String, std::sync::Arc<crate::resources::Resource>)| WireResource {
            name,
            version: resource.version.clone(),
            resource: Some(resource.body.clone()),
            ..WireResource::default()
        };
        let mut resources: Vec<WireResource> = resources.into_iter().map(wire).collect();
        let mut pages = Vec::new();
        while !resources.is_empty() || !removed.is_empty() {
            let rest = resources.split_off(resources.len().min(MOST_RESOURCES));
            self.nonce += 1;
            pages.push(DeltaDiscoveryResponse {
                type_url: kind.type_url().to_owned(),
                nonce: self.nonce.to_string(),
                resources: std::mem::replace(&mut resources, rest),
                removed_resources: std::mem::take(&mut removed),
                ..DeltaDiscoveryResponse::default()
            });
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::route;
    use envoy_types::pb::google::rpc::Status;

    const HOST: &str = "api.cabcdefghi.local.skep.internal";

    fn request(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    #[test]
    fn an_answer_to_a_response_is_not_answered() {
        let snapshot = Snapshot::of([route("cabcdefghi", &["10.0.0.1:6443"])]);
        let mut session = Session::default();
        let first = session.request(request(Kind::Cluster, &[HOST]), &snapshot);
        assert_eq!(
            (first.len(), first[0].resources.len(), first[0].nonce.as_str()),
            (1, 1, "1")
        );
        let ack = DeltaDiscoveryRequest {
            response_nonce: "1".into(),
            ..request(Kind::Cluster, &[])
        };
        assert!(session.request(ack.clone(), &snapshot).is_empty());
        let error = Status {
            code: 13,
            message: "no".into(),
            details: Vec::new(),
        };
        let nack = DeltaDiscoveryRequest {
            error_detail: Some(error),
            ..ack
        };
        assert!(
            session.request(nack, &snapshot).is_empty(),
            "the same again would be refused again"
        );
    }

    #[test]
    fn clusters_are_told_before_endpoints() {
        let mut snapshot = Snapshot::of([route("cabcdefghi", &["10.0.0.1:6443"])]);
        let mut session = Session::default();
        session.request(request(Kind::Cluster, &[HOST]), &snapshot);
        session.request(request(Kind::Endpoints, &[HOST]), &snapshot);
        let changes = snapshot.remove(&"cabcdefghi".parse().unwrap());
        let gone = session.changed(&changes, &snapshot);
        assert!(gone.iter().all(|response| response.removed_resources == [HOST]));
        let types: Vec<_> = gone.iter().map(|response| response.type_url.as_str()).collect();
        assert_eq!(types, Kind::ALL.map(Kind::type_url));
    }

    #[test]
    fn a_large_answer_is_cut_into_pages() {
        let symbols: Vec<char> = ('a'..='z').collect();
        let cpid = |n: usize| {
            let (one, two) = (symbols[n % 26], symbols[n / 26]);
            format!("c{one}{two}aaaaaaa")
        };
        let snapshot = Snapshot::of((0..600).map(|n| route(&cpid(n), &[])));
        let mut session = Session::default();
        let pages = session.request(request(Kind::Cluster, &[]), &snapshot);
        let sizes: Vec<usize> = pages.iter().map(|page| page.resources.len()).collect();
        assert_eq!(sizes, [1000, 800]);
    }

    #[test]
    fn an_unknown_type_is_ignored() {
        let asks = DeltaDiscoveryRequest {
            type_url: "type.googleapis.com/x".into(),
            ..Default::default()
        };
        assert!(Session::default().request(asks, &Snapshot::default()).is_empty());
    }
}
