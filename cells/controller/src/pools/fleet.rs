//! The hub's objects from caches.

use futures::{Stream, stream};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource};
use skep_api::{Cell, CellPool, ClusterProfile, SizeClass, TenantCluster};
use skep_core::reasons;
use skep_runtime::controller::{Guarded, changing_cache};
use skep_view::Objects;

use super::NAME;

type Cache<K> = Store<Guarded<K>>;

/// Caches of everything that a plan is made from.
pub(super) struct Fleet {
    pools: Cache<CellPool>,
    cells: Cache<Cell>,
    profiles: Cache<ClusterProfile>,
    classes: Cache<SizeClass>,
    tenants: Cache<TenantCluster>,
}

impl Fleet {
    /// The caches, of which the pools' is given, and a stream that fills the others and tells of each change.
    pub fn new(client: &Client, pools: Cache<CellPool>) -> (Self, impl Stream<Item = ()> + Send + 'static) {
        let (cells, of_cells) = changing_cache(NAME, Api::all(client.clone()), |_| {});
        let (profiles, of_profiles) = changing_cache(NAME, Api::all(client.clone()), |_| {});
        let (classes, of_classes) = changing_cache(NAME, Api::all(client.clone()), |_| {});
        let (tenants, of_tenants) = changing_cache(NAME, Api::all(client.clone()), prune);
        let changes = stream::select(
            stream::select(of_cells, of_tenants),
            stream::select(of_profiles, of_classes),
        );
        let fleet = Self {
            pools,
            cells,
            profiles,
            classes,
            tenants,
        };
        (fleet, changes)
    }

    /// Awaits the first fill of all caches; false where the watches ended.
    pub async fn is_filled(&self) -> bool {
        let (cells, profiles, classes, tenants) = tokio::join!(
            self.cells.wait_until_ready(),
            self.profiles.wait_until_ready(),
            self.classes.wait_until_ready(),
            self.tenants.wait_until_ready()
        );
        cells.is_ok() && profiles.is_ok() && classes.is_ok() && tenants.is_ok()
    }

    /// Every cell that can be read.
    pub fn cells(&self) -> Vec<Cell> {
        readable(&self.cells)
    }

    /// Everything as it is now; what cannot be read is left out.
    pub fn objects(&self) -> Objects {
        Objects::new(
            readable(&self.pools),
            readable(&self.cells),
            readable(&self.profiles),
            readable(&self.classes),
            readable(&self.tenants),
        )
    }
}

/// Of a tenant: what it asks for, whether that is valid, its class and its cell.
fn prune(tenant: &mut Guarded<TenantCluster>) {
    if let Ok(tenant) = &mut tenant.0 {
        tenant.metadata.annotations = None;
        if let Some(status) = &mut tenant.status {
            status.conditions.retain(|told| told.type_ == reasons::VALID);
        }
    }
}

fn readable<K>(cache: &Cache<K>) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let all = cache.state();
    all.iter()
        .filter_map(|object| object.0.as_ref().ok().cloned())
        .collect()
}
