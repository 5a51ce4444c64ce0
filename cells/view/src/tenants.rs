//! Tenants: what each asks for, and where it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use kube::ResourceExt;
use skep_api::tenant_cluster::ClassChoice;
use skep_api::{Availability, TenantCluster};
use skep_core::reasons;
use skep_planner::document::Fault;
use skep_planner::model::{
    Availability as Spread, Band, Choice, Class, Name, Place, Requirement, Seconds, Spot, Tenant, Watch,
};
use skep_runtime::conditions::find;

use crate::Objects;
use crate::classes::Sizes;

/// The zone of a tenant whose zone is not known: it weighs on all zones of its cell.
const SOME_ZONE: u8 = u8::MAX;

/// The project of a tenant; none outside of any, where it is nobody's.
fn project(tenant: &TenantCluster) -> Option<String> {
    tenant.namespace()?.strip_prefix("project-").map(str::to_owned)
}

/// Whether a tenant has a cell or may get one: what is refused by its fields, or goes, waits for none.
fn is_to_be_planned(tenant: &TenantCluster) -> bool {
    let status = tenant.status.as_ref();
    let has_cell = status.is_some_and(|status| status.cell.is_some());
    let valid = status.and_then(|status| find(&status.conditions, reasons::VALID));
    let is_valid = valid.is_none_or(|valid| valid.status != "False");
    has_cell || (tenant.metadata.deletion_timestamp.is_none() && is_valid)
}

pub(crate) fn read(objects: &Objects, sizes: &Sizes, faults: &mut Vec<Fault>) -> Vec<Tenant> {
    let regions: BTreeSet<&str> = objects
        .cells
        .iter()
        .map(|cell| cell.spec.region.as_str())
        .collect();
    let homes: HashMap<String, &str> = objects
        .cells
        .iter()
        .map(|cell| (cell.name_any(), cell.spec.region.as_str()))
        .collect();
    let only = if regions.len() == 1 {
        regions.first().copied()
    } else {
        None
    };
    let mut shared: HashMap<Requirement, Arc<Requirement>> = HashMap::new();
    let mut tenants = Vec::with_capacity(objects.tenants.len());
    for tenant in objects.tenants.iter().filter(|tenant| is_to_be_planned(tenant)) {
        let Some(project) = project(tenant) else {
            continue;
        };
        let name = Name::from(format!("{project}/{}", tenant.name_any()));
        let home = tenant.status.as_ref().and_then(|status| status.cell.as_deref());
        let of_home = home.and_then(|home| homes.get(home).copied());
        let Some(region) = of_home.or(tenant.spec.region.as_deref()).or(only) else {
            let message = "it is not set, and there is more than one, or none";
            faults.push(Fault::new(format!("tenants.{name}.region"), message));
            continue;
        };
        let requirement = Requirement {
            region: region.into(),
            ranges: ranges(tenant, objects),
            ..Requirement::default()
        };
        let requirement = shared
            .entry(requirement)
            .or_insert_with_key(|requirement| Arc::new(requirement.clone()))
            .clone();
        let profile = objects.profiles.get(&tenant.spec.profile);
        let first = profile.and_then(|profile| profile.classes.first());
        let first = Class::ALL
            .into_iter()
            .find(|class| first == Some(&class.to_string()));
        let read = tenant_of(tenant, name, home, first, sizes);
        tenants.push(Tenant {
            account: project.into(),
            requirement,
            ..read
        });
    }
    tenants
}

fn tenant_of(
    tenant: &TenantCluster,
    name: Name,
    home: Option<&str>,
    first: Option<Class>,
    sizes: &Sizes,
) -> Tenant {
    let spec = &tenant.spec;
    let pinned = match spec.class {
        ClassChoice::Auto => None,
        ClassChoice::Small => Some(Class::Small),
        ClassChoice::Medium => Some(Class::Medium),
        ClassChoice::Large => Some(Class::Large),
    };
    let has = tenant.status.as_ref().and_then(|status| status.class.as_deref());
    let has = Class::ALL
        .into_iter()
        .find(|class| has == Some(class.to_string().as_str()));
    let class = has.or(pinned).or(first).unwrap_or(Class::Small);
    let asked = tenant.metadata.creation_timestamp.as_ref();
    Tenant {
        name,
        account: Name::default(),
        demand: sizes.demand(&spec.profile, class, spec.availability),
        requirement: Arc::default(),
        availability: match spec.availability {
            Availability::ZoneRedundant => Spread::ZoneRedundant,
            Availability::Single => Spread::Single,
        },
        class,
        choice: pinned.map_or(Choice::Auto, Choice::Pinned),
        asked: asked.map_or(0, |asked| asked.0.as_second()),
        place: home.map_or(Place::Waiting, |home| Place::Running {
            at: Spot {
                cell: home.into(),
                zone: SOME_ZONE,
            },
        }),
        readings: None,
        watch: Watch {
            band: Band::Within,
            since: 0,
        },
        changed: Seconds::MIN / 2,
        went_down: false,
    }
}

/// A tenant's own ranges, or those of its profile.
fn ranges(tenant: &TenantCluster, objects: &Objects) -> Vec<IpNet> {
    let profile = objects
        .profiles
        .get(&tenant.spec.profile)
        .map(|profile| &profile.network);
    let network = tenant.spec.network.as_ref().or(profile);
    let texts = network.map(|network| [&network.pods, &network.services]);
    // A range that does not parse is the scheduler's to refuse.
    texts
        .into_iter()
        .flatten()
        .filter_map(|range| range.parse().ok())
        .collect()
}
