//! A real kube-apiserver over a real etcd as plain processes on loopback, the agent beside it with no more
//! rights than `manifests/rbac` gives, and stand-ins for what else is in a hub and a cell.

mod stand_ins;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use skep_agent::Settings;
use skep_api::DeploymentRecord;
use skep_pki::{CertificateAuthority, LeafRequest, San, ServiceAccountKeys};
use tokio::task::JoinSet;

pub const CPID: &str = "cabcdefghi";
pub const HUB_NAMESPACE: &str = "skep-cell-local";

const ADMIN_TOKEN: &str = "admin-of-this-test";
const AGENT_TOKEN: &str = "agent-of-this-test";

/// Ends a process when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster that is hub and cell at once.
pub struct Lab {
    /// Its administrator.
    pub admin: Client,
    binaries: PathBuf,
    arguments: Vec<String>,
    port: u16,
    authority: String,
    api_server: Option<Process>,
    stand_ins: JoinSet<()>,
    _etcd: Process,
    directory: tempfile::TempDir,
}

/// The directory of `etcd` and `kube-apiserver`, when it is given.
pub fn binaries() -> Option<PathBuf> {
    let given = std::env::var_os("SKEP_TEST_BIN").filter(|path| !path.is_empty());
    if given.is_none() {
        eprintln!("skipped: SKEP_TEST_BIN names no directory with etcd and kube-apiserver");
    }
    given.map(PathBuf::from)
}

impl Lab {
    /// Starts everything but the agent; some ten seconds.
    pub async fn start(binaries: &Path) -> Self {
        skep_runtime::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let (etcd, url) = start_etcd(binaries, directory.path());
        let authority = CertificateAuthority::create("test", Timestamp::now()).unwrap();
        let port = free_port();
        let arguments = api_server_arguments(directory.path(), &url, port, &authority);
        let certificate = authority.certificate().as_str().to_owned();
        let mut lab = Self {
            admin: Client::try_from(config(port, &certificate, ADMIN_TOKEN)).unwrap(),
            binaries: binaries.to_owned(),
            arguments,
            port,
            authority: certificate,
            api_server: None,
            stand_ins: JoinSet::new(),
            _etcd: etcd,
            directory,
        };
        lab.start_api_server().await;
        lab.install().await;
        lab.stand_ins
            .spawn(stand_ins::approve(lab.admin.clone(), authority));
        lab.stand_ins
            .spawn(stand_ins::run_control_planes(lab.admin.clone()));
        lab.stand_ins.spawn(stand_ins::sign(lab.admin.clone()));
        lab
    }

    /// Starts the API server, for the first time or again.
    pub async fn start_api_server(&mut self) {
        let program = self.binaries.join("kube-apiserver");
        let log = self.directory.path().join("kube-apiserver.log");
        self.api_server = Some(spawn(&program, &self.arguments, &log));
        until("kube-apiserver answers", || async {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            self.admin.request_text(request).await.ok()
        })
        .await;
    }

    /// Ends the API server at once.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// The configuration of the agent's own account.
    pub fn agent_config(&self) -> Config {
        config(self.port, &self.authority, AGENT_TOKEN)
    }

    /// The client of the agent's own account.
    pub fn agent_client(&self) -> Client {
        Client::try_from(self.agent_config()).unwrap()
    }

    /// Applies an object as the administrator.
    pub async fn apply(&self, object: Value) -> DynamicObject {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let types = object.types.clone().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.metadata.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(self.admin.clone(), namespace, &kind),
            None => Api::all_with(self.admin.clone(), &kind),
        };
        let name = object.metadata.name.clone().unwrap();
        let params = PatchParams::apply("test").force();
        until("the API takes the object", || async {
            api.patch(&name, &params, &Patch::Apply(&object)).await.ok()
        })
        .await
    }

    async fn install(&self) {
        for definition in skep_api::definitions() {
            self.apply(serde_json::to_value(definition).unwrap()).await;
        }
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": HUB_NAMESPACE}})).unwrap();
        self.apply(serde_json::to_value(namespace).unwrap()).await;
        let roles = [
            include_str!("../../../../manifests/rbac/agent.yaml"),
            include_str!("../../../../manifests/rbac/cells.yaml"),
            include_str!("../fixtures/cell.yaml"),
        ];
        for object in roles
            .iter()
            .flat_map(|text| skep_runtime::manifests::parse(text).unwrap())
        {
            self.apply(serde_json::to_value(object).unwrap()).await;
        }
    }
}

/// How the agents of these tests run.
pub fn settings() -> Settings {
    Settings {
        cell: "local".parse().unwrap(),
        version: "0.0.1-test".into(),
        instance: None,
    }
}

/// The record of the fixtures, as the hub writes it.
pub fn record(cpid: &str) -> Value {
    let text = include_str!("../fixtures/record.yaml").replace(CPID, cpid);
    let mut record: DeploymentRecord = serde_saphyr::from_str(&text).unwrap();
    record.metadata.uid = None;
    record.metadata.generation = None;
    serde_json::to_value(record).unwrap()
}

/// Awaits what `probe` finds, at most a minute.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, probe: impl Fn() -> F) -> T {
    for _ in 0..3000 {
        if let Some(found) = probe().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn config(port: u16, authority: &str, token: &str) -> Config {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    let certificate = skep_pki::CertificatePem::parse(authority).unwrap();
    config.root_cert = Some(vec![certificate.der().unwrap()]);
    config.auth_info = serde_json::from_value(json!({"token": token})).unwrap();
    config.default_retry = false;
    config
}

fn spawn(program: &Path, arguments: &[String], log: &Path) -> Process {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Process(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
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

fn api_server_arguments(
    directory: &Path,
    etcd: &str,
    port: u16,
    authority: &CertificateAuthority,
) -> Vec<String> {
    let request = LeafRequest::server("kube-apiserver", vec![San::parse("127.0.0.1")]);
    let leaf = authority.issue(&request, Timestamp::now()).unwrap();
    let keys = ServiceAccountKeys::generate().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let tokens = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n{AGENT_TOKEN},skep-agent,2\n");
    vec![
        format!("--etcd-servers={etcd}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--tls-cert-file={}", file("tls.crt", leaf.certificate.as_str())),
        format!("--tls-private-key-file={}", file("tls.key", leaf.key.expose())),
        format!(
            "--client-ca-file={}",
            file("ca.crt", authority.certificate().as_str())
        ),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-key-file={}",
            file("sa.pub", keys.public.as_str())
        ),
        format!(
            "--service-account-signing-key-file={}",
            file("sa.key", keys.private.expose())
        ),
        format!("--token-auth-file={}", file("tokens", &tokens)),
        "--authorization-mode=RBAC".to_owned(),
        "--service-cluster-ip-range=10.9.0.0/24".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]
}
