//! Envoy as a process: found, configured from the manifests, and ended with the test.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What Envoy logs; shown when a test fails.
const LOG_LEVEL: &str = "warning";

/// A running Envoy; killed when dropped.
pub struct Envoy {
    child: Child,
    log: PathBuf,
    pub tenants: SocketAddr,
    pub tunnels: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if std::thread::panicking() {
            println!(
                "Envoy said:\n{}",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

impl Envoy {
    /// Starts the shipped configuration with this test's ports and paths.
    pub fn start(directory: &Path, tls: &Path, xds: SocketAddr) -> Self {
        let [tenants, tunnels, admin] = [(); 3].map(|()| free_address());
        let changes: BTreeMap<&str, String> = [
            (
                "address: 0.0.0.0, port_value: 443}",
                format!("address: 127.0.0.1, port_value: {}}}", tenants.port()),
            ),
            (
                "address: 0.0.0.0, port_value: 8444}",
                format!("address: 127.0.0.1, port_value: {}}}", tunnels.port()),
            ),
            ("port_value: 19000", format!("port_value: {}", admin.port())),
            (
                "address: skep-xds.skep-system.svc.cluster.local, port_value: 18000",
                format!("address: 127.0.0.1, port_value: {}", xds.port()),
            ),
            ("/etc/skep/envoy", directory.display().to_string()),
            ("/etc/skep/tls", tls.display().to_string()),
        ]
        .into();
        let mut used: Vec<&str> = Vec::new();
        for (name, mut text) in shipped() {
            for (from, to) in &changes {
                if text.contains(from) {
                    used.push(from);
                    text = text.replace(from, to);
                }
            }
            std::fs::write(directory.join(name), text).unwrap();
        }
        assert!(
            changes.keys().all(|from| used.contains(from)),
            "the manifest changed: only {used:?} are there"
        );
        // Not beside the configuration: Envoy watches that directory.
        let log_path = directory.join("log").join("envoy.log");
        std::fs::create_dir(directory.join("log")).unwrap();
        let log = std::fs::File::create(&log_path).unwrap();
        let child = Command::new(binary())
            .arg("--config-path")
            .arg(directory.join("envoy.yaml"))
            .args(["--service-cluster", "skep-gateway", "--service-node", "test"])
            .args([
                "--concurrency",
                "2",
                "--disable-hot-restart",
                "--log-level",
                LOG_LEVEL,
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log_path,
            tenants,
            tunnels,
            admin,
        }
    }

    /// Asks the admin interface; nothing when it does not answer.
    pub async fn admin(&self, path: &str) -> Option<String> {
        let mut stream = tokio::net::TcpStream::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200")
            .then(|| without_chunks(head, body))
    }
}

/// The content of a body that may be cut into chunks, each after a line with its length.
fn without_chunks(head: &str, mut body: &str) -> String {
    if !head.contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut content = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let (chunk, rest) = rest.split_at(usize::from_str_radix(length, 16).unwrap());
        content.push_str(chunk);
        body = rest.trim_start_matches("\r\n");
    }
    content
}

/// An address that nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The files of the shipped `ConfigMap`.
fn shipped() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/gateway/envoy.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let first = text.split("\n---\n").next().unwrap();
    let map: ConfigMap = serde_saphyr::from_str(first).unwrap();
    map.data.unwrap()
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SKEP_TEST_ENVOY") {
        return path.into();
    }
    let from_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/skep"));
    let cache = std::env::var_os("SKEP_CACHE")
        .map(PathBuf::from)
        .or_else(from_home)
        .unwrap();
    let entries = std::fs::read_dir(&cache).into_iter().flatten().flatten();
    let envoys = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("envoy-"));
    let binaries = envoys
        .map(|entry| entry.path().join("envoy"))
        .filter(|path| path.is_file());
    binaries.max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok()).unwrap_or_else(|| {
        panic!(
            "there is no Envoy in {}: name one by SKEP_TEST_ENVOY, or bring up a local cell once, which puts it there",
            cache.display()
        )
    })
}
