//! What is done through the cluster's own API: waiting for it, tokens for joining nodes, their pod
//! ranges, and the cluster's DNS.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubeNode, NodeCondition, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Error as WaitError, await_condition};
use kube::runtime::watcher::Error as WatchError;
use kube::{Client, Config};
use rand::Rng;
use serde_json::json;

use crate::cell::Cell;
use crate::error::Error;
use crate::spec::Node;
use crate::volumes::{STORAGE_CLASS, build_storage_class};

/// Owner of the fields that the provider sets.
const FIELD_MANAGER: &str = "skep.dev/local-provider";
/// A joining node needs its token for seconds.
const TOKEN_MINUTES: i64 = 15;
/// How often is asked whether the API answers.
const POLL: Duration = Duration::from_millis(100);

/// The cell's API, with an administrator's credentials.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
}

impl Cluster {
    /// Opens a kubeconfig; connects to nothing yet.
    pub(crate) async fn open(kubeconfig: &Path) -> Result<Self, Error> {
        let wrong = |source| Error::Kubeconfig {
            path: kubeconfig.to_owned(),
            source: Box::new(source),
        };
        let text = Kubeconfig::read_from(kubeconfig).map_err(wrong)?;
        let wrong = |source| Error::Kubeconfig {
            path: kubeconfig.to_owned(),
            source: Box::new(source),
        };
        let mut config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default())
            .await
            .map_err(wrong)?;
        config.connect_timeout = Some(Duration::from_secs(2));
        // Watches are renewed before that; other answers come at once or never.
        config.read_timeout = Some(Duration::from_secs(295));
        config.default_retry = false;
        let client = Client::try_from(config).map_err(Error::api("prepare a client"))?;
        Ok(Self { client })
    }

    /// Whether the API serves now.
    pub(crate) async fn is_ready(&self) -> bool {
        let Ok(request) = http_get("/readyz") else {
            return false;
        };
        let answer = tokio::time::timeout(Duration::from_secs(5), self.client.request_text(request)).await;
        matches!(answer, Ok(Ok(_)))
    }

    /// Waits until the API serves.
    pub(crate) async fn wait_ready(&self, limit: Duration, hint: &str) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        while !self.is_ready().await {
            if Instant::now() > deadline {
                let what = "an answer of the cell's API".to_owned();
                return Err(Error::TimedOut {
                    what,
                    after: limit,
                    hint: hint.to_owned(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes a token with which one node may join.
    pub(crate) async fn create_token(&self) -> Result<String, Error> {
        let Token { id, secret } = Token::generate(&mut rand::rng());
        let expiry = Timestamp::now() + jiff::SignedDuration::from_mins(TOKEN_MINUTES);
        let data = [
            ("token-id", id.clone()),
            ("token-secret", secret.clone()),
            ("expiration", expiry.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("usage-bootstrap-authentication", "true".into()),
            (
                "auth-extra-groups",
                "system:bootstrappers:kubeadm:default-node-token".into(),
            ),
        ];
        let mut object = Secret {
            type_: Some("bootstrap.kubernetes.io/token".into()),
            string_data: Some(
                data.into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            ),
            ..Secret::default()
        };
        object.metadata.name = Some(format!("bootstrap-token-{id}"));
        let secrets = Api::<Secret>::namespaced(self.client.clone(), "kube-system");
        secrets
            .create(&PostParams::default(), &object)
            .await
            .map_err(Error::api("make a join token"))?;
        Ok(format!("{id}.{secret}"))
    }

    /// Takes a token back.
    pub(crate) async fn delete_token(&self, token: &str) -> Result<(), Error> {
        let id = token.split('.').next().unwrap_or_default();
        let secrets = Api::<Secret>::namespaced(self.client.clone(), "kube-system");
        let deleted = secrets
            .delete(&format!("bootstrap-token-{id}"), &DeleteParams::default())
            .await;
        ignore_missing(deleted.map(drop)).map_err(Error::api("delete a join token"))
    }

    /// Forgets a node that is to join anew.
    pub(crate) async fn delete_node(&self, name: &str) -> Result<(), Error> {
        let deleted = self.nodes().delete(name, &DeleteParams::default()).await;
        ignore_missing(deleted.map(drop)).map_err(Error::api(format!("delete node {name}")))
    }

    /// Waits until every node of the cell is ready, and gives each its pod range.
    ///
    /// A node counts as ready when it has said so since the time that `since` gives for it.
    pub(crate) async fn settle_nodes(
        &self,
        cell: &Cell,
        since: impl Fn(&Node) -> Option<Timestamp>,
        limit: Duration,
        hint: &str,
    ) -> Result<(), Error> {
        let ready = futures::future::try_join_all(cell.nodes.iter().map(|node| async {
            let since = since(node);
            let is_ready = |found: Option<&KubeNode>| is_ready_since(found, since);
            let waiting = await_condition(self.nodes(), &node.name, is_ready);
            let found = tokio::time::timeout(limit, waiting)
                .await
                .map_err(|_| Error::TimedOut {
                    what: format!("node {} being ready", node.name),
                    after: limit,
                    hint: hint.to_owned(),
                })?;
            let failed = |error| match error {
                WaitError::ProbeFailed(WatchError::InitialListFailed(e)) => e,
                other @ WaitError::ProbeFailed(_) => kube::Error::Service(Box::new(other)),
            };
            found
                .map_err(failed)
                .map_err(Error::api(format!("watch node {}", node.name)))
        }))
        .await?;
        for (node, found) in cell.nodes.iter().zip(ready) {
            let has = found
                .and_then(|found| found.spec)
                .and_then(|spec| spec.pod_cidr)
                .is_some();
            if !has {
                let range = cell.slot.pods_of(node.index);
                let patch = json!({ "spec": { "podCIDR": range, "podCIDRs": [range] } });
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PatchParams::default()
                };
                let patched = self
                    .nodes()
                    .patch(&node.name, &params, &Patch::Merge(patch))
                    .await;
                patched.map_err(Error::api(format!("give node {} its pod range", node.name)))?;
            }
        }
        Ok(())
    }

    /// Makes the cluster's DNS answer for the cluster only, from more than one zone.
    pub(crate) async fn settle_dns(&self) -> Result<(), Error> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let config = Api::<ConfigMap>::namespaced(self.client.clone(), "kube-system");
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "coredns" },
            "data": { "Corefile": COREFILE },
        }));
        config
            .patch("coredns", &params, &patch)
            .await
            .map_err(Error::api("configure the cluster's DNS"))?;
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), "kube-system");
        let labels = json!({ "matchLabels": { "k8s-app": "kube-dns" } });
        let patch = Patch::Apply(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "coredns" },
            "spec": { "template": { "spec": {
                "topologySpreadConstraints": [{
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": labels,
                }],
                "containers": [{
                    "name": "coredns",
                    "resources": { "requests": { "cpu": "20m", "memory": "32Mi" } },
                }],
            } } },
        }));
        deployments
            .patch("coredns", &params, &patch)
            .await
            .map_err(Error::api("spread the cluster's DNS"))?;
        Ok(())
    }

    /// Whether the cluster's DNS is there and as we want it.
    pub(crate) async fn is_dns_settled(&self) -> Result<bool, Error> {
        let params = ListParams::default().fields("metadata.name=coredns");
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), "kube-system");
        let found = deployments
            .list(&params)
            .await
            .map_err(Error::api("look for the cluster's DNS"))?;
        let constraints = |deployment: Deployment| {
            deployment
                .spec?
                .template
                .spec?
                .topology_spread_constraints
                .filter(|all| !all.is_empty())
        };
        Ok(found.items.into_iter().next().and_then(constraints).is_some())
    }

    /// Makes the class of local volumes, unless it is there; says whether it was.
    pub(crate) async fn ensure_storage_class(&self) -> Result<bool, Error> {
        let class = build_storage_class();
        let classes = Api::<StorageClass>::all(self.client.clone());
        let found = classes
            .get_metadata_opt(STORAGE_CLASS)
            .await
            .map_err(Error::api("look for storage classes"))?;
        if found.is_none() {
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let applied = classes.patch(STORAGE_CLASS, &params, &Patch::Apply(class)).await;
            applied.map_err(Error::api("make the storage class"))?;
        }
        Ok(found.is_some())
    }

    /// Nodes that the API knows, with whether each is ready.
    pub(crate) async fn node_states(&self) -> Result<BTreeMap<String, bool>, Error> {
        let nodes = self
            .nodes()
            .list(&ListParams::default())
            .await
            .map_err(Error::api("list nodes"))?;
        let state = |node: KubeNode| {
            let ready = is_ready_since(Some(&node), None);
            (node.metadata.name.unwrap_or_default(), ready)
        };
        Ok(nodes.items.into_iter().map(state).collect())
    }

    fn nodes(&self) -> Api<KubeNode> {
        Api::all(self.client.clone())
    }
}

