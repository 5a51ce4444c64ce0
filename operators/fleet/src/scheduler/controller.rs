//! Wiring and the driver of one tenant: observe, decide, apply, status.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use skep_api::{DeploymentRecord, TenantCluster};
use skep_core::{CellName, Cpid, ProjectName, labels, reasons};
use skep_runtime::conditions::is_true;
use skep_runtime::controller::Guarded;
use skep_runtime::{
    Applier, CancellationToken, ControllerBuilder, Events, Outcome, Reconcile, StatusWrite,
    controller::Settings as LoopSettings,
};

use super::build::is_as_built;
use super::catalog::{Catalogs, concerned};
use super::decide::{Decision, Placement, decide, identity};
use super::error::Error;
use super::observe::{fetch_record, fetch_tenant};
use super::planner::{Advice, Planner};
use super::status::{Finding, build_status, is_converged};
use super::{NAME, RECORD_FINALIZER, janitor};
use crate::validate::{Catalog, validate};

/// A tenant that waits for a cell is looked at again at least this often; a cell's change comes sooner.
const NO_CELL_RETRY: Duration = Duration::from_mins(1);
/// A tenant whose cell is at work is looked at again at least this often; a report comes sooner.
const CELL_RETRY: Duration = Duration::from_mins(5);
/// After the hub's own finalizer was removed, the record is gone in a moment.
const GONE_RETRY: Duration = Duration::from_secs(1);

/// What a cell says within so long is told in one go.
const REPORT_PAUSE: Duration = Duration::from_millis(300);

/// How the scheduler runs.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Concurrency, timeout and backoff.
    pub controller: LoopSettings,
    /// The name of this pod or host in events.
    pub instance: Option<String>,
    /// The one way in for tenants of all cells, `host:port`; each cell's own gateway where there is none.
    pub front: Option<String>,
}

/// Runs the scheduler and its janitor until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let (catalogs, changes) = Catalogs::new(&client, settings.front.clone());
    let builder =
        ControllerBuilder::<TenantCluster>::new(NAME, Api::all(client.clone()), watcher::Config::default());
    let tenants = builder.store();
    let reconciler = Scheduler {
        applier: Applier::new(client.clone(), NAME),
        events: Events::new(client.clone(), NAME, settings.instance),
        client: client.clone(),
        catalogs,
        tenants: tenants.clone(),
        planner: Planner::default(),
    };
    let controller = builder
        .watches::<DeploymentRecord, _, _>(Api::all(client.clone()), watcher::Config::default(), tenant_of)
        .triggered_by(changes.flat_map(move |()| stream::iter(concerned(&tenants))));
    // The first look at a tenant decides its place; the others hand on what its cell says.
    let unhurried = LoopSettings {
        pause: REPORT_PAUSE,
        ..settings.controller.clone()
    };
    tokio::join!(
        controller.run(unhurried, reconciler, shutdown.clone()),
        janitor::run(client, settings.controller, shutdown)
    );
    Ok(())
}

/// The tenant of a record, by its labels: only metadata is watched.
fn tenant_of(record: &PartialObjectMeta<DeploymentRecord>) -> Option<ObjectRef<TenantCluster>> {
    let project: ProjectName = record.labels().get(labels::PROJECT)?.parse().ok()?;
    let name = record.labels().get(labels::CLUSTER)?;
    Some(ObjectRef::new(name).within(&project.namespace()))
}

struct Scheduler {
    client: Client,
    applier: Applier,
    events: Events,
    catalogs: Catalogs,
    tenants: Store<Guarded<TenantCluster>>,
    planner: Planner,
}

impl Reconcile<TenantCluster> for Scheduler {
    type Error = Error;

    async fn reconcile(&self, observed: &TenantCluster) -> Result<Outcome, Error> {
        if !self.catalogs.is_filled().await {
            return Err(Error::Catalog);
        }
        // A cache may lag behind this controller's own write of the cell: ask the API before choosing one,
        // or before concluding that there is nothing to remove.
        let fresh;
        let tenant = if has_cell(observed) {
            observed
        } else {
            match fetch_tenant(&self.client, observed).await? {
                Some(tenant) => fresh = tenant,
                None => return Ok(Outcome::skipped("it is gone")),
            }
            &fresh
        };
        let cpid = identity(tenant)?;
        if tenant.metadata.deletion_timestamp.is_some() {
            return self.remove(tenant, &cpid).await;
        }
        let catalog = self.catalogs.current();
        let advice = self.advice(tenant, &catalog).await?;
        match decide(tenant, &catalog, advice.as_ref())? {
            Decision::Invalid(errors) => {
                let told = errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ");
                self.warn(
                    tenant,
                    &cpid,
                    &Finding::Invalid(&errors),
                    reasons::INVALID_SPEC,
                    &told,
                )
                .await?;
                Ok(Outcome::skipped(told))
            }
            Decision::NoCell { region, why } => {
                let why = format!("no cell of region {region} can take the cluster: {why}");
                self.warn(
                    tenant,
                    &cpid,
                    &Finding::Unplaced(why.clone()),
                    reasons::NO_CELL,
                    &why,
                )
                .await?;
                Ok(Outcome::waiting(why, NO_CELL_RETRY))
            }
            Decision::CellGone(cell) => {
                let why = format!("cell {cell} is not registered");
                self.warn(tenant, &cpid, &Finding::CellGone(&cell), reasons::NO_CELL, &why)
                    .await?;
                Ok(Outcome::waiting(why, NO_CELL_RETRY))
            }
            Decision::Placed(placement) => self.place(tenant, &cpid, &placement).await,
        }
    }
}

