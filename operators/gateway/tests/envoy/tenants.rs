//! Tenants' TLS servers, each with a certificate that nobody else has, and clients that trust only that one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// The longest that anything in a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A TLS server that answers each line with its name and the line.
#[derive(Clone)]
pub struct Tenant {
    cpid: String,
    pub address: SocketAddr,
    certificate: CertificateDer<'static>,
    server: Arc<ServerConfig>,
}

impl Tenant {
    pub async fn start(cpid: &str) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(hosts(cpid)).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let server = Arc::new(server);
        let address = serve(cpid.to_owned(), server.clone()).await;
        Self {
            cpid: cpid.to_owned(),
            address,
            certificate: cert.der().clone(),
            server,
        }
    }

    /// The same tenant at one more address, where it calls itself `…-moved`.
    pub async fn move_to_new_address(&self) -> Self {
        let address = serve(format!("{}-moved", self.cpid), self.server.clone()).await;
        Self {
            address,
            ..self.clone()
        }
    }

    pub fn cpid(&self) -> &str {
        &self.cpid
    }

    pub fn hosts(&self) -> Vec<String> {
        hosts(&self.cpid)
    }
}

pub fn hosts(cpid: &str) -> Vec<String> {
    ["api", "node", "konnectivity"]
        .map(|role| format!("{role}.{cpid}.local.skep.internal"))
        .into()
}

async fn serve(name: String, config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, name) = (acceptor.clone(), name.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else {
                    return;
                };
                let mut lines = BufReader::new(stream);
                let mut line = String::new();
                while matches!(lines.read_line(&mut line).await, Ok(1..)) {
                    let answer = format!("{name} {line}");
                    line.clear();
                    if lines.write_all(answer.as_bytes()).await.is_err() || lines.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection(BufReader<TlsStream<TcpStream>>);

impl Connection {
    pub async fn echo(&mut self, line: &str) -> std::io::Result<String> {
        let exchange = async {
            self.0.write_all(format!("{line}\n").as_bytes()).await?;
            self.0.flush().await?;
            let mut answer = String::new();
            match self.0.read_line(&mut answer).await? {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(answer.trim_end().to_owned()),
            }
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("an answer or an end in time")
    }
}

/// Connects with a host name, trusting only this tenant's certificate.
pub async fn connect(gateway: SocketAddr, host: &str, trusted: &Tenant) -> std::io::Result<Connection> {
    connect_after(gateway, &[], host, trusted).await
}

/// Connects through the tunnel of a node that names `authority`, as a pod to whom its API is `kubernetes`; the
/// name in the pod's own TLS is of no meaning to the gateway.
pub async fn connect_by_tunnel(
    gateway: SocketAddr,
    authority: &str,
    trusted: &Tenant,
) -> std::io::Result<Connection> {
    let header = proxy_header(authority);
    connect_after(gateway, &header, &trusted.hosts()[0], trusted).await
}

/// A PROXY protocol v2 header of a TCP connection over IPv4 with the authority as its one TLV (its type is 2).
pub fn proxy_header(authority: &str) -> Vec<u8> {
    let addresses = [10, 0, 0, 1, 10, 0, 0, 2, 0x80, 0, 0x19, 0x2b];
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(length(addresses.len() + 3 + authority.len()));
    header.extend(addresses);
    header.push(2);
    header.extend(length(authority.len()));
    header.extend(authority.as_bytes());
    header
}

async fn connect_after(
    gateway: SocketAddr,
    header: &[u8],
    host: &str,
    trusted: &Tenant,
) -> std::io::Result<Connection> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connecting = async {
        let mut socket = TcpStream::connect(gateway).await?;
        socket.write_all(header).await?;
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    };
    let stream = tokio::time::timeout(PATIENCE, connecting)
        .await
        .expect("a connection or an end in time")?;
    Ok(Connection(BufReader::new(stream)))
}

/// Sends bytes and reads to the end.
pub async fn send_plain(gateway: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(gateway).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end too.
    let reading = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer));
    let _ = reading.await.expect("an end in time");
    answer
}

/// The first bytes of a TLS connection that names `host`.
pub fn client_hello(host: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("in time: {what}"));
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
