//! The cell's agent: it pulls the cell's records and certificate requests from the hub, makes them true in
//! the cell and reports what stands.
//!
//! The hub never opens a connection into a cell; all of them start here. At the hub the agent writes statuses
//! and nothing else, and in the cell it deletes only what a record says must go.

mod agent;
mod capacity;
mod check_in;
pub mod hub;
mod identity;
mod local;
mod metrics;
mod mirror;
mod queue;
pub mod records;
pub mod requests;
mod work;

use std::sync::Arc;

use kube::Client;
use skep_core::CellName;
use skep_runtime::backoff::Failures;
use skep_runtime::{Applier, CancellationToken, Events};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use identity::directory::{DirectoryError, HubDirectory};
pub use identity::{HubAccess, IdentityError};

use crate::agent::Agent;
use crate::hub::Hub;
use crate::hub::kubernetes::KubernetesHub;
use crate::identity::Identity;
use crate::local::{Local, Watches};
use crate::mirror::Mirror;
use crate::queue::Queue;

/// The controller's name: of its field manager, role and metrics.
pub const NAME: &str = "agent";
/// Annotation of a control plane: the revision of the record that it was written from.
pub const REVISION: &str = "skep.dev/revision";
/// Annotation of a request's copy in the cell: the unique id of the hub's request.
pub const ORIGIN: &str = "skep.dev/origin-uid";
/// The value of the standard label, in which no slash is allowed.
const MANAGED_BY: &str = "skep.dev.agent";
/// Reconciles at a time; each holds at most one request to the cell and one to the hub.
const WORKERS: usize = 8;

/// How the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the cell.
    pub cell: CellName,
    /// The version that it tells the hub.
    pub version: String,
    /// The name of this pod or host in events.
    pub instance: Option<String>,
}

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The hub's configuration is not usable.
    #[error("the hub's configuration is not usable")]
    Hub(#[source] IdentityError),
    /// A part of it ended, which none does by itself.
    #[error("the part {0:?} of the agent ended")]
    Ended(&'static str, #[source] Option<tokio::task::JoinError>),
}

/// Runs the agent until `shutdown`.
///
/// `client` is the cell's, with the agent's own account. `hub` is where the hub is; its credentials or token only
/// ask for the agent's certificate. While the hub is down the agent tries on and loses nothing.
pub async fn run(
    client: Client,
    hub: HubAccess,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let identity = Identity::new(client.clone(), hub, &settings).map_err(AgentError::Hub)?;
    let running = async {
        let certified = identity.obtain().await;
        let renew_at = certified.renew_at();
        let (clients, current) = watch::channel(certified.client);
        let hub = Arc::new(KubernetesHub::new(current, settings.cell.clone()));
        tokio::select! {
            ended = run_with(client, hub, settings) => ended,
            () = identity.keep(renew_at, &clients) => Err(AgentError::Ended("identity", None)),
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {
            tracing::info!("agent ended");
            Ok(())
        }
        ended = running => ended,
    }
}

/// Runs the agent on any hub, until a part of it ends or it is dropped.
pub async fn run_with(client: Client, hub: Arc<dyn Hub>, settings: Settings) -> Result<(), AgentError> {
    let Settings {
        cell,
        version,
        instance,
    } = settings;
    let (local, watches) = Local::new(client.clone(), cell.clone());
    let (mirror, queue) = (Arc::new(Mirror::default()), Arc::new(Queue::default()));
    let agent = Arc::new(Agent {
        applier: Applier::new(client.clone(), NAME),
        events: Events::new(client.clone(), NAME, instance),
        cell,
        hub,
        mirror,
        local,
    });
    // Dropping the set ends every part of it.
    let mut parts = JoinSet::new();
    parts.spawn(part("watches", fill(agent.clone(), queue.clone(), watches)));
    agent.local.filled().await;
    tracing::info!(cell = %agent.cell, tenants = agent.local.tenants(), "agent starts");
    parts.spawn(part("check-in", {
        let agent = agent.clone();
        async move { check_in::check_in(agent.hub.as_ref(), &agent.local, &client, &version).await }
    }));
    parts.spawn(part("pull", {
        let (agent, queue) = (agent.clone(), queue.clone());
        async move { work::pull(&agent, &queue).await }
    }));
    parts.spawn(part("orphans", {
        let agent = agent.clone();
        async move { work::watch_orphans(&agent).await }
    }));
    let failures = Arc::new(Failures::default());
    for _ in 0..WORKERS {
        let (agent, queue, failures) = (agent.clone(), queue.clone(), failures.clone());
        parts.spawn(part("worker", async move {
            work::work(&agent, &queue, &failures).await;
        }));
    }
    match parts.join_next().await {
        Some(Err(error)) => Err(AgentError::Ended("unknown", Some(error))),
        Some(Ok(name)) => Err(AgentError::Ended(name, None)),
        None => Ok(()),
    }
}

async fn fill(agent: Arc<Agent>, queue: Arc<Queue>, watches: Watches) {
    Box::pin(watches.run(&agent.mirror, &queue)).await;
}

async fn part(name: &'static str, work: impl Future<Output = ()>) -> &'static str {
    work.await;
    name
}
