//! A project's tokens. A token's text is shown once, in the answer that makes it, and kept nowhere.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams};
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use skep_core::{ProjectName, labels};

use super::{Outcome, answer, post_params};
use crate::auth::{Access, Caller, DIGEST, EXPIRES, Resource, TokenId, mint};
use crate::extract::{IdPath, JsonBody, Paging, ProjectPath};
use crate::idempotency::{Binding, IdempotencyKey, Relation, reused};
use crate::model::{NewToken, Page, Token, time_text};
use crate::problem::{Kind, Problem, from_hub};
use crate::state::{AppState, ask, hub_code};
use crate::ttl::read_ttl;

/// The label of every token's Secret; its value is the token's id.
const LABEL: &str = "skep.dev/token";
/// The type of a token's Secret.
const SECRET_TYPE: &str = "skep.dev/project-token";
const DESCRIPTION: &str = "skep.dev/description";
const CREATED_BY: &str = "skep.dev/created-by";
/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 200;
const DEFAULT_TTL: SignedDuration = SignedDuration::from_hours(30 * 24);
const SHORTEST_TTL: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_TTL: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Makes a token; its text is in this answer and nowhere else, not even in a replay of it.
#[utoipa::path(post, path = "/v1/projects/{project}/tokens", tag = "tokens", request_body = NewToken,
    params(("project" = String, Path, description = "The project"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat")),
    responses((status = 201, description = "The token", body = Token), crate::openapi::Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(project): ProjectPath,
    key: IdempotencyKey,
    body: JsonBody,
) -> Result<Response, Problem> {
    may(&caller, &state, "create", &project).await?;
    let (wish, ttl) = read(body)?;
    super::projects::fetch(&state, &project).await?;
    super::projects::take_access(&state, &project).await?;
    let binding = key.bind(&wish);
    if let Some(binding) = &binding
        && let Some(standing) = find_by_key(&state, &project, binding).await?
    {
        return Ok(made(&token_of(&standing, &project), Outcome::Replayed));
    }
    let chance: [u8; 36] = std::array::from_fn(|_| rand::random());
    let (id, text, digest) = mint(&project, &chance);
    let expires = Timestamp::now()
        .saturating_add(ttl)
        .map_err(|_| Problem::internal())?;
    let mut secret = build_secret(&id, &digest, expires, &caller.name(), &wish);
    if let Some(binding) = &binding {
        binding.mark(&mut secret.metadata);
    }
    let kept = ask(secrets(&state, &project).create(&post_params(), &secret)).await;
    let kept = kept.map_err(|error| from_hub(&error))?;
    Ok(made(
        &Token {
            token: Some(text),
            ..token_of(&kept, &project)
        },
        Outcome::Done,
    ))
}

/// Lists a project's tokens, without their texts.
#[utoipa::path(get, path = "/v1/projects/{project}/tokens", tag = "tokens",
    params(("project" = String, Path, description = "The project"), crate::openapi::PageQuery),
    responses((status = 200, description = "One page of tokens", body = Page<Token>), crate::openapi::Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(project): ProjectPath,
    paging: Paging,
) -> Result<Json<Page<Token>>, Problem> {
    may(&caller, &state, "list", &project).await?;
    super::projects::fetch(&state, &project).await?;
    super::projects::take_access(&state, &project).await?;
    let params = paging.params().labels(LABEL);
    let page = ask(secrets(&state, &project).list(&params))
        .await
        .map_err(|error| paging.problem(&error))?;
    let items = page
        .items
        .iter()
        .map(|secret| token_of(secret, &project))
        .collect();
    Ok(Json(Page {
        items,
        next: page.metadata.continue_.filter(|token| !token.is_empty()),
    }))
}

/// Revokes a token; the next request that uses it is refused.
#[utoipa::path(delete, path = "/v1/projects/{project}/tokens/{id}", tag = "tokens",
    params(("project" = String, Path, description = "The project"),
        ("id" = String, Path, description = "The token's id")),
    responses((status = 204, description = "The token is revoked"), crate::openapi::Problems))]
