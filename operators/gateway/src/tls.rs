//! Mutual TLS of the xDS server, with certificates that change while it runs.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use skep_runtime::CancellationToken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::metrics;

/// The longest a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Pause after the listener refused a connection, for instance because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait to be served.
const CONNECTIONS: usize = 16;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM block cannot be read.
    #[error("the {what} is not PEM")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The parts do not fit together.
    #[error("the certificate and key cannot be used")]
    Config(#[source] rustls::Error),
    /// No client could be checked.
    #[error("the authority cannot check clients")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The server's configuration: its certificate and key, and the authority that signs clients; all PEM.
///
/// # Errors
/// When a part cannot be read, or the key is not the certificate's.
pub fn server_config(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain = certificates("certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem { what: "key", source })?;
    let mut roots = RootCertStore::empty();
    for root in certificates("authority", authority)? {
        roots.add(root).map_err(TlsError::Config)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(verifier.map_err(TlsError::Verifier)?)
        .with_single_cert(chain, key)
        .map_err(TlsError::Config)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })
}

/// The connections whose handshake succeeded, each with the configuration that was the newest then.
pub(crate) fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    shutdown: CancellationToken,
) -> ReceiverStream<Result<TlsStream<TcpStream>, std::io::Error>> {
    let (sender, receiver) = mpsc::channel(CONNECTIONS);
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let acceptor = TlsAcceptor::from(tls.borrow().clone());
                    // One client that is slow or does not speak TLS must not hold up the others.
                    tokio::spawn(shake_hands(acceptor, socket, sender.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the xDS server");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(receiver)
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    sender: mpsc::Sender<Result<TlsStream<TcpStream>, std::io::Error>>,
) {
    let error = match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => {
            // An error says that the server ended meanwhile.
            let _ = sender.send(Ok(stream)).await;
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no handshake in time".to_owned(),
    };
    metrics::HANDSHAKES_FAILED.inc();
    tracing::debug!(error, "a client of the xDS server was refused");
}
