//! Projects: each is a namespace at the hub.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use skep_core::{ProjectName, SYSTEM_NAMESPACE, labels};

use super::{Outcome, answer, field_manager, post_params};
use crate::auth::{Access, Caller, Resource};
use crate::extract::{JsonBody, Paging, ProjectPath};
use crate::idempotency::{Binding, IdempotencyKey, Relation, reused};
use crate::model::{NewProject, Page, Project};
use crate::problem::{Kind, Problem, from_hub};
use crate::state::{AppState, ask, hub_code};

/// The role whose rights this server takes in each project's namespace, by a binding of the same name.
const ACCESS_ROLE: &str = "skep:provision-project";
/// The service accounts that this server may run under.
const SERVICE_ACCOUNTS: [&str; 1] = ["skep-hub"];
/// Clusters that the refusal of a deletion lists.
const LISTED: u32 = 20;

/// Makes a project.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", request_body = NewProject,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat")),
    responses((status = 201, description = "The project", body = Project,
            headers(("Location" = String, description = "Where the project is read"))),
        (status = 409, description = "The name is taken; `current` is what stands", body = Problem,
            content_type = "application/problem+json"),
        crate::openapi::Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    key: IdempotencyKey,
    body: JsonBody,
) -> Result<Response, Problem> {
    may(&caller, &state, "create", None).await?;
    let mut fields = body.fields()?;
    let name = fields.required::<ProjectName>("name");
    fields.finish("project")?;
    let Some(name) = name else {
        return Err(Problem::internal());
    };
    let binding = key.bind(&NewProject {
        name: name.to_string(),
    });
    if let Some(binding) = &binding
        && let Some(standing) = find_by_key(&state, binding, &name).await?
    {
        return finish(&state, &name, &standing, Outcome::Replayed).await;
    }
    let object = build_namespace(&name, binding.as_ref());
    match ask(namespaces(&state).create(&post_params(), &object)).await {
        Ok(made) => finish(&state, &name, &made, Outcome::Done).await,
        Err(error) if hub_code(&error) == Some(409) => {
            let standing = fetch(&state, &name).await?;
            match binding.map(|binding| binding.relation(&standing.metadata)) {
                Some(Relation::Same) => finish(&state, &name, &standing, Outcome::Replayed).await,
                Some(Relation::OtherBody) => Err(reused()),
                Some(Relation::Unrelated) | None => Err(name_taken(&standing)),
            }
        }
        Err(error) => Err(from_hub(&error)),
    }
}

/// Lists the projects.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(crate::openapi::PageQuery),
    responses((status = 200, description = "One page of projects", body = Page<Project>), crate::openapi::Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    paging: Paging,
) -> Result<Json<Page<Project>>, Problem> {
    may(&caller, &state, "list", None).await?;
    let params = paging.params().labels(labels::PROJECT);
    let page = ask(namespaces(&state).list(&params))
        .await
        .map_err(|error| paging.problem(&error))?;
    let items = page.items.iter().map(Project::from).collect();
    Ok(Json(Page {
        items,
        next: page.metadata.continue_.filter(|token| !token.is_empty()),
    }))
}

/// Reads a project.
#[utoipa::path(get, path = "/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "The project")),
    responses((status = 200, description = "The project", body = Project), crate::openapi::Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(name): ProjectPath,
) -> Result<Json<Project>, Problem> {
    may(&caller, &state, "get", Some(&name)).await?;
    Ok(Json(Project::from(&fetch(&state, &name).await?)))
}

/// Deletes a project that has no clusters, and its tokens.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "The project")),
    responses((status = 202, description = "The project, which is being deleted", body = Project),
        (status = 409, description = "The project has clusters; `current` lists them", body = Problem,
            content_type = "application/problem+json"),
        crate::openapi::Problems))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(name): ProjectPath,
) -> Result<Response, Problem> {
    may(&caller, &state, "delete", Some(&name)).await?;
    let standing = fetch(&state, &name).await?;
    if standing.metadata.deletion_timestamp.is_none() {
        refuse_while_inhabited(&state, &name).await?;
    }
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: standing.uid(),
        resource_version: None,
    });
    let going = match ask(namespaces(&state).delete(&name.namespace(), &params)).await {
        Ok(going) => going.left().unwrap_or(standing),
        // The namespace is on its way out and the hub says so by a conflict.
        Err(error) if hub_code(&error) == Some(409) => fetch(&state, &name).await?,
        Err(error) if hub_code(&error) == Some(404) => standing,
        Err(error) => return Err(from_hub(&error)),
    };
    Ok(answer(
        StatusCode::ACCEPTED,
        &Project::from(&going),
        None,
        Outcome::Done,
    ))
}

async fn may(
    caller: &Caller,
    state: &AppState,
    verb: &str,
    project: Option<&ProjectName>,
) -> Result<(), Problem> {
    caller
        .require(
            state,
            &Access {
                verb,
                resource: Resource::Projects,
                project,
            },
        )
        .await
}

