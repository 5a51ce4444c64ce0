//! A real kube-apiserver over a real etcd as plain processes on loopback, in the role of a cell.
//!
//! There is no kubelet and no controller manager: the test itself says what runs and when.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::json;
use skep_pki::{CertificateAuthority, LeafRequest, San, ServiceAccountKeys};

const TOKEN: &str = "only-of-this-test";

/// Ends a process when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The cell's API.
pub struct Cell {
    /// How to reach it as its administrator.
    pub config: Config,
    _api_server: Process,
    _etcd: Process,
    _directory: tempfile::TempDir,
}

/// The directory of `etcd` and `kube-apiserver`, when it is given.
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

impl Cell {
    /// Starts it; some ten seconds.
    pub async fn start(binaries: &Path) -> Self {
        skep_runtime::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let (etcd, url) = start_etcd(binaries, directory.path());
        let (api_server, config) = start_api_server(binaries, directory.path(), &url);
        let admin = Client::try_from(config.clone()).unwrap();
        for _ in 0..600 {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            if admin.request_text(request).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self {
            config,
            _api_server: api_server,
            _etcd: etcd,
            _directory: directory,
        }
    }
}

fn spawn(program: &Path, arguments: &[String], log: &Path) -> Process {
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    let child = command.args(arguments).stdout(Stdio::null()).stderr(log).spawn();
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

fn start_api_server(binaries: &Path, directory: &Path, etcd: &str) -> (Process, Config) {
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
            file("tokens", &format!("{TOKEN},admin,1,system:masters\n"))
        ),
        // Loopback, so that a tenant's address refuses at once instead of leading anywhere.
        "--service-cluster-ip-range=127.77.0.0/16".to_owned(),
    ];
    let process = spawn(
        &binaries.join("kube-apiserver"),
        &arguments,
        &directory.join("kube-apiserver.log"),
    );
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
    config.root_cert = Some(vec![authority.certificate().der().unwrap()]);
    let info: AuthInfo = serde_json::from_value(json!({"token": TOKEN})).unwrap();
    config.auth_info = info;
    (process, config)
}
