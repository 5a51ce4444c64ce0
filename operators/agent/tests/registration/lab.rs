//! A hub with its real controllers, and the agent of a cell beside it, with no more rights than `manifests/rbac` gives.
//!
//! One API server is hub and cell: the agent reaches the hub by a directory alone, as if it were another cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::json;
use skep_agent::{AgentError, HubAccess, HubDirectory, Settings, run};
use skep_api::{Cell, ClusterRegistration, RegistrationToken};
use skep_core::KeyName;
use skep_pki::{CertificatePem, KeyPem, describe};
use skep_runtime::CancellationToken;
use skep_runtime::conditions::is_true;
use skep_testing::{Cluster, Options, until};
use tokio::task::{JoinHandle, JoinSet};

const HUB: (&str, &str) = ("hub-of-this-test", "system:serviceaccount:skep-system:skep-hub");
const AGENT: (&str, &str) = (
    "agent-of-this-test",
    "system:serviceaccount:skep-system:skep-agent",
);
const SECRET: &str = "skep-agent-identity";

/// A hub of the pool `eu`.
pub struct Lab {
    pub cluster: Cluster,
    directory: tempfile::TempDir,
    _controllers: JoinSet<()>,
}

/// What the cell has stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub key: String,
    /// The name that the key makes.
    pub made: String,
    pub certificate: Option<String>,
    pub bootstrap_id: String,
}

impl Identity {
    /// Whom the certificate speaks for.
    pub fn user(&self) -> Option<String> {
        let certificate = CertificatePem::parse(self.certificate.as_ref()?).unwrap();
        describe(&certificate).unwrap().common_name
    }
}

impl Lab {
    /// Starts it with these cells; some fifteen seconds.
    pub async fn start(cells: &[&str]) -> Self {
        let cluster = Cluster::start(&Options {
            users: vec![HUB, AGENT],
            controllers: vec!["certificatesigningrequest-signing-controller"],
            ..Options::default()
        })
        .await;
        cluster.install_definitions().await;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "skep-system"}});
        cluster.apply(namespace).await;
        for text in [
            include_str!("../../../../manifests/rbac/agent.yaml"),
            include_str!("../../../../manifests/rbac/cells.yaml"),
            include_str!("../../../../manifests/rbac/identity.yaml"),
            include_str!("../../../../manifests/rbac/registration.yaml"),
            include_str!("../../../../manifests/rbac/bindings.yaml"),
            include_str!("../../../../manifests/rbac/hub-bindings.yaml"),
        ] {
            cluster.apply_manifest(text).await;
        }
        for name in cells {
            let cell = json!({"apiVersion": "skep.dev/v1alpha1", "kind": "Cell", "metadata": {"name": name}, "spec": {
                "pool": "eu", "region": "local", "domain": "skep.internal", "zones": ["a"],
                "network": {"nodes": "198.18.0.0/24", "pods": "198.18.16.0/20", "services": "198.18.4.0/22"},
                "gateway": {"address": "198.18.0.2:443"}}});
            cluster.apply(cell).await;
        }
        let directory = tempfile::tempdir().unwrap();
        let server = cluster.config("").cluster_url.to_string();
        std::fs::write(directory.path().join("server"), server).unwrap();
        let authority = cluster.authority.certificate().as_str();
        std::fs::write(directory.path().join("ca.crt"), authority).unwrap();
        let controllers = run_hub(&cluster.client(HUB.0));
        Self {
            cluster,
            directory,
            _controllers: controllers,
        }
    }

    /// Makes a token of so many uses, puts it into the directory and returns its public id.
    pub async fn put_token(&self, name: &str, uses: u32) -> String {
        let token = json!({"apiVersion": "skep.dev/v1alpha1", "kind": "RegistrationToken",
            "metadata": {"name": name}, "spec": {"uses": uses, "scope": {"pool": "eu"}}});
        self.cluster.apply(token).await;
        let id = until("the token can be used", || async {
            let status = self.tokens().get(name).await.ok()?.status?;
            is_true(&status.conditions, "Usable").then_some(status.bootstrap_id?)
        })
        .await;
        let secrets: Api<Secret> = Api::namespaced(self.cluster.admin.clone(), "kube-system");
        let found = secrets.get(&format!("bootstrap-token-{id}")).await.unwrap();
        let secret = String::from_utf8(found.data.unwrap()["token-secret"].0.clone()).unwrap();
        self.write_token(&format!("{id}.{secret}\n"));
        id
    }

    /// Puts this into the directory as the token.
    pub fn write_token(&self, text: &str) {
        std::fs::write(self.directory.path().join("token"), text).unwrap();
    }

    /// Takes the token out of the directory.
    pub fn take_token(&self) {
        std::fs::remove_file(self.directory.path().join("token")).unwrap();
    }

    /// Starts an agent with this client of its cell.
    pub fn start_agent(&self, cell: &str, client: Client) -> Agent {
        let settings = Settings {
            cell: cell.parse().unwrap(),
            version: "0.0.1-test".into(),
            instance: None,
        };
        let access = HubAccess::Token(HubDirectory::find(self.directory.path()).unwrap());
        let running = tokio::spawn(run(client, access, settings, CancellationToken::new()));
        Agent(running)
    }

    /// The client of the agent's own account in its cell.
    pub fn agent_client(&self) -> Client {
        self.cluster.client(AGENT.0)
    }

    /// Awaits that the agent of a cell checks in from now on.
    pub async fn checks_in(&self, cell: &str) {
        let cells: Api<Cell> = Api::all(self.cluster.admin.clone());
        let last = || async { Some(cells.get(cell).await.ok()?.status?.last_check_in?.0) };
        let before = last().await;
        until("the agent checks in", || async {
            let now = last().await?;
            (Some(now) != before).then_some(())
        })
        .await;
    }

    pub async fn identity(&self) -> Option<Identity> {
        let secret = self.secrets().get_opt(SECRET).await.unwrap()?;
        let data = secret.data.unwrap();
        let text = |key: &str| Some(String::from_utf8(data.get(key)?.0.clone()).unwrap());
        let key = text("tls.key").unwrap();
        let public = KeyPem::parse(&key).unwrap().public_key().unwrap();
        Some(Identity {
            key,
            made: KeyName::of(&public).name,
            certificate: text("tls.crt"),
            bootstrap_id: secret.metadata.annotations.unwrap()["skep.dev/bootstrap-id"].clone(),
        })
    }

    /// Awaits an identity that is as `is_it` says.
    pub async fn identity_that(&self, what: &str, is_it: impl Fn(&Identity) -> bool) -> Identity {
        until(what, || async { self.identity().await.filter(&is_it) }).await
    }

    /// Puts another certificate into the Secret, or takes it out.
    pub async fn put_certificate(&self, certificate: Option<&CertificatePem>) {
        let text = certificate.map(CertificatePem::as_str);
        let body = match text {
            Some(text) => json!({"stringData": {"tls.crt": text}}),
            None => json!({"data": {"tls.crt": null}}),
        };
        let params = PatchParams::default();
        self.secrets()
            .patch(SECRET, &params, &Patch::Merge(body))
            .await
            .unwrap();
    }

    pub async fn delete_identity(&self) {
        self.secrets()
            .delete(SECRET, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// The user names and contents of all signing requests, oldest first.
    pub async fn requests(&self) -> Vec<(String, String)> {
        let api: Api<CertificateSigningRequest> = Api::all(self.cluster.admin.clone());
        let mut found = api.list(&ListParams::default()).await.unwrap().items;
        found.sort_by_key(|request| request.metadata.creation_timestamp.clone());
        let told = found.into_iter().map(|request| {
            let text = String::from_utf8(request.spec.request.0).unwrap();
            let asked = skep_pki::check_request(&text).unwrap();
            (request.spec.username.unwrap(), asked.common_name.unwrap())
        });
        told.collect()
    }

    pub async fn registrations(&self) -> Vec<ClusterRegistration> {
        let api: Api<ClusterRegistration> = Api::all(self.cluster.admin.clone());
        api.list(&ListParams::default()).await.unwrap().items
    }

    pub async fn revoke(&self, registration: &str) {
        let api: Api<ClusterRegistration> = Api::all(self.cluster.admin.clone());
        let body = Patch::Merge(json!({"spec": {"revoked": true}}));
        api.patch(registration, &PatchParams::default(), &body)
            .await
            .unwrap();
    }

    pub async fn used(&self, token: &str) -> i32 {
        self.tokens().get(token).await.unwrap().status.unwrap().used
    }

    /// Awaits a warning about the identity, and returns its text.
    pub async fn warned(&self, reason: &str) -> String {
        let api: Api<Event> = Api::namespaced(self.cluster.admin.clone(), "skep-system");
        until(&format!("an event {reason}"), || async {
            let events = api.list(&ListParams::default()).await.ok()?.items;
            let it = events
                .into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))?;
            assert_eq!(it.regarding?.name.as_deref(), Some(SECRET));
            it.note
        })
        .await
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.admin.clone(), "skep-system")
    }

    fn tokens(&self) -> Api<RegistrationToken> {
        Api::all(self.cluster.admin.clone())
    }
}

