//! The operator as a process of its own, which can be told to die after any of its calls.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::{Body, ClientBuilder};
use nix::sys::signal::Signal;
use skep_etcd::members::{GrpcMembers, ListedMember, Members, MembersError, Pieces, Target};
use skep_etcd::observed::{Alarm, MemberStatus};
use skep_runtime::{install_crypto, shutdown, telemetry};
use skep_snapshots::Fingerprint;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use tower::layer::layer_fn;
use tower::util::MapResponseLayer;
use tower::{BoxError, Service};

use super::tally::{Counter, ENTRIES, Entry, Fatal, TALLY};

const NAMESPACE: &str = "SKEP_NAMESPACE";

/// The API server, with each call and answer counted.
#[derive(Clone)]
struct CountedApi<S> {
    inner: S,
    counter: Counter,
}

impl<S> Service<Request<Body>> for CountedApi<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_change = request.method() != Method::GET;
        self.counter.asked(is_change);
        let (answer, counter) = (self.inner.call(request), self.counter.clone());
        Box::pin(async move {
            let answer = answer.await;
            counter.answered(is_change);
            answer
        })
    }
}

/// An answer of the API server without the lines that are lost.
fn without_lost<B>(
    answer: Response<B>,
    counter: Counter,
) -> Response<impl http_body::Body<Data = Bytes, Error = BoxError>>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    answer.map(|body| {
        let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
        let lines = FramedRead::new(reader, LinesCodec::new());
        let kept = lines.try_filter(move |line| std::future::ready(!counter.loses(line)));
        StreamBody::new(
            kept.map_ok(|line| Frame::data(Bytes::from(line + "\n")))
                .map_err(BoxError::from),
        )
    })
}

/// Etcd, with each answer counted.
#[derive(Clone)]
struct Counted {
    members: GrpcMembers,
    counter: Counter,
}

impl Counted {
    async fn read<T>(&self, answer: impl Future<Output = T>) -> T {
        let answer = answer.await;
        self.counter.answered(false);
        answer
    }

    async fn change<T>(&self, answer: impl Future<Output = T>) -> T {
        self.counter.asked(true);
        let answer = answer.await;
        self.counter.answered(true);
        answer
    }
}

impl Members for Counted {
    async fn status(&self, target: &Target) -> Result<MemberStatus, MembersError> {
        self.read(self.members.status(target)).await
    }

    async fn list(&self, target: &Target) -> Result<Vec<ListedMember>, MembersError> {
        self.read(self.members.list(target)).await
    }

    async fn add_learner(&self, target: &Target, peer_url: &str) -> Result<(), MembersError> {
        self.change(self.members.add_learner(target, peer_url)).await
    }

    async fn promote(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        self.change(self.members.promote(target, id)).await
    }

    async fn remove(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        self.change(self.members.remove(target, id)).await
    }

    async fn move_leader(&self, target: &Target, to: u64) -> Result<(), MembersError> {
        self.change(self.members.move_leader(target, to)).await
    }

    async fn alarms(&self, target: &Target) -> Result<Vec<Alarm>, MembersError> {
        self.read(self.members.alarms(target)).await
    }

    async fn disarm(&self, target: &Target, alarm: Alarm) -> Result<(), MembersError> {
        self.change(self.members.disarm(target, alarm)).await
    }

    async fn compact(&self, target: &Target, revision: i64) -> Result<(), MembersError> {
        self.change(self.members.compact(target, revision)).await
    }

    async fn defragment(&self, target: &Target) -> Result<(), MembersError> {
        self.change(self.members.defragment(target)).await
    }

    async fn fingerprint(&self, target: &Target, revision: i64) -> Result<Fingerprint, MembersError> {
        self.read(self.members.fingerprint(target, revision)).await
    }

    async fn snapshot(&self, target: &Target) -> Result<Pieces, MembersError> {
        self.read(self.members.snapshot(target)).await
    }
}

