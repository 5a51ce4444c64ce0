//! A hub with the controllers that registration needs, with no more rights than `manifests/rbac` gives.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skep_api::{Cell, ClusterRegistration, RegistrationToken};
use skep_core::CELL_AGENTS;
use skep_fleet::identity::KeyName;
use skep_fleet::{identity, registration};
use skep_pki::{KeyPem, Leaf};
use skep_runtime::CancellationToken;
use skep_runtime::conditions::{find, is_true};
use skep_testing::{Cluster, Options, until};
use tokio::task::JoinSet;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

const HUB: (&str, &str) = ("hub-of-this-test", "system:serviceaccount:skep-system:skep-hub");
const AGENT: (&str, &str) = (
    "agent-of-this-test",
    "system:serviceaccount:skep-system:skep-agent",
);

/// A hub with the cells `one` and `two` of the pool `eu` and `far` of the pool `us`.
pub struct Lab {
    pub cluster: Cluster,
    _controllers: JoinSet<()>,
}

/// A key that asks, and the registration it makes.
pub struct Key {
    pub registration: String,
    private: KeyPem,
    request: String,
}

/// What became of a signing request.
#[derive(Debug)]
pub enum Answer {
    Issued(Box<Leaf>),
    Denied(String, String),
}

impl Answer {
    pub fn is_issued(&self) -> bool {
        matches!(self, Self::Issued(_))
    }

    pub fn leaf(self) -> Leaf {
        match self {
            Self::Issued(leaf) => *leaf,
            Self::Denied(reason, message) => panic!("denied: {reason}: {message}"),
        }
    }

    pub fn reason(self) -> String {
        match self {
            Self::Denied(reason, message) => {
                assert!(!message.is_empty());
                reason
            }
            Self::Issued(_) => panic!("it was issued"),
        }
    }
}

impl Key {
    /// A new key of a cell, with a request in the name of its registration.
    pub fn new(cell: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let bare = request(&pair, "x");
        let registration = key_name(&bare);
        Self::with(&pair, cell, registration)
    }

    /// A new key that asks in the name of another's registration, as a renewal does.
    pub fn renewal(cell: &str, registration: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        Self::with(&pair, cell, registration.to_owned())
    }

    /// A new key that asks for the bare name of a cell's agent.
    pub fn bare(cell: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let request = request(&pair, &format!("skep:cell:{cell}"));
        let key = KeyPem::parse(&pair.serialize_pem()).unwrap();
        Self {
            registration: String::new(),
            private: key,
            request,
        }
    }

    fn with(pair: &rcgen::KeyPair, cell: &str, registration: String) -> Self {
        let request = request(pair, &format!("skep:cell:{cell}:{registration}"));
        let key = KeyPem::parse(&pair.serialize_pem()).unwrap();
        Self {
            registration,
            private: key,
            request,
        }
    }
}

fn request(pair: &rcgen::KeyPair, user: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, CELL_AGENTS);
    params.serialize_request(pair).unwrap().pem().unwrap()
}

fn key_name(request: &str) -> String {
    let (_, pem) = parse_x509_pem(request.as_bytes()).unwrap();
    let (_, asked) = X509CertificationRequest::from_der(&pem.contents).unwrap();
    KeyName::of(asked.certification_request_info.subject_pki.raw).name
}

