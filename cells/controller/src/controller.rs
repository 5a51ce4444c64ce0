//! Wiring and the driver of one cell: observe, validate, build, apply, status.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use skep_api::{Cell, ClusterRegistration, DeploymentRecord};
use skep_core::{CellName, labels};
use skep_runtime::apply::has_finalizer;
use skep_runtime::controller::{Settings as LoopSettings, changed};
use skep_runtime::{Applier, CancellationToken, ControllerBuilder, Outcome, Reconcile};

use crate::NAME;
use crate::build::build_children;
use crate::error::Error;
use crate::pools;
use crate::status::{Finding, PATIENCE, build_status, patience_left};
use crate::validate::validate;

/// A cell that is being deleted and holds tenants is looked at again after this.
const HELD_RETRY: Duration = Duration::from_secs(30);
/// A moment more than a check-in counts, so that the look comes after its end.
const AFTER: Duration = Duration::from_secs(1);

/// How the controller runs.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Concurrency, timeout and backoff.
    pub controller: LoopSettings,
    /// The name of this pod or host in events.
    pub instance: Option<String>,
}

/// Looks after cells and pools until `shutdown`.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), Error> {
    let reconciler = Cells {
        applier: Applier::new(client.clone(), NAME),
    };
    let cells = ControllerBuilder::<Cell>::new(NAME, Api::all(client.clone()), watcher::Config::default());
    let cells = cells.triggered_by(changed(
        NAME,
        Api::all(client.clone()),
        |found: &ClusterRegistration| ObjectRef::new(&found.spec.cell),
    ));
    let looks = settings.controller.clone();
    tokio::join!(
        cells.run(settings.controller, reconciler, shutdown.clone()),
        pools::run(client, looks, settings.instance, shutdown)
    );
    Ok(())
}

struct Cells {
    applier: Applier,
}

impl Reconcile<Cell> for Cells {
    type Error = Error;

    async fn reconcile(&self, cell: &Cell) -> Result<Outcome, Error> {
        let name: CellName = cell.name_any().parse().map_err(Error::Name)?;
        if cell.metadata.deletion_timestamp.is_some() {
            return self.remove(cell, &name).await;
        }
        self.applier.add_finalizer(cell, &labels::finalizer(NAME)).await?;
        if let Err(errors) = validate(&cell.spec) {
            self.tell(cell, &Finding::Invalid(&errors)).await?;
            return Ok(Outcome::skipped("its spec is not valid"));
        }
        let children = build_children(&name, &self.standing(&name).await?);
        self.applier.apply(&children.namespace).await?;
        self.applier.apply(&children.binding).await?;
        self.applier.apply(&children.check_in_role).await?;
        self.applier.apply(&children.check_in_binding).await?;
        self.tell(cell, &Finding::Valid).await?;
        let next = patience_left(cell, Timestamp::now()).unwrap_or(PATIENCE);
        Ok(Outcome::waiting("the next check-in", next + AFTER))
    }
}

impl Cells {
    async fn tell(&self, cell: &Cell, finding: &Finding<'_>) -> Result<(), Error> {
        let part = build_status(cell, finding, Timestamp::now());
        Ok(self.applier.apply_status_part(cell, &part).await.map(drop)?)
    }

    /// Lets a cell go once it holds no records: removing its namespace would remove its tenants.
    async fn remove(&self, cell: &Cell, name: &CellName) -> Result<Outcome, Error> {
        let finalizer = labels::finalizer(NAME);
        if !has_finalizer(cell, &finalizer) {
            return Ok(Outcome::skipped("it is not ours any more"));
        }
        if self.holds_records(name).await? {
            self.tell(cell, &Finding::Held).await?;
            return Ok(Outcome::waiting("its tenants to be moved or deleted", HELD_RETRY));
        }
        let client = self.applier.client();
        let user = name.agent_user();
        self.applier
            .delete(&Api::<ClusterRoleBinding>::all(client.clone()), &user, None)
            .await?;
        self.applier
            .delete(&Api::<ClusterRole>::all(client.clone()), &user, None)
            .await?;
        self.applier
            .delete(&Api::<Namespace>::all(client.clone()), &name.namespace(), None)
            .await?;
        self.applier.remove_finalizer(cell, &finalizer).await?;
        Ok(Outcome::Converged)
    }

    /// The names of the registrations whose agents may speak for the cell, read afresh: a cache may lag behind a revocation.
    async fn standing(&self, name: &CellName) -> Result<Vec<String>, Error> {
        let all: Api<ClusterRegistration> = Api::all(self.applier.client().clone());
        let only = ListParams::default().fields(&format!("spec.cell={name}"));
        let found = all.list(&only).await.map_err(Error::Registrations)?;
        let stands = |found: &ClusterRegistration| {
            !found.spec.revoked
                && found.metadata.deletion_timestamp.is_none()
                && found.spec.cell == name.as_str()
        };
        Ok(found
            .items
            .iter()
            .filter(|found| stands(found))
            .map(ResourceExt::name_any)
            .collect())
    }

    async fn holds_records(&self, name: &CellName) -> Result<bool, Error> {
        let namespace = name.namespace();
        let records: Api<DeploymentRecord> = Api::namespaced(self.applier.client().clone(), &namespace);
        let first = records.list_metadata(&ListParams::default().limit(1)).await;
        let first = first.map_err(|source| Error::Observe { namespace, source })?;
        Ok(!first.items.is_empty())
    }
}
