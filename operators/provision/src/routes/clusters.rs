//! Clusters: making, listing, reading.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use kube::{Api, ResourceExt};
use skep_api::tenant_cluster::Network as SpecNetwork;
use skep_api::{TenantCluster, TenantClusterSpec};
use skep_core::{ClusterName, KubernetesVersion, ProjectName, labels};

use super::{Outcome, answer, post_params};
use crate::auth::Caller;
use crate::extract::{ClusterPath, Context, JsonBody, Paging, ProjectPath};
use crate::fields::Fields;
use crate::idempotency::{Binding, IdempotencyKey, Relation, reused};
use crate::model::{Availability, Class, Cluster, Network, NewCluster, Page};
use crate::problem::{Kind, Problem, from_hub};
use crate::rules::Catalog;
use crate::state::{AppState, ask, hub_code};
use crate::telemetry::RequestContext;

/// The size classes by name.
pub(super) const CLASSES: [(&str, Class); 4] = [
    ("auto", Class::Auto),
    ("small", Class::Small),
    ("medium", Class::Medium),
    ("large", Class::Large),
];
const AVAILABILITIES: [(&str, Availability); 2] = [
    ("ZoneRedundant", Availability::ZoneRedundant),
    ("Single", Availability::Single),
];

/// Makes a cluster.
///
/// Answers as soon as the wish is recorded; `Ready` among the conditions says when the cluster can be used.
#[utoipa::path(post, path = "/v1/projects/{project}/clusters", tag = "clusters",
    params(("project" = String, Path, description = "The project"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat")),
    request_body = NewCluster,
    responses(
        (status = 202, description = "The cluster and its conditions", body = Cluster,
            headers(("Location" = String, description = "Where the cluster is read"))),
        (status = 409, description = "The name is taken; `current` is what stands", body = Problem,
            content_type = "application/problem+json"),
        crate::openapi::Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(project): ProjectPath,
    key: IdempotencyKey,
    Context(context): Context,
    body: JsonBody,
) -> Result<Response, Problem> {
    caller.may(&state, "create", &project).await?;
    let (wish, fields) = read(body.fields()?);
    let binding = key.bind(&wish);
    if fields.is_flawless()
        && let Some(binding) = &binding
        && let Some(standing) = find_by_key(&state, &project, binding, &wish.name).await?
    {
        return Ok(accepted(&standing, Outcome::Replayed));
    }
    let spec = spec_of(&wish);
    let catalog = Catalog::fetch(&state.client)
        .await
        .map_err(|error| from_hub(&error))?;
    fields.finish_with("cluster", catalog.check(&spec, None))?;
    let object = build_object(&wish.name, spec, &context, binding.as_ref());
    match ask(clusters(&state, &project).create(&post_params(), &object)).await {
        Ok(made) => Ok(accepted(&made, Outcome::Done)),
        Err(error) => explain_refusal(&state, &project, &wish.name, binding.as_ref(), &error).await,
    }
}

/// Lists the clusters of a project.
#[utoipa::path(get, path = "/v1/projects/{project}/clusters", tag = "clusters",
    params(("project" = String, Path, description = "The project"), crate::openapi::PageQuery),
    responses((status = 200, description = "One page of clusters", body = Page<Cluster>), crate::openapi::Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(project): ProjectPath,
    paging: Paging,
) -> Result<Json<Page<Cluster>>, Problem> {
    caller.may(&state, "list", &project).await?;
    let page = ask(clusters(&state, &project).list(&paging.params())).await;
    let page = page.map_err(|error| paging.problem(&error))?;
    if page.items.is_empty() && paging.from.is_none() {
        super::projects::fetch(&state, &project).await?;
    }
    let items = page.items.iter().map(Cluster::from).collect();
    Ok(Json(Page {
        items,
        next: page.metadata.continue_.filter(|token| !token.is_empty()),
    }))
}

/// Reads a cluster.
#[utoipa::path(get, path = "/v1/projects/{project}/clusters/{cluster}", tag = "clusters",
    params(("project" = String, Path, description = "The project"),
        ("cluster" = String, Path, description = "The cluster")),
    responses((status = 200, description = "The cluster", body = Cluster), crate::openapi::Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    path: ClusterPath,
) -> Result<Json<Cluster>, Problem> {
    caller.may(&state, "get", &path.project).await?;
    Ok(Json(Cluster::from(&fetch(&state, &path).await?)))
}

/// The clusters of a project at the hub.
pub(super) fn clusters(state: &AppState, project: &ProjectName) -> Api<TenantCluster> {
    Api::namespaced(state.client.clone(), &project.namespace())
}

/// Reads one cluster, or 404.
pub(super) async fn fetch(state: &AppState, path: &ClusterPath) -> Result<TenantCluster, Problem> {
    match ask(clusters(state, &path.project).get(path.cluster.as_str())).await {
        Ok(object) => Ok(object),
        Err(error) if hub_code(&error) == Some(404) => Err(missing(path)),
        Err(error) => Err(from_hub(&error)),
    }
}

/// 404 for a cluster.
pub(super) fn missing(path: &ClusterPath) -> Problem {
    Kind::NotFound.because(format!(
        "there is no cluster {} in project {}",
        path.cluster, path.project
    ))
}

/// 202 with the cluster and its place.
pub(super) fn accepted(object: &TenantCluster, outcome: Outcome) -> Response {
    let cluster = Cluster::from(object);
    let place = format!("/v1/projects/{}/clusters/{}", cluster.project, cluster.name);
    answer(StatusCode::ACCEPTED, &cluster, Some(&place), outcome)
}

fn read(mut fields: Fields) -> (NewCluster, Fields) {
    let wish = NewCluster {
        name: fields
            .required::<ClusterName>("name")
            .map(String::from)
            .unwrap_or_default(),
        version: fields
            .parsed::<KubernetesVersion>("version")
            .map(|version| version.to_string()),
        profile: fields.text("profile"),
        class: fields.choice("class", &CLASSES),
        region: fields.parsed::<skep_core::Region>("region").map(String::from),
        availability: fields.choice("availability", &AVAILABILITIES),
        network: fields.object("network", |network| Network {
            pods: network.required_text("pods").unwrap_or_default(),
            services: network.required_text("services").unwrap_or_default(),
        }),
        deletion_protection: fields.flag("deletionProtection"),
    };
    (wish, fields)
}

fn spec_of(wish: &NewCluster) -> TenantClusterSpec {
    let defaults = TenantClusterSpec::default();
    TenantClusterSpec {
        version: wish.version.clone(),
        profile: wish.profile.clone().unwrap_or(defaults.profile),
        class: wish.class.map_or(defaults.class, Into::into),
        region: wish.region.clone(),
        availability: wish.availability.map_or(defaults.availability, Into::into),
        network: wish.network.clone().map(|network| SpecNetwork {
            pods: network.pods,
            services: network.services,
        }),
        deletion_protection: wish.deletion_protection.unwrap_or_default(),
    }
}

fn build_object(
    name: &str,
    spec: TenantClusterSpec,
    context: &RequestContext,
    binding: Option<&Binding>,
) -> TenantCluster {
    let mut object = TenantCluster::new(name, spec);
    object
        .annotations_mut()
        .insert(labels::TRACEPARENT.to_owned(), context.traceparent().to_owned());
    if let Some(binding) = binding {
        binding.mark(&mut object.metadata);
    }
    object
}

/// Looks for what an earlier request with the same key made; 422 when that request was another one.
async fn find_by_key(
    state: &AppState,
    project: &ProjectName,
    binding: &Binding,
    name: &str,
) -> Result<Option<TenantCluster>, Problem> {
    let params = kube::api::ListParams::default().labels(&binding.selector());
    let found = ask(clusters(state, project).list(&params))
        .await
        .map_err(|error| from_hub(&error))?;
    let mut same = None;
    for object in found {
        match binding.relation(&object.metadata) {
            Relation::Same if object.name_any() == name => same = Some(object),
            Relation::Same | Relation::OtherBody => return Err(reused()),
            Relation::Unrelated => {}
        }
    }
    Ok(same)
}

/// Says why the hub did not take a cluster, and what stands in its way.
async fn explain_refusal(
    state: &AppState,
    project: &ProjectName,
    name: &str,
    binding: Option<&Binding>,
    error: &kube::Error,
) -> Result<Response, Problem> {
    if is_terminating(error) {
        let detail = format!("project {project} is being deleted; use another one");
        return Err(Kind::Conflict.because(detail));
    }
    match hub_code(error) {
        Some(404) => Err(Kind::NotFound.because(format!("there is no project {project}"))),
        Some(409) => {
            let standing = ask(clusters(state, project).get_opt(name))
                .await
                .map_err(|e| from_hub(&e))?;
            let Some(standing) = standing else {
                return Err(from_hub(error));
            };
            match binding.map(|binding| binding.relation(&standing.metadata)) {
                Some(Relation::Same) => Ok(accepted(&standing, Outcome::Replayed)),
                Some(Relation::OtherBody) => Err(reused()),
                Some(Relation::Unrelated) | None => Err(name_taken(project, &standing)),
            }
        }
        _ => Err(from_hub(error)),
    }
}

fn name_taken(project: &ProjectName, standing: &TenantCluster) -> Problem {
    let name = standing.name_any();
    let detail = if standing.metadata.deletion_timestamp.is_some() {
        format!("cluster {name} of project {project} is still being deleted; wait until it is gone")
    } else {
        format!("project {project} has a cluster {name} already; choose another name")
    };
    Kind::Conflict
        .because(detail)
        .with_current(&Cluster::from(standing))
}

/// Whether the hub refused because the project's namespace is going.
fn is_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status
        .details
        .as_ref()
        .map(|details| details.causes.as_slice())
        .unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}
