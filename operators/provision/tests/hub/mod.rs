//! A real kube-apiserver over a real etcd as plain processes on loopback, and the server under test beside it,
//! with no more rights than `manifests/rbac/provision.yaml` gives.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::AuthInfo;
use kube::core::{GroupVersionKind, ObjectMeta};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use skep_pki::{CertificateAuthority, LeafRequest, San, ServiceAccountKeys};
use skep_provision::{Settings, run};
use tokio_util::sync::CancellationToken;

const ADMIN_TOKEN: &str = "only-of-this-test";

/// Ends a process when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The hub and the server under test.
pub struct Hub {
    /// The URL of the server under test.
    pub url: String,
    /// An HTTP client that trusts the server under test.
    pub http: reqwest::Client,
    /// The hub's administrator.
    pub admin: Client,
    /// Ends the server under test.
    pub shutdown: CancellationToken,
    api_server: Option<Process>,
    _etcd: Process,
    _directory: tempfile::TempDir,
}

/// The directory of `etcd` and `kube-apiserver` (or `hyperkube`), when it is given.
pub fn binaries() -> Option<PathBuf> {
    std::env::var_os("SKEP_TEST_BIN")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Hub {
    /// Starts everything; some ten seconds.
    pub async fn start(binaries: &Path) -> Self {
        skep_runtime::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let (etcd, etcd_url) = start_etcd(binaries, directory.path());
        let (api_server, port, authority) = start_api_server(binaries, directory.path(), &etcd_url);
        let admin = client(port, &authority, ADMIN_TOKEN);
        await_ready(&admin).await;
        install(&admin).await;
        let token = service_account_token(&admin, "skep-hub").await;
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let shutdown = CancellationToken::new();
        let settings = Settings {
            listen,
            ..Settings::default()
        };
        tokio::spawn(run(client(port, &authority, &token), settings, shutdown.clone()));
        let http = trusting_client(&admin).await;
        let url = format!("https://{listen}");
        while http.get(format!("{url}/healthz")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let api_server = Some(api_server);
        Self {
            url,
            http,
            admin,
            shutdown,
            api_server,
            _etcd: etcd,
            _directory: directory,
        }
    }

    /// A token of a service account in `default`, which is made when missing.
    pub async fn user(&self, name: &str) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), "default");
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

    /// Ends the hub's API server, and with it everything but the server under test.
    pub fn end_api_server(&mut self) {
        self.api_server = None;
    }

    /// Applies an object as the administrator.
    pub async fn apply(&self, object: Value) {
        apply(&self.admin, object).await;
    }
}

fn spawn(program: &Path, arguments: &[String], log: &Path) -> Process {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    Process(child)
}

fn start_etcd(binaries: &Path, directory: &Path) -> (Process, String) {
    let url = format!("http://127.0.0.1:{}", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    let arguments = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
    ];
    (
        spawn(&binaries.join("etcd"), &arguments, &directory.join("etcd.log")),
        url,
    )
}

fn start_api_server(binaries: &Path, directory: &Path, etcd: &str) -> (Process, u16, CertificateAuthority) {
    let now = Timestamp::now();
    let authority = CertificateAuthority::create("test", now).unwrap();
    let request = LeafRequest::server("kube-apiserver", vec![San::parse("127.0.0.1")]);
    let leaf = authority.issue(&request, now).unwrap();
    let keys = ServiceAccountKeys::generate().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let port = free_port();
    let arguments = [
        format!("--etcd-servers={etcd}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--tls-cert-file={}", file("tls.crt", leaf.certificate.as_str())),
        format!("--tls-private-key-file={}", file("tls.key", leaf.key.expose())),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-key-file={}",
            file("sa.pub", keys.public.as_str())
        ),
        format!(
            "--service-account-signing-key-file={}",
            file("sa.key", keys.private.expose())
        ),
        format!(
            "--token-auth-file={}",
            file("tokens", &format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n"))
        ),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.9.0.0/24".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    let program = directory.join("kube-apiserver");
    let real = ["kube-apiserver", "hyperkube"].map(|name| binaries.join(name));
    let real = real
        .iter()
        .find(|path| path.exists())
        .expect("SKEP_TEST_BIN holds kube-apiserver or hyperkube");
    std::os::unix::fs::symlink(real, &program).unwrap();
    (
        spawn(&program, &arguments, &directory.join("kube-apiserver.log")),
        port,
        authority,
    )
}

fn client(port: u16, authority: &CertificateAuthority, token: &str) -> Client {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    config.root_cert = Some(vec![authority.certificate().der().unwrap()]);
    let info: AuthInfo = serde_json::from_value(json!({"token": token})).unwrap();
    config.auth_info = info;
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

async fn await_ready(admin: &Client) {
    for _ in 0..600 {
        let request = http_get("/readyz");
        if admin.request_text(request).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("kube-apiserver did not come up within 60 s");
}

fn http_get(path: &str) -> axum::http::Request<Vec<u8>> {
    axum::http::Request::get(path).body(Vec::new()).unwrap()
}

/// Definitions, rights and what the platform offers.
async fn install(admin: &Client) {
    for definition in skep_api::definitions() {
        apply(
            admin,
            with_kind(&definition, "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        )
        .await;
    }
    for name in ["skep-system", "skep-cell-local"] {
        apply(
            admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "skep-hub", "namespace": "skep-system"}});
    apply(admin, account).await;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/rbac/provision.yaml");
    let text = std::fs::read_to_string(manifest).unwrap();
    for document in text.split("\n---\n") {
        apply(admin, serde_saphyr::from_str(document).unwrap()).await;
    }
    apply(
        admin,
        cluster_binding("skep:provision", "skep-hub", "skep-system"),
    )
    .await;
    for definition in skep_api::definitions() {
        await_definition(admin, definition.metadata.name.as_deref().unwrap()).await;
    }
    let offered = skep_profiles::defaults("localhost", &["1.36.3".to_owned()], "3.7.3").unwrap();
    for object in offered {
        apply(admin, serde_json::to_value(object).unwrap()).await;
    }
    apply(admin, cell()).await;
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

fn with_kind<T: serde::Serialize>(object: &T, version: &str, kind: &str) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = json!(version);
    value["kind"] = json!(kind);
    value
}

async fn await_definition(admin: &Client, name: &str) {
    let plural = name.split('.').next().unwrap();
    for _ in 0..300 {
        let request = http_get(&format!("/apis/skep.dev/v1alpha1/{plural}"));
        if admin.request_text(request).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} is not served");
}

async fn apply(admin: &Client, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types = object.types.clone().unwrap();
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(admin.clone(), namespace, &resource),
        None => Api::all_with(admin.clone(), &resource),
    };
    let name = object.metadata.name.clone().unwrap();
    let params = PatchParams::apply("test").force();
    api.patch(&name, &params, &Patch::Apply(&object))
        .await
        .unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
}

async fn service_account_token(admin: &Client, name: &str) -> String {
    token(&Api::namespaced(admin.clone(), "skep-system"), name).await
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
    use k8s_openapi::api::core::v1::ConfigMap;
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
