//! Clusters: changing and deleting.
//!
//! Both guard their write by the resource version that they decided on.

use axum::extract::State;
use axum::response::Response;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use skep_api::TenantCluster;
use skep_core::KubernetesVersion;

use super::clusters::{CLASSES, accepted, clusters, fetch, missing};
use super::{Outcome, field_manager};
use crate::auth::Caller;
use crate::extract::{ClusterPath, JsonBody};
use crate::fields::Fields;
use crate::model::{Class, Cluster, PatchCluster};
use crate::problem::{FieldError, Kind, Problem, from_hub};
use crate::rules::Catalog;
use crate::state::{AppState, ask, hub_code};

/// How often a write that met another one is decided anew.
const ATTEMPTS: usize = 5;
/// Fields that are fixed when a cluster is made.
const IMMUTABLE: [&str; 5] = ["name", "profile", "region", "availability", "network"];

/// Changes a cluster by a JSON merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/projects/{project}/clusters/{cluster}", tag = "clusters",
    params(("project" = String, Path, description = "The project"),
        ("cluster" = String, Path, description = "The cluster")),
    request_body(content = PatchCluster, content_type = "application/merge-patch+json"),
    responses((status = 202, description = "The cluster and its conditions", body = Cluster),
        (status = 409, description = "The cluster is being deleted, or changed meanwhile", body = Problem,
            content_type = "application/problem+json"),
        crate::openapi::Problems))]
pub(crate) async fn patch(
    State(state): State<AppState>,
    caller: Caller,
    path: ClusterPath,
    body: JsonBody,
) -> Result<Response, Problem> {
    caller.may(&state, "patch", &path.project).await?;
    let (wish, fields) = read(body.fields()?);
    let catalog = Catalog::fetch(&state.client)
        .await
        .map_err(|error| from_hub(&error))?;
    let api = clusters(&state, &path.project);
    let mut standing = fetch(&state, &path).await?;
    fields.finish_with("patch", check(&wish, &standing, &catalog))?;
    for _ in 0..ATTEMPTS {
        if standing.metadata.deletion_timestamp.is_some() {
            let detail = format!("cluster {} is being deleted and takes no changes", path.cluster);
            return Err(Kind::Conflict
                .because(detail)
                .with_current(&Cluster::from(&standing)));
        }
        match ask(write(&api, &wish, &standing)).await {
            Ok(changed) => return Ok(accepted(&changed, Outcome::Done)),
            Err(error) if hub_code(&error) == Some(409) => {
                standing = fetch(&state, &path).await?;
                let flaws = check(&wish, &standing, &catalog);
                if !flaws.is_empty() {
                    return Err(Problem::invalid("patch", flaws));
                }
            }
            Err(error) if hub_code(&error) == Some(404) => return Err(missing(&path)),
            Err(error) => return Err(from_hub(&error)),
        }
    }
    Err(busy(&path, &standing))
}

/// Deletes a cluster and everything in it.
#[utoipa::path(delete, path = "/v1/projects/{project}/clusters/{cluster}", tag = "clusters",
    params(("project" = String, Path, description = "The project"),
        ("cluster" = String, Path, description = "The cluster")),
    responses((status = 202, description = "The cluster, which is being deleted", body = Cluster),
        (status = 409, description = "deletionProtection is on", body = Problem,
            content_type = "application/problem+json"),
        crate::openapi::Problems))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    path: ClusterPath,
) -> Result<Response, Problem> {
    caller.may(&state, "delete", &path.project).await?;
    let api = clusters(&state, &path.project);
    let mut standing = fetch(&state, &path).await?;
    for _ in 0..ATTEMPTS {
        if standing.metadata.deletion_timestamp.is_some() {
            return Ok(accepted(&standing, Outcome::Done));
        }
        if standing.spec.deletion_protection {
            return Err(protected(&path, &standing));
        }
        let preconditions = Preconditions {
            uid: standing.uid(),
            resource_version: standing.resource_version(),
        };
        let params = DeleteParams::background().preconditions(preconditions);
        match ask(api.delete(path.cluster.as_str(), &params)).await {
            // The right of the two is a cluster that is gone at once, since nothing had taken it up yet.
            Ok(gone) => return Ok(accepted(gone.as_ref().left().unwrap_or(&standing), Outcome::Done)),
            Err(error) if hub_code(&error) == Some(409) => standing = fetch(&state, &path).await?,
            Err(error) if hub_code(&error) == Some(404) => return Err(missing(&path)),
            Err(error) => return Err(from_hub(&error)),
        }
    }
    Err(busy(&path, &standing))
}

