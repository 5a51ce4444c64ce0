//! The catalog from caches of cells, pools, classes and profiles, and which tenants their changes concern.
//!
//! A cell's check-ins come every half minute; they wake only tenants that wait for a cell.

use std::collections::{BTreeMap, BTreeSet};

use futures::Stream;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use skep_api::{Cell, CellPool, ClusterProfile, SizeClass, TenantCluster};
use skep_core::{Region, reasons};
use skep_runtime::conditions::is_true;
use skep_runtime::controller::{Guarded, changing_cache};
use skep_view::Objects;

use super::NAME;
use crate::validate::Catalog;

/// Caches of what the platform offers.
#[derive(Clone)]
pub struct Catalogs {
    profiles: Store<Guarded<ClusterProfile>>,
    classes: Store<Guarded<SizeClass>>,
    cells: Store<Guarded<Cell>>,
    pools: Store<Guarded<CellPool>>,
    front: Option<String>,
}

impl Catalogs {
    /// The caches, and a stream that fills them and yields each time one of them changed.
    pub fn new(client: &Client, front: Option<String>) -> (Self, impl Stream<Item = ()> + Send + 'static) {
        let (profiles, profile_changes) =
            changing_cache(NAME, Api::<Guarded<ClusterProfile>>::all(client.clone()), |_| {});
        let (classes, class_changes) =
            changing_cache(NAME, Api::<Guarded<SizeClass>>::all(client.clone()), |_| {});
        let (cells, cell_changes) = changing_cache(NAME, Api::<Guarded<Cell>>::all(client.clone()), |_| {});
        let (pools, pool_changes) =
            changing_cache(NAME, Api::<Guarded<CellPool>>::all(client.clone()), |_| {});
        let changes = futures::stream::select(
            futures::stream::select(profile_changes, class_changes),
            futures::stream::select(cell_changes, pool_changes),
        );
        (
            Self {
                profiles,
                classes,
                cells,
                pools,
                front,
            },
            changes,
        )
    }

    /// Whether every cache holds what the API held when its watch began.
    pub async fn is_filled(&self) -> bool {
        let (profiles, classes, cells, pools) = tokio::join!(
            self.profiles.wait_until_ready(),
            self.classes.wait_until_ready(),
            self.cells.wait_until_ready(),
            self.pools.wait_until_ready()
        );
        profiles.is_ok() && classes.is_ok() && cells.is_ok() && pools.is_ok()
    }

    /// What is on offer now; objects that cannot be read are left out.
    pub fn current(&self) -> Catalog {
        let mut cells: Vec<Cell> = readable(&self.cells).collect();
        cells.sort_by_key(ResourceExt::name_any);
        Catalog {
            profiles: readable(&self.profiles)
                .map(|p| (p.name_any(), p.spec))
                .collect::<BTreeMap<_, _>>(),
            classes: readable(&self.classes)
                .map(|c| (c.name_any(), c.spec))
                .collect::<BTreeMap<_, _>>(),
            cells,
            front: self.front.clone(),
        }
    }
}

impl Catalogs {
    /// Everything that a plan is made from, with the given tenants.
    pub fn objects(&self, tenants: &Store<Guarded<TenantCluster>>) -> Objects {
        Objects::new(
            readable(&self.pools).collect(),
            readable(&self.cells).collect(),
            readable(&self.profiles).collect(),
            readable(&self.classes).collect(),
            readable(tenants).collect(),
        )
    }

    /// Whether a region has a cell that belongs to a pool, so that the planner places its tenants.
    pub fn is_planned(&self, region: &Region) -> bool {
        let pools: BTreeSet<String> = readable(&self.pools)
            .filter(|pool| pool.spec.region == region.as_str())
            .map(|pool| pool.name_any())
            .collect();
        let in_pool = |cell: Cell| cell.spec.pool.is_some_and(|pool| pools.contains(&pool));
        readable(&self.cells)
            .filter(|cell| cell.spec.region == region.as_str())
            .any(in_pool)
    }
}

/// The tenants that a change of the catalog may concern: those without a cell, and those that were refused.
pub fn concerned(tenants: &Store<Guarded<TenantCluster>>) -> Vec<ObjectRef<TenantCluster>> {
    let tenants = tenants.state();
    let readable = tenants.iter().filter_map(|tenant| tenant.0.as_ref().ok());
    readable
        .filter(|tenant| is_stuck(tenant))
        .map(ObjectRef::from_obj)
        .collect()
}

fn is_stuck(tenant: &TenantCluster) -> bool {
    let Some(status) = &tenant.status else { return true };
    status.cell.is_none() || !is_true(&status.conditions, reasons::VALID)
}

fn readable<K>(store: &Store<Guarded<K>>) -> impl Iterator<Item = K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store
        .state()
        .into_iter()
        .filter_map(|object| object.0.as_ref().ok().cloned())
}
