//! The operator as a process of its own, which can be told to die after any of its calls.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result};
use kube::client::ClientBuilder;
use skep_etcd::members::{GrpcMembers, ListedMember, Members, MembersError, Target};
use skep_etcd::observed::MemberStatus;
use skep_runtime::{install_crypto, shutdown, telemetry};
use tower::util::MapResponseLayer;

const ABORT_AFTER: &str = "SKEP_ABORT_AFTER";
const NAMESPACE: &str = "SKEP_NAMESPACE";

/// Counts calls that were answered, to Kubernetes and to etcd, and ends the process after one of them.
#[derive(Clone)]
struct Countdown(Arc<AtomicI64>);

impl Countdown {
    fn tick(&self) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }

    fn then<T>(&self, answer: T) -> T {
        self.tick();
        answer
    }
}

/// Etcd, with each answer counted.
struct Counted {
    members: GrpcMembers,
    left: Countdown,
}

impl Members for Counted {
    async fn status(&self, target: &Target) -> Result<MemberStatus, MembersError> {
        self.left.then(self.members.status(target).await)
    }

    async fn list(&self, target: &Target) -> Result<Vec<ListedMember>, MembersError> {
        self.left.then(self.members.list(target).await)
    }

    async fn add_learner(&self, target: &Target, peer_url: &str) -> Result<(), MembersError> {
        self.left.then(self.members.add_learner(target, peer_url).await)
    }

    async fn promote(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        self.left.then(self.members.promote(target, id).await)
    }

    async fn remove(&self, target: &Target, id: u64) -> Result<(), MembersError> {
        self.left.then(self.members.remove(target, id).await)
    }

    async fn move_leader(&self, target: &Target, to: u64) -> Result<(), MembersError> {
        self.left.then(self.members.move_leader(target, to).await)
    }
}

/// Is the operator, until it is ended or has made as many calls as `SKEP_ABORT_AFTER` says.
///
/// # Errors
/// When the cluster of `KUBECONFIG` cannot be reached.
pub async fn be() -> Result<()> {
    let _telemetry = telemetry::init("etcd", 1, telemetry::LogFormat::Text)?;
    install_crypto();
    let calls = std::env::var(ABORT_AFTER)
        .ok()
        .map(|text| text.parse::<i64>())
        .transpose()?;
    let left = Countdown(Arc::new(AtomicI64::new(calls.unwrap_or(i64::MAX))));
    let counted = left.clone();
    let client = ClientBuilder::try_from(kube::Config::infer().await?)?
        .with_layer(&MapResponseLayer::new(move |answer| counted.then(answer)))
        .build();
    let members = Counted {
        members: GrpcMembers,
        left,
    };
    let settings = skep_etcd::Settings {
        namespace: std::env::var(NAMESPACE).ok(),
        ..skep_etcd::Settings::default()
    };
    skep_etcd::run_with(client, members, settings, shutdown::on_signal()?).await;
    Ok(())
}

/// A running operator; it is killed when dropped.
pub struct Operator(Child);

impl Operator {
    /// Starts one for a namespace, which dies after so many calls where that is given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(kubeconfig: &Path, namespace: &str, log: &Path, calls: Option<u32>) -> Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("operator")
            .env("KUBECONFIG", kubeconfig)
            .env(NAMESPACE, namespace)
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(log);
        if let Some(calls) = calls {
            command.env(ABORT_AFTER, calls.to_string());
        }
        Ok(Self(command.spawn().context("cannot start the operator")?))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
