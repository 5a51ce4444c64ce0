//! Wiring and the driver of one pool: observe, plan, status, event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use skep_api::CellPool;
use skep_core::reasons;
use skep_planner::model::Name;
use skep_runtime::conditions::find;
use skep_runtime::controller::Settings as LoopSettings;
use skep_runtime::{Applier, CancellationToken, ControllerBuilder, Events, Outcome, Reconcile, StatusWrite};
use tokio::sync::Mutex;

use super::fleet::Fleet;
use super::status::{Outlook, build_status};
use super::{NAME, metrics};
use crate::error::Error;

/// Check-ins and tenants change all the time; a plan is made of all that came within so long.
const PAUSE: Duration = Duration::from_secs(2);
/// Reports grow old without a change.
const LOOK: Duration = Duration::from_mins(1);

/// Looks after pools until `shutdown`.
pub(crate) async fn run(
    client: Client,
    settings: LoopSettings,
    instance: Option<String>,
    shutdown: CancellationToken,
) {
    let builder =
        ControllerBuilder::<CellPool>::new(NAME, Api::all(client.clone()), watcher::Config::default());
    let pools = builder.store();
    let (fleet, changes) = Fleet::new(&client, pools.clone());
    let all = move |()| {
        let pools = pools.state();
        stream::iter(
            pools
                .into_iter()
                .map(|pool| ObjectRef::<CellPool>::new(&pool.name_any())),
        )
    };
    let reconciler = Pools {
        applier: Applier::new(client.clone(), NAME),
        events: Events::new(client, NAME, instance),
        fleet,
        last: Mutex::default(),
    };
    let settings = LoopSettings {
        pause: PAUSE,
        ..settings
    };
    builder
        .triggered_by(changes.flat_map(all))
        .run(settings, reconciler, shutdown)
        .await;
}

/// What one plan says of each pool, by name.
type Outlooks = Arc<BTreeMap<Name, Outlook>>;

struct Pools {
    applier: Applier,
    events: Events,
    fleet: Fleet,
    last: Mutex<Option<(Instant, Outlooks)>>,
}

impl Reconcile<CellPool> for Pools {
    type Error = Error;

    async fn reconcile(&self, pool: &CellPool) -> Result<Outcome, Error> {
        if !self.fleet.is_filled().await {
            return Err(Error::Fleet);
        }
        let outlooks = self.outlooks().await?;
        let unknown = Outlook::default();
        let outlook = outlooks.get(pool.name_any().as_str()).unwrap_or(&unknown);
        let status = build_status(pool, outlook, Timestamp::now());
        if self.applier.apply_status(pool, &status).await? == StatusWrite::Written {
            self.announce(pool, &status).await;
        }
        Ok(Outcome::waiting("changes of the fleet", LOOK))
    }
}

impl Pools {
    /// What one plan of the whole fleet says of each pool; the pools that ask within a pause share it.
    async fn outlooks(&self) -> Result<Outlooks, Error> {
        let mut last = self.last.lock().await;
        let recent = last.as_ref().filter(|(at, _)| at.elapsed() < PAUSE);
        if let Some((_, outlooks)) = recent {
            return Ok(outlooks.clone());
        }
        let (at, objects) = (Instant::now(), self.fleet.objects());
        let now = Timestamp::now().as_second();
        // It reckons, and others wait for this thread.
        let planned = tokio::task::spawn_blocking(move || Outlook::all(objects.view(now))).await;
        let outlooks = Arc::new(planned.map_err(Error::Plan)?);
        metrics::tell(outlooks.values());
        *last = Some((at, outlooks.clone()));
        Ok(outlooks)
    }

    /// Tells of cells that begin or cease to suffice.
    async fn announce(&self, pool: &CellPool, status: &skep_api::CellPoolStatus) {
        let before = pool
            .status
            .as_ref()
            .and_then(|status| find(&status.conditions, reasons::SUFFICIENT));
        let Some(after) = find(&status.conditions, reasons::SUFFICIENT) else {
            return;
        };
        let is_new =
            before.is_none_or(|before| (&before.status, &before.reason) != (&after.status, &after.reason));
        if is_new && (after.status != "True" || after.reason == reasons::FILLING) {
            self.events
                .warning(pool, &after.reason, "Plan", &after.message)
                .await;
        } else if is_new && before.is_some() {
            self.events
                .normal(pool, &after.reason, "Plan", &after.message)
                .await;
        }
    }
}