impl Lab {
    /// Starts it; some fifteen seconds.
    pub async fn start() -> Self {
        let cluster = Cluster::start(&Options {
            users: vec![HUB, AGENT],
            controllers: vec![
                "certificatesigningrequest-signing-controller",
                "garbage-collector-controller",
            ],
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
        for (name, pool) in [("one", "eu"), ("two", "eu"), ("far", "us")] {
            let cell = json!({"apiVersion": "skep.dev/v1alpha1", "kind": "Cell", "metadata": {"name": name}, "spec": {
                "pool": pool, "region": "local", "domain": "skep.internal", "zones": ["a"],
                "network": {"nodes": "198.18.0.0/24", "pods": "198.18.16.0/20", "services": "198.18.4.0/22"},
                "gateway": {"address": "198.18.0.2:443"}}});
            cluster.apply(cell).await;
        }
        let controllers = run(cluster.client(HUB.0));
        Self {
            cluster,
            _controllers: controllers,
        }
    }

    pub fn registrations(&self) -> Api<ClusterRegistration> {
        Api::all(self.cluster.admin.clone())
    }

    pub fn tokens(&self) -> Api<RegistrationToken> {
        Api::all(self.cluster.admin.clone())
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.admin.clone(), "kube-system")
    }

    /// The client of the agents' own account.
    pub fn agent(&self) -> Client {
        self.cluster.client(AGENT.0)
    }

    /// Makes a token and returns a client that holds it.
    pub async fn token(&self, name: &str, spec: Value) -> Client {
        let token = json!({"apiVersion": "skep.dev/v1alpha1", "kind": "RegistrationToken",
            "metadata": {"name": name}, "spec": spec});
        self.cluster.apply(token).await;
        let id = until("the token can be used", || async {
            let status = self.tokens().get(name).await.ok()?.status?;
            is_true(&status.conditions, "Usable").then_some(status.bootstrap_id?)
        })
        .await;
        let secret = self
            .secrets()
            .get(&format!("bootstrap-token-{id}"))
            .await
            .unwrap();
        let data = secret.data.unwrap();
        let secret = String::from_utf8(data["token-secret"].0.clone()).unwrap();
        let client = self.cluster.client(&format!("{id}.{secret}"));
        until("the API server knows the bootstrap token", || async {
            let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
            match requests.get_opt("none").await {
                Ok(None) => Some(()),
                _ => None,
            }
        })
        .await;
        client
    }

    /// Awaits that a token is over for this reason.
    pub async fn over(&self, name: &str, reason: &str) {
        until("the token is over", || async {
            let status = self.tokens().get(name).await.ok()?.status?;
            let told = find(&status.conditions, "Usable")?;
            (told.status == "False" && told.reason == reason).then_some(())
        })
        .await;
    }

    /// Awaits that a token's Secret is gone.
    pub async fn no_secret(&self, id: &str) {
        until("the Secret is gone", || async {
            let found = self.secrets().get_opt(&format!("bootstrap-token-{id}")).await;
            found.ok()?.is_none().then_some(())
        })
        .await;
    }

    pub async fn bootstrap_id(&self, name: &str) -> String {
        self.tokens()
            .get(name)
            .await
            .unwrap()
            .status
            .unwrap()
            .bootstrap_id
            .unwrap()
    }

    pub async fn used(&self, name: &str) -> i32 {
        self.tokens().get(name).await.unwrap().status.unwrap().used
    }

    /// Revokes a token or registration.
    pub async fn revoke<K>(&self, api: &Api<K>, name: &str)
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let body = Patch::Merge(json!({"spec": {"revoked": true}}));
        api.patch(name, &PatchParams::default(), &body).await.unwrap();
    }

    /// Asks as `client` with `key`, and awaits the answer as the administrator.
    pub async fn ask(&self, client: &Client, key: &Key) -> Answer {
        self.try_ask(client, key).await.unwrap()
    }

    /// As [`Lab::ask`]; the error is the API server's, that took no request.
    pub async fn try_ask(&self, client: &Client, key: &Key) -> Result<Answer, kube::Error> {
        let mine: Api<CertificateSigningRequest> = Api::all(client.clone());
        let created = mine.create(&PostParams::default(), &build_request(key)).await?;
        let name = created.name_any();
        let all: Api<CertificateSigningRequest> = Api::all(self.cluster.admin.clone());
        let answer = until("the signing request is answered", || async {
            let status = all.get(&name).await.ok()?.status?;
            let conditions = status.conditions.unwrap_or_default();
            if let Some(denied) = conditions.iter().find(|told| told.type_ == "Denied") {
                let (reason, message) = (denied.reason.clone()?, denied.message.clone()?);
                return Some(Answer::Denied(reason, message));
            }
            let pem = String::from_utf8(status.certificate?.0).ok()?;
            let leaf = Leaf::from_pem(&pem, key.private.expose()).ok()?;
            Some(Answer::Issued(Box::new(leaf)))
        })
        .await;
        Ok(answer)
    }

    /// Awaits that a certificate reads its own cell, and returns its client.
    pub async fn certified(&self, cell: &str, leaf: &Leaf) -> Client {
        let client = self.cluster.certified_client(leaf);
        until("the agent reads its cell", || async {
            Api::<Cell>::all(client.clone()).get(cell).await.ok()
        })
        .await;
        client
    }
}

fn build_request(key: &Key) -> CertificateSigningRequest {
    CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("test-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(key.request.as_bytes().to_vec()),
            signer_name: "kubernetes.io/kube-apiserver-client".to_owned(),
            usages: Some(vec!["digital signature".to_owned(), "client auth".to_owned()]),
            expiration_seconds: Some(3600),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    }
}

fn run(hub: Client) -> JoinSet<()> {
    let mut running = JoinSet::new();
    let shutdown = CancellationToken::new;
    let (client, all) = (hub.clone(), shutdown());
    running.spawn(async move {
        registration::run(client, registration::Settings::default(), all)
            .await
            .unwrap();
    });
    let (client, all) = (hub.clone(), shutdown());
    running.spawn(async move {
        identity::run(client, identity::Settings::default(), all)
            .await
            .unwrap();
    });
    running.spawn(async move {
        skep_cells::run(hub, skep_cells::Settings::default(), shutdown())
            .await
            .unwrap();
    });
    running
}
