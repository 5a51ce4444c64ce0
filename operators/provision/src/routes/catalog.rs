//! What the platform offers; any known caller may read it.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use kube::ResourceExt;
use skep_api::Cell;
use skep_core::{KubernetesVersion, reasons};

use crate::auth::Caller;
use crate::model::{ClassInfo, Page, ProfileInfo, RegionInfo, VersionInfo};
use crate::problem::{Problem, from_hub};
use crate::rules::Catalog;
use crate::state::AppState;

/// The profile of a cluster that names none.
const DEFAULT_PROFILE: &str = "standard";

async fn fetch(state: &AppState) -> Result<Catalog, Problem> {
    Catalog::fetch(&state.client)
        .await
        .map_err(|error| from_hub(&error))
}

/// Lists the profiles.
#[utoipa::path(get, path = "/v1/profiles", tag = "catalog",
    responses((status = 200, description = "The profiles", body = Page<ProfileInfo>), crate::openapi::Problems))]
pub(crate) async fn profiles(
    State(state): State<AppState>,
    _caller: Caller,
) -> Result<Json<Page<ProfileInfo>>, Problem> {
    let catalog = fetch(&state).await?;
    let items = catalog.profiles.iter().map(|profile| ProfileInfo {
        name: profile.name_any(),
        summary: profile.spec.summary.clone(),
        versions: profile.spec.versions.clone(),
        classes: profile.spec.classes.clone(),
    });
    Ok(Json(Page::whole(items.collect())))
}

/// Lists the Kubernetes versions, newest first.
#[utoipa::path(get, path = "/v1/versions", tag = "catalog",
    responses((status = 200, description = "The versions", body = Page<VersionInfo>), crate::openapi::Problems))]
pub(crate) async fn versions(
    State(state): State<AppState>,
    _caller: Caller,
) -> Result<Json<Page<VersionInfo>>, Problem> {
    Ok(Json(Page::whole(versions_of(&fetch(&state).await?))))
}

/// Lists the size classes, smallest first.
#[utoipa::path(get, path = "/v1/classes", tag = "catalog",
    responses((status = 200, description = "The size classes", body = Page<ClassInfo>), crate::openapi::Problems))]
pub(crate) async fn classes(
    State(state): State<AppState>,
    _caller: Caller,
) -> Result<Json<Page<ClassInfo>>, Problem> {
    let catalog = fetch(&state).await?;
    let items = catalog.classes.iter().map(|class| ClassInfo {
        name: class.name_any(),
        api_server_cpu: class.spec.api_server.cpu.clone(),
        api_server_memory: class.spec.api_server.memory_limit.clone(),
        api_server_replicas: class.spec.api_server_replicas,
        volume_size: class.spec.etcd_volume_size.clone(),
    });
    Ok(Json(Page::whole(items.collect())))
}

/// Lists the regions.
#[utoipa::path(get, path = "/v1/regions", tag = "catalog",
    responses((status = 200, description = "The regions", body = Page<RegionInfo>), crate::openapi::Problems))]
pub(crate) async fn regions(
    State(state): State<AppState>,
    _caller: Caller,
) -> Result<Json<Page<RegionInfo>>, Problem> {
    Ok(Json(Page::whole(regions_of(&fetch(&state).await?))))
}

fn versions_of(catalog: &Catalog) -> Vec<VersionInfo> {
    let mut offered: BTreeMap<KubernetesVersion, Vec<String>> = BTreeMap::new();
    for profile in &catalog.profiles {
        for version in profile
            .spec
            .versions
            .iter()
            .filter_map(|version| version.parse().ok())
        {
            offered.entry(version).or_default().push(profile.name_any());
        }
    }
    let default = catalog
        .profiles
        .iter()
        .find(|profile| profile.name_any() == DEFAULT_PROFILE);
    let default = default.and_then(|profile| profile.spec.versions.first()?.parse().ok());
    let newest_first = offered.into_iter().rev();
    newest_first
        .map(|(version, profiles)| VersionInfo {
            version: version.to_string(),
            default: default == Some(version),
            profiles,
        })
        .collect()
}

fn regions_of(catalog: &Catalog) -> Vec<RegionInfo> {
    let mut regions: BTreeMap<&str, (BTreeSet<&str>, bool)> = BTreeMap::new();
    for cell in &catalog.cells {
        let (zones, available) = regions.entry(&cell.spec.region).or_default();
        zones.extend(cell.spec.zones.iter().map(String::as_str));
        *available |= is_open(cell);
    }
    let items = regions.into_iter().map(|(name, (zones, available))| RegionInfo {
        name: name.to_owned(),
        zones: zones.into_iter().map(str::to_owned).collect(),
        available,
    });
    items.collect()
}

/// Whether a cell takes new tenants.
fn is_open(cell: &Cell) -> bool {
    let conditions = cell
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let is_ready = conditions
        .iter()
        .any(|condition| condition.type_ == reasons::READY && condition.status == "True");
    is_ready && !cell.spec.cordoned && cell.metadata.deletion_timestamp.is_none()
}