fn protected(path: &ClusterPath, standing: &TenantCluster) -> Problem {
    let detail = format!(
        "cluster {} is protected; set deletionProtection to false and delete again",
        path.cluster
    );
    let errors = vec![FieldError::new("deletionProtection", "is true")];
    Kind::Conflict
        .because(detail)
        .with_errors(errors)
        .with_current(&Cluster::from(standing))
}

fn busy(path: &ClusterPath, standing: &TenantCluster) -> Problem {
    let detail = format!(
        "cluster {} is being changed by others all the time; try again",
        path.cluster
    );
    Kind::Conflict
        .because(detail)
        .with_current(&Cluster::from(standing))
}

/// Reads a merge patch: null takes a field back to its default.
fn read(mut fields: Fields) -> (PatchCluster, Fields) {
    if fields.names("version") && !fields.has("version") {
        fields.error("version", "cannot be unset; name a version");
    }
    for field in IMMUTABLE {
        if fields.names(field) {
            fields.skip(field);
            fields.error(field, "is immutable; make another cluster to have it different");
        }
    }
    let is_class_unset = fields.names("class") && !fields.has("class");
    let is_protection_unset = fields.names("deletionProtection") && !fields.has("deletionProtection");
    let wish = PatchCluster {
        version: fields
            .parsed::<KubernetesVersion>("version")
            .map(|version| version.to_string()),
        class: fields
            .choice("class", &CLASSES)
            .or(is_class_unset.then_some(Class::Auto)),
        deletion_protection: fields
            .flag("deletionProtection")
            .or(is_protection_unset.then_some(false)),
    };
    (wish, fields)
}

/// What is wrong with the fields that the patch names, against what stands and what is offered.
fn check(wish: &PatchCluster, standing: &TenantCluster, catalog: &Catalog) -> Vec<FieldError> {
    let mut spec = standing.spec.clone();
    if let Some(version) = &wish.version {
        spec.version = Some(version.clone());
    }
    if let Some(class) = wish.class {
        spec.class = class.into();
    }
    let mut errors = catalog.check(&spec, standing.status.as_ref());
    // What else is wrong with the cluster was wrong before and is not this request's doing.
    errors.retain(|error| match error.field.as_str() {
        "version" => wish.version.is_some(),
        "class" => wish.class.is_some(),
        _ => false,
    });
    errors
}

async fn write(
    api: &Api<TenantCluster>,
    wish: &PatchCluster,
    standing: &TenantCluster,
) -> Result<TenantCluster, kube::Error> {
    let params = PatchParams {
        field_manager: Some(field_manager()),
        ..PatchParams::default()
    };
    let body = json!({
        "metadata": {"uid": standing.uid(), "resourceVersion": standing.resource_version()},
        "spec": wish,
    });
    api.patch(&standing.name_any(), &params, &Patch::Merge(body))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read_value(body: Value) -> (PatchCluster, Result<(), Problem>) {
        let (wish, fields) = read(Fields::of(body).unwrap());
        (wish, fields.finish("patch"))
    }

    #[test]
    fn null_goes_back_to_the_default() {
        let (wish, flaws) = read_value(json!({"class": null, "deletionProtection": null}));
        assert!(flaws.is_ok());
        assert_eq!(
            (wish.class, wish.deletion_protection),
            (Some(Class::Auto), Some(false))
        );
        assert!(read_value(json!({"version": null})).1.is_err());
        assert_eq!(read_value(json!({})).0, PatchCluster::default());
    }

    #[test]
    fn what_is_fixed_is_refused_by_name_with_all_else() {
        let problem = read_value(json!({"region": "x", "network": null, "colour": 1, "class": "huge"}))
            .1
            .unwrap_err();
        let named: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(named, ["region", "network", "class", "colour"]);
    }
}
