//! For tests: a real kube-apiserver over a real etcd as plain processes on loopback.
//!
//! There is no kubelet: a test says itself what runs and when. Failures panic, as in any test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod process;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use process::{Process, free_port, spawn};
use serde_json::{Value, json};
use skep_pki::{CertificateAuthority, Leaf, LeafRequest, San, ServiceAccountKeys};

const ADMIN_TOKEN: &str = "admin-of-this-test";
const AUDIT_LOG: &str = "audit.log";

/// What a cluster has beside its API.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Users beside the administrator, as (token, name); they have no rights until some are bound to them.
    pub users: Vec<(&'static str, &'static str)>,
    /// Controllers of kube-controller-manager that run, such as `garbage-collector-controller`.
    pub controllers: Vec<&'static str>,
    /// Users whose requests the API server writes down, see [`Cluster::audit_log`].
    pub audited: Vec<&'static str>,
}

/// A cluster of an API server and its datastore; all of it ends when it is dropped.
pub struct Cluster {
    /// Its administrator.
    pub admin: Client,
    /// Signs its serving certificate; whom it certifies may call it.
    pub authority: CertificateAuthority,
    port: u16,
    binaries: PathBuf,
    arguments: Vec<String>,
    api_server: Option<Process>,
    controller_manager: Option<Process>,
    _etcd: Process,
    directory: tempfile::TempDir,
}

/// The directory of `etcd`, `kube-apiserver` and `kube-controller-manager`.
///
/// # Panics
/// When `SKEP_TEST_BIN` names none: a test that passes without having run would be a lie.
pub fn binaries() -> PathBuf {
    let given = std::env::var_os("SKEP_TEST_BIN").filter(|path| !path.is_empty());
    let path = PathBuf::from(given.expect(
        "SKEP_TEST_BIN must name a directory with etcd and kube-apiserver; `STAGES=unit e2e/run` builds and names one",
    ));
    assert!(
        path.join("kube-apiserver").exists(),
        "there is no kube-apiserver in SKEP_TEST_BIN, {}",
        path.display()
    );
    path
}

impl Cluster {
    /// Starts it and waits until it answers; some ten seconds.
    pub async fn start(options: &Options) -> Self {
        skep_runtime::install_crypto();
        let binaries = binaries();
        let directory = tempfile::tempdir().unwrap();
        let (etcd, url) = start_etcd(&binaries, directory.path());
        let authority = CertificateAuthority::create("test", Timestamp::now()).unwrap();
        let port = free_port();
        let arguments = api_server_arguments(directory.path(), &url, port, &authority, options);
        let mut cluster = Self {
            admin: Client::try_from(config(port, &authority, ADMIN_TOKEN)).unwrap(),
            authority,
            port,
            binaries,
            arguments,
            api_server: None,
            controller_manager: None,
            _etcd: etcd,
            directory,
        };
        cluster.start_api_server().await;
        if !options.controllers.is_empty() {
            cluster.controller_manager = Some(cluster.start_controller_manager(&options.controllers));
        }
        cluster
    }

