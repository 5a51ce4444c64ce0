//! Asks programs in a network of their own whether they are ready, every 20 ms.
//!
//! A thread enters that network, so that nothing has to be started for a question.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use reqwest::{Certificate, Client};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::blueprint::{Address, Program};
use super::user::Credentials;

/// The pause between two questions.
const PERIOD: Duration = Duration::from_millis(20);
/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(1);
/// The program whose certificate is of an authority that the user knows.
const API_SERVER: &str = "kube-apiserver";

/// How one program is asked.
#[derive(Debug)]
pub enum Probe {
    /// By a GET that must be answered with success.
    Get {
        /// The address.
        url: String,
        /// The name that the certificate carries and the authority behind it, where it is served over TLS.
        identity: Option<(String, String)>,
    },
    /// By whether it listens: a certificate that it made for itself cannot be checked.
    Listens(u16),
}

impl Probe {
    /// The question to a program, where it says anything of its readiness.
    pub fn of(program: &Program, credentials: &Credentials) -> Option<Self> {
        let Address {
            is_secure,
            port,
            path,
        } = program.probe.as_ref()?;
        Some(match (is_secure, program.name.as_str()) {
            (false, _) => Self::Get {
                url: format!("http://127.0.0.1:{port}{path}"),
                identity: None,
            },
            (true, API_SERVER) => Self::Get {
                url: format!("https://{}:{port}{path}", credentials.tls_server_name),
                identity: Some((
                    credentials.tls_server_name.clone(),
                    credentials.certificate_authority.clone(),
                )),
            },
            (true, _) => Self::Listens(*port),
        })
    }

    async fn succeed(&self) -> Result<()> {
        match self {
            Self::Listens(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                until(async || TcpStream::connect(address).await.is_ok()).await;
            }
            Self::Get { url, identity } => {
                let client = client(identity.as_ref())?;
                until(async || {
                    let answer = client.get(url).send().await;
                    answer.is_ok_and(|answer| answer.status().is_success())
                })
                .await;
            }
        }
        Ok(())
    }
}

fn client(identity: Option<&(String, String)>) -> Result<Client> {
    let mut builder = Client::builder().timeout(QUESTION);
    if let Some((name, authority)) = identity {
        let authority = Certificate::from_pem(authority.as_bytes())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        builder = builder.tls_certs_only([authority]).resolve(name, address);
    }
    Ok(builder.build()?)
}

async fn until(ask: impl AsyncFn() -> bool) {
    while !ask().await {
        tokio::time::sleep(PERIOD).await;
    }
}

/// Returns when every probe has succeeded. When it is dropped, the questions end with the next answer.
pub async fn await_all(network: PathBuf, probes: Vec<Probe>) -> Result<()> {
    let (mut tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let result = enter(&network).and_then(|runtime| {
                runtime.block_on(async {
                    let all = futures::future::try_join_all(probes.iter().map(Probe::succeed));
                    tokio::select! {
                        result = all => result.map(drop),
                        () = tell.closed() => Ok(()),
                    }
                })
            });
            // Nobody waits any more.
            drop(tell.send(result));
        })?;
    told.await.context("the questions ended without an answer")?
}

/// Moves this thread into a network, for good.
fn enter(network: &PathBuf) -> Result<tokio::runtime::Runtime> {
    let file = File::open(network).with_context(|| format!("cannot open {}", network.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", network.display()))?;
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