pub(crate) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    ProjectPath(project): ProjectPath,
    IdPath(id): IdPath,
) -> Result<StatusCode, Problem> {
    may(&caller, &state, "delete", &project).await?;
    let missing = || Kind::NotFound.because(format!("project {project} has no such token"));
    let id = TokenId::parse(&id)
        .filter(|id| id.project == project)
        .ok_or_else(missing)?;
    super::projects::fetch(&state, &project).await?;
    super::projects::take_access(&state, &project).await?;
    match ask(secrets(&state, &project).delete(&id.secret_name(), &DeleteParams::default())).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(error) if hub_code(&error) == Some(404) => Err(missing()),
        Err(error) => Err(from_hub(&error)),
    }
}

async fn may(caller: &Caller, state: &AppState, verb: &str, project: &ProjectName) -> Result<(), Problem> {
    caller
        .require(
            state,
            &Access {
                verb,
                resource: Resource::Tokens,
                project: Some(project),
            },
        )
        .await
}

fn secrets(state: &AppState, project: &ProjectName) -> Api<Secret> {
    Api::namespaced(state.client.clone(), &project.namespace())
}

fn read(body: JsonBody) -> Result<(NewToken, SignedDuration), Problem> {
    let mut fields = body.fields()?;
    let ttl = read_ttl(&mut fields, DEFAULT_TTL, SHORTEST_TTL, LONGEST_TTL);
    let description = fields.text("description");
    if description
        .as_ref()
        .is_some_and(|text| text.chars().count() > LONGEST_DESCRIPTION)
    {
        fields.error(
            "description",
            format!("has at most {LONGEST_DESCRIPTION} characters"),
        );
    }
    if description
        .as_ref()
        .is_some_and(|text| text.chars().any(char::is_control))
    {
        fields.error("description", "must be one line of text");
    }
    fields.finish("token")?;
    Ok((
        NewToken {
            ttl: Some(format!("{}s", ttl.as_secs())),
            description,
        },
        ttl,
    ))
}

async fn find_by_key(
    state: &AppState,
    project: &ProjectName,
    binding: &Binding,
) -> Result<Option<Secret>, Problem> {
    let params = ListParams::default().labels(&format!("{LABEL},{}", binding.selector()));
    let found = ask(secrets(state, project).list(&params))
        .await
        .map_err(|error| from_hub(&error))?;
    for secret in found {
        match binding.relation(&secret.metadata) {
            Relation::Same => return Ok(Some(secret)),
            Relation::OtherBody => return Err(reused()),
            Relation::Unrelated => {}
        }
    }
    Ok(None)
}

fn made(token: &Token, outcome: Outcome) -> Response {
    let place = format!("/v1/projects/{}/tokens/{}", token.project, token.id);
    answer(StatusCode::CREATED, token, Some(&place), outcome)
}

fn build_secret(id: &TokenId, digest: &str, expires: Timestamp, creator: &str, wish: &NewToken) -> Secret {
    let mut notes = BTreeMap::from([(CREATED_BY.to_owned(), creator.to_owned())]);
    if let Some(description) = &wish.description {
        notes.insert(DESCRIPTION.to_owned(), description.clone());
    }
    let marks = [(LABEL, id.to_string()), (labels::PROJECT, id.project.to_string())];
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Secret {
        metadata: ObjectMeta {
            name: Some(id.secret_name()),
            labels: Some(marks.map(|(key, value)| (key.to_owned(), value)).into()),
            annotations: Some(notes),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        immutable: Some(true),
        string_data: Some(
            [
                (DIGEST.to_owned(), digest.to_owned()),
                (EXPIRES.to_owned(), expires),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}

fn token_of(secret: &Secret, project: &ProjectName) -> Token {
    let expires = secret
        .data
        .as_ref()
        .and_then(|data| data.get(EXPIRES))
        .map(|bytes| bytes.0.clone());
    Token {
        id: secret.labels().get(LABEL).cloned().unwrap_or_default(),
        project: project.to_string(),
        description: secret.annotations().get(DESCRIPTION).cloned(),
        created_by: secret.annotations().get(CREATED_BY).cloned(),
        created_at: secret.metadata.creation_timestamp.as_ref().map(time_text),
        expires_at: expires
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default(),
        token: None,
    }
}
