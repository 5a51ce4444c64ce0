//! The operator as a process of its own, which can be told to die after any of its calls.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::TryStreamExt;
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
use tower::BoxError;
use tower::util::{MapRequestLayer, MapResponseLayer};

const TALLY: &str = "SKEP_TALLY";
const NAMESPACE: &str = "SKEP_NAMESPACE";

/// Some numbers in a file that the operator's process and ours share.
#[derive(Debug, Clone, Copy)]
enum Entry {
    /// How many calls were answered, by Kubernetes and by etcd.
    Calls,
    /// How many calls asked for a change.
    Changes,
    /// The call after whose answer the operator dies; 0 for none.
    Last,
    /// How many percent of all changes the operator never hears of.
    Lost,
}

const ENTRIES: [Entry; 4] = [Entry::Calls, Entry::Changes, Entry::Last, Entry::Lost];

impl Entry {
    fn read(self, file: &File) -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 8 * self as u64)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(self, file: &File, number: u64) -> std::io::Result<()> {
        file.write_all_at(&number.to_le_bytes(), 8 * self as u64)
    }
}

/// Counts the calls of this process, and ends it after the one that it is told.
#[derive(Clone)]
struct Counter(Arc<Mutex<File>>);

impl Counter {
    fn open() -> Result<Self> {
        let path = std::env::var_os(TALLY).with_context(|| format!("{TALLY} names no file"))?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    fn count(&self, entry: Entry) {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = entry.read(&file).and_then(|count| {
            entry.write(&file, count + 1)?;
            Ok((count + 1, Entry::Last.read(&file)?))
        });
        match counted {
            Ok((count, last)) if matches!(entry, Entry::Calls) && last > 0 && count >= last => {
                std::process::abort()
            }
            Ok(_) => {}
            // Whoever reads the tally must not believe it.
            Err(error) => {
                eprintln!("cannot count a call: {error}");
                std::process::exit(1);
            }
        }
    }

    fn asked(&self, request: Request<Body>) -> Request<Body> {
        if request.method() != Method::GET {
            self.count(Entry::Changes);
        }
        request
    }

    /// Whether what a watch tells is to be lost; bookmarks and errors never are.
    fn loses(&self, line: &str) -> bool {
        const TOLD: [&str; 3] = ["ADDED", "MODIFIED", "DELETED"];
        let is_of = |kind: &str| line.starts_with(&format!("{{\"type\":\"{kind}\""));
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = Entry::Lost.read(&file).unwrap_or(0);
        TOLD.into_iter().any(is_of) && rand::random_range(0..100) < percent
    }

    fn answered<T>(&self, answer: T) -> T {
        self.count(Entry::Calls);
        answer
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

impl Members for Counted {
    async fn status(&self, target: &Target) -> Result<MemberStatus, MembersError> {
        self.counter.answered(self.members.status(target).await)
    }

    async fn list(&self, target: &Target) -> Result<Vec<ListedMember>, MembersError> {
        self.counter.answered(self.members.list(target).await)
    }

    async fn add_learner(&self, target: &Target, peer_url: &str) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter
            .answered(self.members.add_learner(target, peer_url).await)
    }

    async fn promote(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter.answered(self.members.promote(target, id).await)
    }

    async fn remove(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter.answered(self.members.remove(target, id).await)
    }

    async fn move_leader(&self, target: &Target, to: u64) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter.answered(self.members.move_leader(target, to).await)
    }

    async fn alarms(&self, target: &Target) -> Result<Vec<Alarm>, MembersError> {
        self.counter.answered(self.members.alarms(target).await)
    }

    async fn disarm(&self, target: &Target, alarm: Alarm) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter.answered(self.members.disarm(target, alarm).await)
    }

    async fn compact(&self, target: &Target, revision: i64) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter
            .answered(self.members.compact(target, revision).await)
    }

    async fn defragment(&self, target: &Target) -> Result<(), MembersError> {
        self.counter.count(Entry::Changes);
        self.counter.answered(self.members.defragment(target).await)
    }

    async fn fingerprint(&self, target: &Target, revision: i64) -> Result<Fingerprint, MembersError> {
        self.counter
            .answered(self.members.fingerprint(target, revision).await)
    }

    async fn snapshot(&self, target: &Target) -> Result<Pieces, MembersError> {
        self.counter.answered(self.members.snapshot(target).await)
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
    let (asked, answered, heard) = (counter.clone(), counter.clone(), counter.clone());
    let client = ClientBuilder::try_from(kube::Config::infer().await?)?
        .with_layer(&MapRequestLayer::new(move |request| asked.asked(request)))
        .with_layer(&MapResponseLayer::new(move |answer| answered.answered(answer)))
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
    pub fn start(kubeconfig: &Path, namespace: &str, directory: &Path, last: Option<u64>) -> Result<Self> {
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
        Entry::Last.write(&tally, last.unwrap_or(0))?;
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
            is_armed: last.is_some(),
        })
    }

    /// How many of its calls were answered.
    ///
    /// # Errors
    /// When its tally cannot be read.
    pub fn calls(&self) -> Result<u64> {
        Ok(Entry::Calls.read(&self.tally)?)
    }

    /// How many calls it made that ask for a change.
    ///
    /// # Errors
    /// When its tally cannot be read.
    pub fn changes(&self) -> Result<u64> {
        Ok(Entry::Changes.read(&self.tally)?)
    }

    /// Lets it die after so many more calls.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn arm(&mut self, calls: u64) -> Result<()> {
        self.is_armed = true;
        Ok(Entry::Last.write(&self.tally, self.calls()? + calls)?)
    }

    /// Lets it live.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn disarm(&mut self) -> Result<()> {
        Ok(Entry::Last.write(&self.tally, 0)?)
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