/// Names of the cluster only: there is no resolver to ask for others.
const COREFILE: &str = ".:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 5
    }
    prometheus :9153
    cache 5
    reload
    loadbalance
}
";

/// The two parts of a bootstrap token.
struct Token {
    id: String,
    secret: String,
}

impl Token {
    fn generate(random: &mut impl Rng) -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut word = |length: usize| -> String {
            (0..length)
                .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
                .collect()
        };
        Self {
            id: word(6),
            secret: word(16),
        }
    }
}

/// A token for a cluster that does not exist yet.
pub(crate) fn new_token() -> String {
    let Token { id, secret } = Token::generate(&mut rand::rng());
    format!("{id}.{secret}")
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>, http::Error> {
    http::Request::get(path).body(Vec::new())
}

/// Whether a node is ready and, where that matters, has said so since.
fn is_ready_since(node: Option<&KubeNode>, since: Option<Timestamp>) -> bool {
    let conditions = node
        .and_then(|node| node.status.as_ref())
        .and_then(|status| status.conditions.as_ref());
    let is_fresh = |one: &NodeCondition| {
        since.is_none_or(|since| {
            one.last_heartbeat_time
                .as_ref()
                .is_some_and(|said| said.0 >= since)
        })
    };
    let is_ready = |one: &NodeCondition| one.type_ == "Ready" && one.status == "True" && is_fresh(one);
    conditions.is_some_and(|all| all.iter().any(is_ready))
}

fn ignore_missing(outcome: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