fn namespaces(state: &AppState) -> Api<Namespace> {
    Api::all(state.client.clone())
}

/// Reads a project's namespace, or 404; a namespace without the label is no project.
pub(super) async fn fetch(state: &AppState, name: &ProjectName) -> Result<Namespace, Problem> {
    let found = ask(namespaces(state).get_opt(&name.namespace()))
        .await
        .map_err(|error| from_hub(&error))?;
    found
        .filter(|namespace| namespace.labels().contains_key(labels::PROJECT))
        .ok_or_else(|| Kind::NotFound.because(format!("there is no project {name}")))
}

async fn find_by_key(
    state: &AppState,
    binding: &Binding,
    name: &ProjectName,
) -> Result<Option<Namespace>, Problem> {
    let params = ListParams::default().labels(&format!("{},{}", labels::PROJECT, binding.selector()));
    let found = ask(namespaces(state).list(&params))
        .await
        .map_err(|error| from_hub(&error))?;
    let mut same = None;
    for object in found {
        match binding.relation(&object.metadata) {
            Relation::Same if object.name_any() == name.namespace() => same = Some(object),
            Relation::Same | Relation::OtherBody => return Err(reused()),
            Relation::Unrelated => {}
        }
    }
    Ok(same)
}

async fn finish(
    state: &AppState,
    name: &ProjectName,
    namespace: &Namespace,
    outcome: Outcome,
) -> Result<Response, Problem> {
    if namespace.metadata.deletion_timestamp.is_none() {
        take_access(state, name).await?;
    }
    let place = format!("/v1/projects/{name}");
    Ok(answer(
        StatusCode::CREATED,
        &Project::from(namespace),
        Some(&place),
        outcome,
    ))
}

/// Gives this server its rights in a project's namespace; it has none to any Secret elsewhere.
pub(super) async fn take_access(state: &AppState, project: &ProjectName) -> Result<(), Problem> {
    let bindings: Api<RoleBinding> = Api::namespaced(state.client.clone(), &project.namespace());
    let params = PatchParams::apply(&field_manager()).force();
    let done = ask(bindings.patch(ACCESS_ROLE, &params, &Patch::Apply(build_binding(project)))).await;
    done.map(drop).map_err(|error| from_hub(&error))
}

fn build_namespace(name: &ProjectName, binding: Option<&Binding>) -> Namespace {
    let mut metadata = ObjectMeta {
        name: Some(name.namespace()),
        ..ObjectMeta::default()
    };
    let marks = [
        (labels::PROJECT, name.to_string()),
        (labels::APP_PART_OF, "skep".to_owned()),
    ];
    metadata.labels = Some(marks.map(|(key, value)| (key.to_owned(), value)).into());
    if let Some(binding) = binding {
        binding.mark(&mut metadata);
    }
    Namespace {
        metadata,
        ..Namespace::default()
    }
}

fn build_binding(project: &ProjectName) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(ACCESS_ROLE.to_owned()),
            namespace: Some(project.namespace()),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: ACCESS_ROLE.to_owned(),
        },
        subjects: Some(
            SERVICE_ACCOUNTS
                .iter()
                .map(|name| service_account(name))
                .collect(),
        ),
    }
}

fn service_account(name: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        ..Subject::default()
    }
}

async fn refuse_while_inhabited(state: &AppState, name: &ProjectName) -> Result<(), Problem> {
    let params = ListParams::default().limit(LISTED);
    let page = ask(super::clusters::clusters(state, name).list(&params)).await;
    let page = page.map_err(|error| from_hub(&error))?;
    let names: Vec<_> = page.items.iter().map(ResourceExt::name_any).collect();
    if names.is_empty() {
        return Ok(());
    }
    let more = if page.metadata.continue_.is_some_and(|token| !token.is_empty()) {
        " and more"
    } else {
        ""
    };
    let detail = format!(
        "project {name} still has clusters: {}{more}; delete them first",
        names.join(", ")
    );
    Err(Kind::Conflict
        .because(detail)
        .with_current(&serde_json::json!({"clusters": names})))
}

fn name_taken(standing: &Namespace) -> Problem {
    let project = Project::from(standing);
    let detail = if project.deleted_at.is_some() {
        format!(
            "project {} is still being deleted; wait until it is gone",
            project.name
        )
    } else {
        format!("there is a project {} already; choose another name", project.name)
    };
    Kind::Conflict.because(detail).with_current(&project)
}

impl From<&Namespace> for Project {
    fn from(namespace: &Namespace) -> Self {
        let name = namespace.name_any();
        Self {
            name: name.strip_prefix("project-").unwrap_or(&name).to_owned(),
            created_at: namespace
                .metadata
                .creation_timestamp
                .as_ref()
                .map(crate::model::time_text),
            deleted_at: namespace
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(crate::model::time_text),
        }
    }
}