/// An agent that runs; it dies when it is dropped.
pub struct Agent(JoinHandle<Result<(), AgentError>>);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// At which request to its cell an agent dies: before it is sent, or before its answer is read.
pub struct Fuse {
    left: AtomicUsize,
    is_sent: bool,
    burnt: CancellationToken,
}

impl Fuse {
    pub fn new(requests: usize, is_sent: bool) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(requests),
            is_sent,
            burnt: CancellationToken::new(),
        })
    }

    /// A client whose last request is never answered.
    pub fn wire(self: &Arc<Self>, client: &Client) -> Client {
        let (fuse, client) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (fuse, client) = (fuse.clone(), client.clone());
            async move {
                let count = |left: usize| left.checked_sub(1);
                let left = fuse.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
                let is_last = left == Ok(1);
                if left.is_ok() && (fuse.is_sent || !is_last) {
                    let response = client.send(request).await;
                    if !is_last {
                        return response;
                    }
                }
                fuse.burnt.cancel();
                std::future::pending().await
            }
        });
        Client::new(service, "default")
    }

    pub async fn burns(&self) {
        self.burnt.cancelled().await;
    }
}

fn run_hub(hub: &Client) -> JoinSet<()> {
    let mut running = JoinSet::new();
    let client = hub.clone();
    running.spawn(async move {
        let settings = skep_fleet::registration::Settings::default();
        skep_fleet::registration::run(client, settings, CancellationToken::new())
            .await
            .unwrap();
    });
    let client = hub.clone();
    running.spawn(async move {
        let settings = skep_fleet::identity::Settings::default();
        skep_fleet::identity::run(client, settings, CancellationToken::new())
            .await
            .unwrap();
    });
    let client = hub.clone();
    running.spawn(async move {
        skep_cells::run(client, skep_cells::Settings::default(), CancellationToken::new())
            .await
            .unwrap();
    });
    running
}
