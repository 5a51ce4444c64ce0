//! The API's own description, `OpenAPI` 3.1, made from the handlers and the types that they take and give.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};

use crate::model;
use crate::problem::{FieldError, MEDIA_TYPE, Problem};
use crate::routes::{catalog, changes, clusters, events, kubeconfig, projects, tokens};

/// The problems that any endpoint may answer with.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            (
                "400",
                "The request is malformed: no JSON, a wrong parameter, an expired continue token",
            ),
            ("401", "No token, or none that is known; see WWW-Authenticate"),
            ("403", "The token does not reach so far"),
            ("404", "There is no such project, cluster or token"),
            ("413", "The body has more than 64 KiB"),
            ("415", "The body is of another media type"),
            ("422", "Fields are wrong; `errors` names all of them"),
            ("429", "Too many writes; see Retry-After"),
            ("500", "The platform failed"),
            ("503", "The platform does not answer right now; see Retry-After"),
        ];
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        all.into_iter()
            .map(|(code, description)| {
                let response = ResponseBuilder::new()
                    .description(description)
                    .content(MEDIA_TYPE, content.clone());
                (code.to_owned(), RefOr::T(response.build()))
            })
            .collect()
    }
}

/// The parameters of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) struct PageQuery {
    /// The most entries of the page, 1 to 500; 100 where it is left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Where the last page ended: its `continue`.
    r#continue: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Skep provisioning API",
        description = "Makes, changes and deletes Kubernetes clusters, and issues short-lived credentials for them.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        projects::create, projects::list, projects::get, projects::delete,
        tokens::create, tokens::list, tokens::revoke,
        clusters::create, clusters::list, clusters::get, changes::patch, changes::delete,
        kubeconfig::create, events::stream,
        catalog::profiles, catalog::versions, catalog::classes, catalog::regions,
    ),
    components(schemas(
        Problem, FieldError, model::NewCluster, model::PatchCluster, model::Cluster, model::ClusterState,
        model::Condition, model::ClusterEvent, model::NewKubeconfig, model::Credentials, model::Network,
        model::Availability, model::Class, model::NewProject, model::Project, model::NewToken, model::Token,
        model::ProfileInfo, model::VersionInfo, model::ClassInfo, model::RegionInfo,
    )),
    security(("token" = [])),
    modifiers(&Security, &Operations),
    tags(
        (name = "projects", description = "What clusters and tokens belong to"),
        (name = "tokens", description = "Credentials of programs, each for one project"),
        (name = "clusters", description = "Kubernetes clusters"),
        (name = "catalog", description = "What there is to choose from"),
    )
)]
struct Api;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "A project token (skep_…), a Kubernetes service-account token, or an OIDC token that the platform trusts",
        ));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

/// Gives each operation an id that says what it does.
struct Operations;

impl Modify for Operations {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete]
                .into_iter()
                .flatten();
            for operation in operations {
                let tag = operation
                    .tags
                    .as_ref()
                    .and_then(|tags| tags.first())
                    .cloned()
                    .unwrap_or_default();
                let verb = operation.operation_id.take().unwrap_or_default();
                operation.operation_id = Some(format!("{tag}.{verb}"));
            }
        }
    }
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_else(|_| json!({}));
    document["servers"] = json!([{"url": "/"}]);
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
});

/// The document as JSON.
pub fn text() -> &'static str {
    &TEXT
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_committed_document_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");
        if std::env::var_os("SKEP_GENERATE").is_some() {
            std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
            std::fs::write(path, text()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(),
            "run: SKEP_GENERATE=1 cargo test -p skep-provision openapi"
        );
    }

    #[test]
    fn every_operation_is_described_and_its_references_hold() {
        let document: Value = serde_json::from_str(text()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut ids = std::collections::BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["summary"].is_string(), "{method} {id}");
                assert!(operation["responses"]["401"].is_object(), "{id}");
            }
        }
        let mut missing = Vec::new();
        find_references(&document, &mut |reference| {
            let place = reference.trim_start_matches('#');
            if document.pointer(place).is_none() {
                missing.push(reference.to_owned());
            }
        });
        assert!(missing.is_empty(), "{missing:?}");
    }

    fn find_references(value: &Value, found: &mut impl FnMut(&str)) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    match inner.as_str().filter(|_| key == "$ref") {
                        Some(reference) => found(reference),
                        None => find_references(inner, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| find_references(item, found)),
            _ => {}
        }
    }
}