    /// Starts the API server again.
    pub async fn start_api_server(&mut self) {
        let log = self.directory.path().join("kube-apiserver.log");
        self.api_server = Some(spawn(
            &self.binaries.join("kube-apiserver"),
            &self.arguments,
            &log,
        ));
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

    /// How one of the users of [`Options`], or a service account, reaches it.
    pub fn config(&self, token: &str) -> Config {
        config(self.port, &self.authority, token)
    }

    /// How its administrator reaches it.
    pub fn admin_config(&self) -> Config {
        self.config(ADMIN_TOKEN)
    }

    /// A client with a certificate that [`Cluster::authority`] signed.
    pub fn certified_client(&self, leaf: &Leaf) -> Client {
        let encoded = |pem: &str| ByteString(pem.as_bytes().to_vec());
        let mut config = self.config("");
        config.auth_info = serde_json::from_value(json!({
            "client-certificate-data": encoded(leaf.certificate.as_str()),
            "client-key-data": encoded(leaf.key.expose()),
        }))
        .unwrap();
        Client::try_from(config).unwrap()
    }

    /// A client with a token.
    pub fn client(&self, token: &str) -> Client {
        Client::try_from(self.config(token)).unwrap()
    }

    /// Applies an object as the administrator, as soon as its kind is served.
    pub async fn apply(&self, object: Value) -> DynamicObject {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let kind = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match object.metadata.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(self.admin.clone(), namespace, &kind),
            None => Api::all_with(self.admin.clone(), &kind),
        };
        let name = object.metadata.name.clone().unwrap();
        let params = PatchParams::apply("test").force();
        let mut refusal = String::new();
        for _ in 0..600 {
            match api.patch(&name, &params, &Patch::Apply(&object)).await {
                Ok(applied) => return applied,
                Err(error) => refusal = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} {name} was never taken: {refusal}", kind.kind);
    }

    /// Applies every document of a manifest.
    pub async fn apply_manifest(&self, text: &str) {
        for object in skep_runtime::manifests::parse(text).unwrap() {
            self.apply(serde_json::to_value(object).unwrap()).await;
        }
    }

    /// Installs the definitions of all kinds and waits until they are served.
    pub async fn install_definitions(&self) {
        let definitions = skep_api::definitions();
        for definition in &definitions {
            self.apply(serde_json::to_value(definition).unwrap()).await;
        }
        for definition in definitions {
            let path = format!(
                "/apis/{}/{}/{}",
                definition.spec.group, "v1alpha1", definition.spec.names.plural
            );
            until(&format!("{path} is served"), || async {
                let request = http::Request::get(&path).body(Vec::new()).unwrap();
                self.admin.request_text(request).await.ok()
            })
            .await;
        }
    }

    /// What the users of [`Options::audited`] asked for, one `audit.k8s.io/v1` event a line, written before the answer.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.path().join(AUDIT_LOG)
    }

    /// The administrator's kubeconfig, as JSON.
    pub fn kubeconfig(&self) -> Value {
        self.kubeconfig_of(ADMIN_TOKEN)
    }

    /// The kubeconfig of one of the users of [`Options`], as JSON.
    pub fn kubeconfig_of(&self, token: &str) -> Value {
        let authority = self.directory.path().join("ca.crt");
        let cluster =
            json!({"server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": authority});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
    }

    fn start_controller_manager(&self, controllers: &[&str]) -> Process {
        let file = |name: &str| self.directory.path().join(name);
        std::fs::write(file("kubeconfig"), self.kubeconfig().to_string()).unwrap();
        std::fs::write(file("ca.key"), self.authority.key().expose()).unwrap();
        let arguments = [
            format!("--kubeconfig={}", file("kubeconfig").display()),
            format!("--controllers={}", controllers.join(",")),
            "--leader-elect=false".to_owned(),
            format!("--cluster-signing-cert-file={}", file("ca.crt").display()),
            format!("--cluster-signing-key-file={}", file("ca.key").display()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", free_port()),
        ];
        spawn(
            &self.binaries.join("kube-controller-manager"),
            &arguments,
            &file("kube-controller-manager.log"),
        )
    }
}

/// Awaits what `probe` finds, at most a minute.
///
/// # Panics
/// When it finds nothing in that time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, probe: impl Fn() -> F) -> T {
    for _ in 0..3000 {
        if let Some(found) = probe().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

fn config(port: u16, authority: &CertificateAuthority, token: &str) -> Config {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    config.root_cert = Some(vec![authority.certificate().der().unwrap()]);
    config.auth_info = serde_json::from_value(json!({"token": token})).unwrap();
    config.default_retry = false;
    config
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
    options: &Options,
) -> Vec<String> {
    let request = LeafRequest::server("kube-apiserver", vec![San::parse("127.0.0.1")]);
    let leaf = authority.issue(&request, Timestamp::now()).unwrap();
    let keys = ServiceAccountKeys::generate().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut tokens = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n");
    for (number, (token, user)) in options.users.iter().enumerate() {
        writeln!(tokens, "{token},{user},{}", number + 2).unwrap();
    }
    let mut arguments = vec![
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
        // As kubeadm sets it: cells register with such tokens.
        "--enable-bootstrap-token-auth=true".to_owned(),
        // Loopback, so that a Service's address refuses at once instead of leading anywhere.
        "--service-cluster-ip-range=127.77.0.0/16".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    if !options.audited.is_empty() {
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{"level": "Metadata", "users": options.audited}, {"level": "None"}],
        });
        let policy = file("audit-policy.json", &policy.to_string());
        arguments.push(format!("--audit-policy-file={policy}"));
        arguments.push(format!(
            "--audit-log-path={}",
            directory.join(AUDIT_LOG).display()
        ));
        // Never another file: whoever reads it goes on where they were.
        arguments.push("--audit-log-maxsize=2000".to_owned());
    }
    arguments
}
