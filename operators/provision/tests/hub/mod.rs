//! A real kube-apiserver, and the server under test beside it, with no more rights than
//! `manifests/rbac/provision.yaml` gives.

pub mod caller;
pub mod cell;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};
use skep_provision::{Settings, run};
use skep_testing::{Cluster, Options, until};
use tokio_util::sync::CancellationToken;

/// The hub and the server under test.
pub struct Hub {
    /// The URL of the server under test.
    pub url: String,
    /// An HTTP client that trusts the server under test.
    pub http: reqwest::Client,
    /// The hub's API.
    pub cluster: Cluster,
    /// Ends the server under test.
    pub shutdown: CancellationToken,
}

impl Hub {
    /// Starts everything; some ten seconds.
    pub async fn start() -> Self {
        let cluster = Cluster::start(&Options::default()).await;
        install(&cluster).await;
        let accounts = Api::namespaced(cluster.admin.clone(), "skep-system");
        let token = token(&accounts, "skep-hub").await;
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        let shutdown = CancellationToken::new();
        let settings = Settings {
            listen,
            ..Settings::default()
        };
        tokio::spawn(run(cluster.client(&token), settings, shutdown.clone()));
        let http = trusting_client(&cluster.admin).await;
        let url = format!("https://{listen}");
        until("the server answers", || async {
            http.get(format!("{url}/healthz")).send().await.ok()
        })
        .await;
        Self {
            url,
            http,
            cluster,
            shutdown,
        }
    }

    /// A token of a service account in `default`, which is made when missing.
    pub async fn user(&self, name: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.admin.clone(), "default");
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount {
            metadata,
            ..ServiceAccount::default()
        };
        let _ = accounts.create(&PostParams::default(), &account).await;
        token(&accounts, name).await
    }

    /// Applies an object as the administrator.
    pub async fn apply(&self, object: Value) {
        self.cluster.apply(object).await;
    }
}

/// Definitions, rights and what the platform offers.
async fn install(cluster: &Cluster) {
    cluster.install_definitions().await;
    for name in ["skep-system", "skep-cell-local"] {
        cluster
            .apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await;
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "skep-hub", "namespace": "skep-system"}});
    cluster.apply(account).await;
    cluster
        .apply_manifest(include_str!("../../../../manifests/rbac/provision.yaml"))
        .await;
    cluster
        .apply(cluster_binding("skep:provision", "skep-hub", "skep-system"))
        .await;
    let offered = skep_profiles::defaults(
        "localhost",
        &["1.36.3".to_owned()],
        "3.7.3",
        &std::collections::BTreeMap::new(),
    )
    .unwrap();
    for object in offered {
        cluster.apply(serde_json::to_value(object).unwrap()).await;
    }
    cluster.apply(cell()).await;
}

/// Binds a cluster role to a service account.
pub fn cluster_binding(role: &str, account: &str, namespace: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{role}-{account}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]})
}

fn cell() -> Value {
    json!({"apiVersion": "skep.dev/v1alpha1", "kind": "Cell", "metadata": {"name": "local"},
        "spec": {"region": "local", "domain": "skep.internal", "zones": ["a", "b", "c"],
            "network": {"nodes": "198.18.0.0/24", "pods": "198.18.16.0/20", "services": "198.18.4.0/22"},
            "gateway": {"address": "198.18.0.2:443"}}})
}

async fn token(accounts: &Api<ServiceAccount>, name: &str) -> String {
    let spec = TokenRequestSpec {
        expiration_seconds: Some(3600),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest {
        spec: Some(spec),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .unwrap();
    answer.status.unwrap().token.unwrap()
}

/// A client that trusts what the config map says, as `skep up` does.
async fn trusting_client(admin: &Client) -> reqwest::Client {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "skep-system");
    for _ in 0..300 {
        if let Some(map) = maps.get_opt("skep-provision-ca").await.unwrap() {
            let authority = reqwest::Certificate::from_pem(map.data.unwrap()["ca.crt"].as_bytes()).unwrap();
            return reqwest::Client::builder()
                .tls_certs_only([authority])
                .build()
                .unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server did not publish its authority");
}

/// Whether a namespace exists.
pub async fn has_namespace(admin: &Client, name: &str) -> bool {
    Api::<Namespace>::all(admin.clone())
        .get_opt(name)
        .await
        .unwrap()
        .is_some()
}
