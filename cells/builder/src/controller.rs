//! Wiring and the driver of one ordered cell: its token, its provider, its condition `Built`.
//!
//! Runs where the provider's machines or credentials are; the hub and other providers' cells are none of its business.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use skep_api::Cell;
use skep_core::{labels, reasons};
use skep_runtime::apply::has_finalizer;
use skep_runtime::controller::Settings as LoopSettings;
use skep_runtime::error::chain;
use skep_runtime::{
    Applier, ApplyError, CancellationToken, Categorised, ConditionStatus, Conditions, ControllerBuilder,
    Outcome, Reconcile, api_category,
};

use crate::order::order_of;
use crate::ticket::{Ticket, Tickets};
use crate::{CellProvider, Deletion, ProviderError, Registration, Stage, Token};

/// The controller's name: of its field manager, finalizer and metrics.
pub const NAME: &str = "cell-builder";
/// A cell that stands is looked at again at least this often; its check-ins come sooner.
const LOOK: Duration = Duration::from_mins(5);
/// The hub makes a token usable in a moment.
const TICKET_RETRY: Duration = Duration::from_secs(1);
/// While its tenants and records are removed.
const HELD_RETRY: Duration = Duration::from_secs(5);
/// An order that can never be met is looked at again only when it is changed.
const REFUSED_RETRY: Duration = Duration::from_mins(10);

/// How agents of new cells reach the hub.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Its API server, as a URL.
    pub server: String,
    /// The authority of its API server, as PEM.
    pub authority: String,
}

/// How the controller runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The value of `spec.provider` of the cells that it makes.
    pub provider: String,
    /// How their agents reach the hub.
    pub hub: Hub,
    /// Concurrency, timeout and backoff.
    pub controller: LoopSettings,
}

/// A reconcile of a cell that failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read at the hub failed.
    #[error("cannot read the {0} of the cell")]
    Observe(&'static str, #[source] kube::Error),
    /// A write at the hub failed.
    #[error("cannot write")]
    Apply(#[from] ApplyError),
    /// The provider did not do it.
    #[error("the provider does not do it")]
    Provider(#[from] ProviderError),
}

impl Categorised for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Observe(_, source) => api_category(source),
            Self::Apply(source) => source.category(),
            Self::Provider(ProviderError::Invalid { .. }) => "invalid",
            Self::Provider(ProviderError::Exhausted { .. }) => "exhausted",
            Self::Provider(ProviderError::Transient { .. }) => "transient",
            Self::Provider(ProviderError::Refused { .. }) => "refused",
        }
    }
}

/// Makes and removes the cells of one provider until `shutdown`.
pub async fn run(
    client: Client,
    provider: Arc<dyn CellProvider>,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let Settings {
        provider: name,
        hub,
        controller,
    } = settings;
    let builder = Builder {
        tickets: Tickets::new(client.clone()),
        applier: Applier::new(client.clone(), NAME),
        provider,
        name,
        hub,
    };
    ControllerBuilder::<Cell>::new(NAME, Api::all(client), watcher::Config::default())
        .run(controller, builder, shutdown)
        .await;
}

struct Builder {
    applier: Applier,
    tickets: Tickets,
    provider: Arc<dyn CellProvider>,
    name: String,
    hub: Hub,
}

impl Reconcile<Cell> for Builder {
    type Error = Error;

    async fn reconcile(&self, cell: &Cell) -> Result<Outcome, Error> {
        if cell.spec.provider.as_deref() != Some(&self.name) {
            return Ok(Outcome::skipped("it is not this provider's"));
        }
        let Some(token) = token_of(cell) else {
            return Ok(Outcome::skipped("it has no unique id yet"));
        };
        if cell.metadata.deletion_timestamp.is_some() {
            return self.remove(cell, &token).await;
        }
        self.applier.add_finalizer(cell, &labels::finalizer(NAME)).await?;
        let secret = match self.tickets.of(cell, &self.applier).await? {
            Ticket::Registered => None,
            Ticket::Ready(secret) => Some(secret),
            Ticket::Awaited => {
                let what = "the hub to make a registration token";
                self.tell(cell, Built::no(reasons::WAITING, what)).await?;
                return Ok(Outcome::waiting(what, TICKET_RETRY));
            }
        };
        let registration = Registration {
            hub: self.hub.server.clone(),
            authority: self.hub.authority.clone(),
            token: secret,
        };
        let created = match order_of(cell, token, registration) {
            Ok(order) => self.provider.create(&order).await,
            Err(invalid) => Err(invalid),
        };
        self.conclude(cell, created).await
    }
}