impl Scheduler {
    /// What the planner says to a tenant without a cell, where its region has cells of pools.
    async fn advice(&self, tenant: &TenantCluster, catalog: &Catalog) -> Result<Option<Advice>, Error> {
        if has_cell(tenant) {
            return Ok(None);
        }
        // One that is refused by its fields waits for no cell.
        let Ok(resolved) = validate(&tenant.spec, catalog, None) else {
            return Ok(None);
        };
        if !self.catalogs.is_planned(&resolved.region) {
            return Ok(None);
        }
        let objects = || self.catalogs.objects(&self.tenants);
        let now = Timestamp::now().as_second();
        self.planner.ask(tenant, objects, now).await.map(Some)
    }

    /// Latches the cell, then writes the record, then says what the cell says.
    async fn place(
        &self,
        tenant: &TenantCluster,
        cpid: &Cpid,
        placement: &Placement,
    ) -> Result<Outcome, Error> {
        self.applier
            .add_finalizer(tenant, &labels::finalizer(NAME))
            .await?;
        if !has_cell(tenant) {
            self.tell(tenant, cpid, &Finding::Placed(placement, None)).await?;
            let note = format!("placed in cell {}", placement.cell);
            self.events
                .normal(tenant, reasons::SCHEDULED, "Schedule", &note)
                .await;
        }
        let record = match fetch_record(&self.client, &placement.cell, cpid).await? {
            // Every report of the cell brings the tenant here, and applying a record costs more than reading it.
            Some(record) if is_as_built(&record, &placement.record) => record,
            _ => self.applier.apply(&placement.record).await?,
        };
        self.tell(tenant, cpid, &Finding::Placed(placement, Some(&record)))
            .await?;
        if record.metadata.deletion_timestamp.is_some() {
            // Somebody deleted the record alone: the cell tears down, and a new record starts over.
            self.release(&record).await?;
            return Ok(Outcome::waiting("the record to be removed", GONE_RETRY));
        }
        if is_converged(&record) {
            return Ok(Outcome::Converged);
        }
        Ok(Outcome::waiting(format!("cell {}", placement.cell), CELL_RETRY))
    }

    /// Removes the record, waits for the cell, and lets the tenant go.
    async fn remove(&self, tenant: &TenantCluster, cpid: &Cpid) -> Result<Outcome, Error> {
        let finalizer = labels::finalizer(NAME);
        if !skep_runtime::apply::has_finalizer(tenant, &finalizer) {
            return Ok(Outcome::skipped("it is not ours any more"));
        }
        let cell: Option<CellName> = tenant
            .status
            .as_ref()
            .and_then(|status| status.cell.as_ref()?.parse().ok());
        let record = match &cell {
            Some(cell) => fetch_record(&self.client, cell, cpid).await?,
            None => None,
        };
        let (Some(cell), Some(record)) = (cell, record) else {
            self.applier.remove_finalizer(tenant, &finalizer).await?;
            return Ok(Outcome::Converged);
        };
        if tenant.spec.deletion_protection && record.metadata.deletion_timestamp.is_none() {
            let why = "spec.deletionProtection is true";
            self.warn(tenant, cpid, &Finding::Protected, reasons::BLOCKED, why)
                .await?;
            return Ok(Outcome::skipped(why));
        }
        self.applier.delete_observed(&record).await?;
        if self.release(&record).await? {
            return Ok(Outcome::waiting("the record to be removed", GONE_RETRY));
        }
        let what = format!("cell {cell} removes the control plane {cpid}");
        self.tell(tenant, cpid, &Finding::Deleting(what.clone())).await?;
        Ok(Outcome::waiting(what, CELL_RETRY))
    }

    /// Takes the hub's finalizer off a record whose cell says that nothing is left.
    async fn release(&self, record: &DeploymentRecord) -> Result<bool, Error> {
        let told = record
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.conditions);
        if record.metadata.deletion_timestamp.is_none() || !is_true(told, reasons::DELETED) {
            return Ok(false);
        }
        self.applier.remove_finalizer(record, RECORD_FINALIZER).await?;
        Ok(true)
    }

    async fn tell(
        &self,
        tenant: &TenantCluster,
        cpid: &Cpid,
        finding: &Finding<'_>,
    ) -> Result<StatusWrite, Error> {
        let status = build_status(tenant, cpid, finding, Timestamp::now());
        Ok(self.applier.apply_status(tenant, &status).await?)
    }

    async fn warn(
        &self,
        tenant: &TenantCluster,
        cpid: &Cpid,
        finding: &Finding<'_>,
        reason: &str,
        note: &str,
    ) -> Result<(), Error> {
        if self.tell(tenant, cpid, finding).await? == StatusWrite::Written {
            self.events.warning(tenant, reason, "Schedule", note).await;
        }
        Ok(())
    }
}

fn has_cell(tenant: &TenantCluster) -> bool {
    tenant.status.as_ref().is_some_and(|status| status.cell.is_some())
}
