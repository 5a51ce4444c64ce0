//! One gateway: xDS server, certificates, Envoy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_gateway::board::Board;
use skep_gateway::route::{HostNames, Route, Way};
use skep_gateway::{server, tls};
use skep_pki::{CertificateAuthority, LeafRequest, San};
use skep_runtime::CancellationToken;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::{Envoy, free_address};
use crate::tenants::{Tenant, eventually, hosts};

pub struct Gateway {
    board: Arc<Board>,
    envoy: Envoy,
    xds: Option<Xds>,
    xds_address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    directory: tempfile::TempDir,
}

struct Xds {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Gateway {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = write_certificates(directory.path());
        let xds_address = free_address();
        let envoy = Envoy::start(directory.path(), &mounted(directory.path()), xds_address);
        let board = Arc::default();
        let mut gateway = Self {
            board,
            envoy,
            xds: None,
            xds_address,
            tls,
            directory,
        };
        gateway.start_xds(&[]).await;
        eventually("Envoy is ready", async || {
            gateway.envoy.admin("/ready").await.is_some()
        })
        .await;
        gateway
    }

    pub fn address(&self) -> SocketAddr {
        self.envoy.tenants
    }

    /// Where nodes of tenants bring the connections of their pods.
    pub fn tunnel(&self) -> SocketAddr {
        self.envoy.tunnels
    }

    /// Publishes exactly these tenants.
    pub fn publish(&self, tenants: &[&Tenant]) {
        self.board.replace(routes(tenants));
    }

    /// Publishes one tenant with one more address.
    pub fn publish_also(&self, tenant: &Tenant, address: SocketAddr) {
        self.publish_raw(vec![route(tenant.cpid(), &[tenant.address, address])]);
    }

    pub fn publish_raw(&self, routes: Vec<Route>) {
        self.board.replace(routes);
    }

    /// Starts a server that knows nothing of an earlier one.
    pub async fn start_xds(&mut self, tenants: &[&Tenant]) {
        self.start_xds_with(routes(tenants)).await;
    }

    pub async fn start_xds_with(&mut self, routes: Vec<Route>) {
        self.board = Arc::default();
        self.board.replace(routes);
        let listener = TcpListener::bind(self.xds_address).await.unwrap();
        let shutdown = CancellationToken::new();
        let (_, tls) = watch::channel(self.tls.clone());
        let serving = server::serve(listener, tls, self.board.clone(), shutdown.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        self.xds = Some(Xds { shutdown, task });
    }

    pub async fn stop_xds(&mut self) {
        let Xds { shutdown, task } = self.xds.take().unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }

    /// A new authority and new leaves, put in place as a kubelet does it.
    pub fn replace_certificates(&mut self) {
        self.tls = write_certificates(self.directory.path());
    }

    pub async fn admin(&self, path: &str) -> String {
        self.envoy.admin(path).await.unwrap()
    }

    pub async fn clusters(&self) -> String {
        self.admin("/clusters").await
    }

    pub async fn stat(&self, name: &str) -> u64 {
        let text = self.admin(&format!("/stats?filter=^{name}$")).await;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value
            .unwrap_or_else(|| panic!("there is a statistic {name}"))
            .parse()
            .unwrap()
    }

    /// Bytes that Envoy has allocated.
    pub async fn memory(&self) -> u64 {
        let memory: serde_json::Value = serde_json::from_str(&self.admin("/memory").await).unwrap();
        memory["allocated"].as_str().unwrap().parse().unwrap()
    }
}

fn routes(tenants: &[&Tenant]) -> Vec<Route> {
    tenants
        .iter()
        .map(|tenant| route(tenant.cpid(), &[tenant.address]))
        .collect()
}

pub fn route(cpid: &str, addresses: &[SocketAddr]) -> Route {
    let slice = |address: &SocketAddr| {
        serde_json::from_value(serde_json::json!({
            "metadata": {}, "addressType": "IPv4",
            "ports": [{"port": address.port()}, {"name": "konnectivity", "port": address.port()}],
            "endpoints": [{"addresses": [address.ip()]}],
        }))
        .unwrap()
    };
    let doors = addresses
        .iter()
        .map(|address| skep_gateway::route::doors(&slice(address)))
        .collect();
    let [api, node, konnectivity] = hosts(cpid).try_into().unwrap();
    Route {
        cpid: cpid.parse().unwrap(),
        hosts: HostNames {
            api,
            node,
            konnectivity,
        },
        way: Way::Local(doors),
    }
}

/// The route to a tenant of another cell with this front.
pub fn far_route(cpid: &str, front: &str) -> Route {
    Route {
        way: Way::Far(Arc::new(front.parse().unwrap())),
        ..route(cpid, &[])
    }
}

fn mounted(directory: &Path) -> PathBuf {
    directory.join("tls")
}

/// Writes a client's files the way a kubelet mounts a Secret, behind a link that is replaced as a whole.
fn write_certificates(directory: &Path) -> Arc<rustls::ServerConfig> {
    let now = k8s_openapi::jiff::Timestamp::now();
    let authority = CertificateAuthority::create("skep-gateway", now).unwrap();
    let client = authority
        .issue(&LeafRequest::client("skep-gateway", &[]), now)
        .unwrap();
    let root = authority.certificate().as_str();
    let mounted = mounted(directory);
    std::fs::create_dir_all(&mounted).unwrap();
    let content = tempfile::Builder::new()
        .prefix("..content-")
        .tempdir_in(&mounted)
        .unwrap()
        .keep();
    for (name, text) in [
        ("tls.crt", client.certificate.as_str()),
        ("tls.key", client.key.expose()),
        ("ca.crt", root),
    ] {
        std::fs::write(content.join(name), text).unwrap();
        let link = mounted.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    let new = mounted.join("..data_tmp");
    std::os::unix::fs::symlink(content.file_name().unwrap(), &new).unwrap();
    std::fs::rename(new, mounted.join("..data")).unwrap();

    let name = "skep-xds.skep-system.svc";
    let server = authority
        .issue(&LeafRequest::server(name, vec![San::parse(name)]), now)
        .unwrap();
    let (certificate, key) = (server.certificate.as_bytes(), server.key.expose().as_bytes());
    Arc::new(tls::server_config(certificate, key, root.as_bytes()).unwrap())
}