/// Is the operator, until it is ended or told to die by the tally that `SKEP_TALLY` names.
///
/// # Errors
/// When the cluster of `KUBECONFIG` cannot be reached, or there is no tally.
pub async fn be() -> Result<()> {
    let _telemetry = telemetry::init("etcd", 1, telemetry::LogFormat::Text)?;
    install_crypto();
    let counter = Counter::open()?;
    let (called, heard) = (counter.clone(), counter.clone());
    let client = ClientBuilder::try_from(kube::Config::infer().await?)?
        .with_layer(&layer_fn(move |inner| CountedApi {
            inner,
            counter: called.clone(),
        }))
        .with_layer(&MapResponseLayer::new(move |answer| {
            without_lost(answer, heard.clone())
        }))
        .build();
    let members = Counted {
        members: GrpcMembers,
        counter,
    };
    let settings = skep_etcd::Settings {
        namespace: std::env::var(NAMESPACE).ok(),
        resync: Duration::from_secs(15),
        ..skep_etcd::Settings::default()
    };
    skep_etcd::run_with(client, members, settings, shutdown::on_signal()?).await;
    Ok(())
}

/// A running operator; it is killed when dropped.
pub struct Operator {
    child: Child,
    tally: File,
    is_armed: bool,
}

impl Operator {
    /// Starts one for a namespace; its log and its tally go into a directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        kubeconfig: &Path,
        namespace: &str,
        directory: &Path,
        death: Option<(Fatal, u64)>,
    ) -> Result<Self> {
        let log = directory.join("operator.log");
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let path = directory.join("operator.tally");
        // Another one's: it may still write into its own.
        let _ = std::fs::remove_file(&path);
        let tally = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)?;
        for entry in ENTRIES {
            entry.write(&tally, 0)?;
        }
        if let Some((fatal, number)) = death {
            fatal.last().write(&tally, number)?;
        }
        let child = Command::new(std::env::current_exe()?)
            .arg("operator")
            .env("KUBECONFIG", kubeconfig)
            .env(NAMESPACE, namespace)
            .env(TALLY, path)
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(log)
            .spawn()
            .context("cannot start the operator")?;
        Ok(Self {
            child,
            tally,
            is_armed: death.is_some(),
        })
    }

    /// How many of its calls of a kind were answered.
    ///
    /// # Errors
    /// When its tally cannot be read.
    pub fn answered(&self, fatal: Fatal) -> Result<u64> {
        Ok(fatal.counted().read(&self.tally)?)
    }

    /// How many calls it made that ask for a change.
    ///
    /// # Errors
    /// When its tally cannot be read.
    pub fn changes(&self) -> Result<u64> {
        Ok(Entry::Changes.read(&self.tally)?)
    }

    /// Lets it die after the answer to so many more calls of a kind.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn arm(&mut self, fatal: Fatal, more: u64) -> Result<()> {
        self.is_armed = true;
        let number = fatal.counted().read(&self.tally)? + more;
        Ok(fatal.last().write(&self.tally, number)?)
    }

    /// Lets it live.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn disarm(&mut self) -> Result<()> {
        Entry::LastCall.write(&self.tally, 0)?;
        Ok(Entry::LastChange.write(&self.tally, 0)?)
    }

    /// Has it never hear of so many percent of all changes.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn lose_events(&self, percent: u64) -> Result<()> {
        Ok(Entry::Lost.write(&self.tally, percent)?)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn end(&mut self) -> Result<Option<End>> {
        let is_ours = |status: &ExitStatus| status.signal() == Some(Signal::SIGABRT as i32);
        let status = self.child.try_wait()?;
        Ok(status.map(|status| {
            if self.is_armed && is_ours(&status) {
                End::AsTold
            } else {
                End::ByItself(status)
            }
        }))
    }
}

/// How an operator ended.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// After the call that it was told.
    AsTold,
    /// By itself, which is a fault.
    ByItself(ExitStatus),
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