impl Builder {
    /// Tells what came of an order, and when to look again.
    async fn conclude(&self, cell: &Cell, created: Result<Stage, ProviderError>) -> Result<Outcome, Error> {
        match created {
            Ok(Stage::Standing(described)) => {
                let nodes: u32 = described.nodes.iter().map(|(_, count)| count).sum();
                let message = format!("{nodes} nodes in {} zones", described.nodes.len());
                self.tell(cell, Built::yes(message)).await?;
                Ok(Outcome::waiting("a change", LOOK))
            }
            Ok(Stage::Building { waits_for, after }) => {
                self.tell(cell, Built::no(reasons::BUILDING, &waits_for)).await?;
                Ok(Outcome::waiting(waits_for, after))
            }
            Err(error) => {
                let reason = match &error {
                    ProviderError::Invalid { .. } => reasons::INVALID_SPEC,
                    ProviderError::Exhausted { .. } => reasons::EXHAUSTED,
                    ProviderError::Transient { .. } => reasons::FAILED,
                    ProviderError::Refused { .. } => reasons::REFUSED,
                };
                self.tell(cell, Built::no(reason, &chain(&error))).await?;
                if error.is_transient() {
                    return Err(error.into());
                }
                tracing::warn!(
                    cell = cell.name_any(),
                    error = chain(&error),
                    "the order cannot be met"
                );
                Ok(Outcome::waiting("another order", REFUSED_RETRY))
            }
        }
    }

    /// Removes a cell once the hub has let it go: until then its tenants may still run there.
    async fn remove(&self, cell: &Cell, token: &Token) -> Result<Outcome, Error> {
        let own = labels::finalizer(NAME);
        if !has_finalizer(cell, &own) {
            return Ok(Outcome::skipped("it is not ours any more"));
        }
        if cell.finalizers().iter().any(|finalizer| *finalizer != own) {
            return Ok(Outcome::waiting("the hub to let it go", HELD_RETRY));
        }
        match self.provider.delete(token).await? {
            Deletion::Gone => {
                self.applier.remove_finalizer(cell, &own).await?;
                Ok(Outcome::Converged)
            }
            Deletion::Going { waits_for, after } => {
                self.tell(cell, Built::no(reasons::DELETING, &waits_for)).await?;
                Ok(Outcome::waiting(waits_for, after))
            }
        }
    }

    async fn tell(&self, cell: &Cell, built: Built) -> Result<(), Error> {
        let observed = cell.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let conditions = Conditions::new(observed, cell.metadata.generation, Timestamp::now())
            .set(reasons::BUILT, built.status, built.reason, built.message)
            .build();
        let part = StatusPart { conditions };
        self.applier.apply_status_part(cell, &part).await?;
        Ok(())
    }
}

/// This controller's part of a cell's status.
#[derive(Debug, Serialize)]
struct StatusPart {
    conditions: Vec<Condition>,
}

/// What the condition `Built` says.
struct Built {
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

impl Built {
    fn yes(message: String) -> Self {
        Self {
            status: ConditionStatus::True,
            reason: reasons::AS_DESIRED,
            message,
        }
    }

    fn no(reason: &'static str, message: &str) -> Self {
        Self {
            status: ConditionStatus::False,
            reason,
            message: message.to_owned(),
        }
    }
}

/// The token of a cell's order: its unique id, so that a later cell of the same name is another order.
fn token_of(cell: &Cell) -> Option<Token> {
    cell.uid()?.parse().ok()
}
