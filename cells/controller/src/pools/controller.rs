//! Wiring and the driver of one pool: observe, plan, status, event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use skep_api::cell_pool::IdleCell;
use skep_api::{Cell, CellPool, DeploymentRecord};
use skep_core::{CellName, labels, reasons};
use skep_planner::model::Name;
use skep_runtime::conditions::{find, to_second};
use skep_runtime::controller::Settings as LoopSettings;
use skep_runtime::{Applier, CancellationToken, ControllerBuilder, Events, Outcome, Reconcile, StatusWrite};
use tokio::sync::Mutex;

use super::fleet::Fleet;
use super::orders::{RETIRING, is_over, is_settled, next_cell};
use super::status::{Outlook, build_status};
use super::{NAME, metrics};
use crate::error::Error;

/// Check-ins and tenants change all the time; a plan is made of all that came within so long.
const PAUSE: Duration = Duration::from_secs(2);
/// Reports grow old without a change.
const LOOK: Duration = Duration::from_mins(1);

/// While a cell is being given back.
const RETIRE_LOOK: Duration = Duration::from_secs(10);

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
        let cells = self.fleet.cells();
        self.order(pool, outlook.ordered, cells.clone()).await?;
        let retires = self.retire(pool, &status.idle, &cells).await?;
        let next = if retires { RETIRE_LOOK } else { LOOK };
        Ok(Outcome::waiting("changes of the fleet", next))
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

    /// Orders cells: as many as are wanted and allowed.
    async fn order(&self, pool: &CellPool, count: u32, mut cells: Vec<Cell>) -> Result<(), Error> {
        let api: Api<Cell> = Api::all(self.applier.client().clone());
        let params = PostParams {
            field_manager: Some(labels::field_manager(NAME)),
            ..PostParams::default()
        };
        for _ in 0..count {
            let next = match next_cell(pool, &cells) {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(()),
                Err(why) => {
                    let message = format!("a further cell is wanted: {why}");
                    self.events.warning(pool, "NotOrdered", "Order", &message).await;
                    return Ok(());
                }
            };
            let name = next.name_any();
            match api.create(&params, &next).await {
                Ok(made) => {
                    let message = format!(
                        "cell {name} is ordered of provider {}",
                        made.spec.provider.as_deref().unwrap_or("?")
                    );
                    self.events.normal(pool, "CellOrdered", "Order", &message).await;
                    cells.push(made);
                }
                // The cache has not seen yet what was ordered before.
                Err(kube::Error::Api(told)) if told.is_already_exists() => return Ok(()),
                Err(source) => return Err(Error::Order("order", name, source)),
            }
        }
        Ok(())
    }

    /// Closes cells that held nobody for long, and gives back those that were closed and still do; says whether any is on its way.
    async fn retire(&self, pool: &CellPool, idle: &[IdleCell], cells: &[Cell]) -> Result<bool, Error> {
        let now = Timestamp::now();
        let provider = pool.spec.order.as_ref().map(|order| &order.provider);
        let pool_name = Some(pool.name_any());
        let is_ours = |cell: &&Cell| {
            cell.spec.pool == pool_name
                && cell.spec.provider.is_some()
                && cell.spec.provider.as_ref() == provider
                && cell.metadata.deletion_timestamp.is_none()
        };
        let mut any = false;
        for cell in cells.iter().filter(is_ours) {
            let name = cell.name_any();
            if let Some(closed) = cell.annotations().get(RETIRING) {
                any = true;
                if is_settled(closed, now) {
                    self.give_back(pool, cell).await?;
                }
            } else if let Some(idle) = idle.iter().find(|idle| idle.name == name) {
                any = true;
                if is_over(pool, idle, now) {
                    self.close(cell, Some(now)).await?;
                    let message = format!(
                        "cell {name} holds no tenant since {} and takes no more",
                        idle.since.0
                    );
                    self.events.normal(pool, "CellClosed", "Retire", &message).await;
                }
            }
        }
        Ok(any)
    }

    /// Deletes exactly the closed cell that was looked at, or opens it again where a tenant came in the last moment.
    async fn give_back(&self, pool: &CellPool, cell: &Cell) -> Result<(), Error> {
        let name = cell.name_any();
        let Ok(parsed) = name.parse::<CellName>() else {
            return Ok(());
        };
        let namespace = parsed.namespace();
        let records: Api<DeploymentRecord> = Api::namespaced(self.applier.client().clone(), &namespace);
        let first = records.list_metadata(&ListParams::default().limit(1)).await;
        let first = first.map_err(|source| Error::Observe { namespace, source })?;
        if !first.items.is_empty() {
            return self.close(cell, None).await;
        }
        let exactly = DeleteParams::default().preconditions(Preconditions {
            uid: cell.uid(),
            resource_version: cell.resource_version(),
        });
        let api: Api<Cell> = Api::all(self.applier.client().clone());
        match api.delete(&name, &exactly).await {
            Ok(_) => {
                let message = format!("cell {name} is given back: it holds no tenant");
                self.events.normal(pool, "CellRetired", "Retire", &message).await;
                Ok(())
            }
            // It changed meanwhile, and is looked at again.
            Err(kube::Error::Api(told)) if told.is_not_found() || told.is_conflict() => Ok(()),
            Err(source) => Err(Error::Order("give back", name, source)),
        }
    }

    /// Closes a cell to be given back, or opens it again; only as it was looked at.
    async fn close(&self, cell: &Cell, at: Option<Timestamp>) -> Result<(), Error> {
        let name = cell.name_any();
        let body = json!({
            "metadata": {
                "uid": cell.uid(),
                "resourceVersion": cell.resource_version(),
                "annotations": {RETIRING: at.map(|at| to_second(at).to_string())},
            },
            "spec": {"cordoned": at.is_some()},
        });
        let api: Api<Cell> = Api::all(self.applier.client().clone());
        let params = PatchParams {
            field_manager: Some(labels::field_manager(NAME)),
            ..PatchParams::default()
        };
        match api.patch(&name, &params, &Patch::Merge(body)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(told)) if told.is_not_found() || told.is_conflict() => Ok(()),
            Err(source) => Err(Error::Order("close or open", name, source)),
        }
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
