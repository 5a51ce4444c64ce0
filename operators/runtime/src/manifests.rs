//! Applies YAML manifests whose kinds are known only at run time, in an order that works on an empty
//! cluster.
//!
//! It applies what it is given and deletes nothing.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::discovery::{self, Scope};
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, ResourceExt};

use crate::apply::{Applier, ApplyError};
use crate::error::{Categorised, api_category};
use crate::wait::{TimedOut, wait_for};

/// How long a definition may take to be served; it takes well under a second on a healthy API server.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks for a kind whose definition has just been applied.
const DISCOVERY_PERIOD: Duration = Duration::from_millis(250);

/// Manifests that could not be read or applied.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is no YAML stream of objects.
    #[error("document {document} is not valid YAML")]
    Yaml {
        /// Counted from 1; 0 stands for the stream as a whole.
        document: usize,
        /// The parser's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A document is no Kubernetes object.
    #[error("document {document} has no {field}")]
    Incomplete {
        /// Counted from 1.
        document: usize,
        /// The field that is missing.
        field: &'static str,
    },
    /// The API server does not serve the kind.
    #[error("the API server does not serve {kind}")]
    UnknownKind {
        /// Group, version and kind.
        kind: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// The object could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A definition was applied but is not served in time.
    #[error("definition {name} was not established")]
    NotEstablished {
        /// The definition's name.
        name: String,
        /// How long was waited, and what the watch said.
        source: TimedOut,
    },
}

impl Categorised for ManifestError {
    fn category(&self) -> &'static str {
        match self {
            Self::Yaml { .. } | Self::Incomplete { .. } => "manifest",
            Self::UnknownKind { source, .. } => api_category(source),
            Self::Apply(error) => error.category(),
            Self::NotEstablished { .. } => "timeout",
        }
    }
}

/// Reads a stream of YAML documents; empty documents are skipped and lists (`kind: List`) opened.
pub fn parse(text: &str) -> Result<Vec<DynamicObject>, ManifestError> {
    // As kubectl reads them: `n`, `y` and `off` are texts.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|source| ManifestError::Yaml {
            document: 0,
            source: Box::new(source),
        })?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        read(document, index + 1, &mut objects)?;
    }
    Ok(objects)
}

fn read(
    mut document: serde_json::Value,
    number: usize,
    objects: &mut Vec<DynamicObject>,
) -> Result<(), ManifestError> {
    if document.get("kind").and_then(serde_json::Value::as_str) == Some("List") {
        if let Some(serde_json::Value::Array(items)) = document.get_mut("items").map(serde_json::Value::take)
        {
            for item in items {
                read(item, number, objects)?;
            }
        }
        return Ok(());
    }
    let object: DynamicObject = serde_json::from_value(document).map_err(|source| ManifestError::Yaml {
        document: number,
        source: Box::new(source),
    })?;
    if object.types.is_none() {
        return Err(ManifestError::Incomplete {
            document: number,
            field: "apiVersion and kind",
        });
    }
    if object.metadata.name.is_none() {
        return Err(ManifestError::Incomplete {
            document: number,
            field: "metadata.name",
        });
    }
    objects.push(object);
    Ok(())
}

/// Sorts into the order of applying: namespaces, definitions, RBAC, the rest; stable within each.
pub fn in_order(mut objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    objects.sort_by_key(rank);
    objects
}

fn rank(object: &DynamicObject) -> u8 {
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("Namespace") => 0,
        Some("CustomResourceDefinition") => 1,
        Some("PriorityClass" | "StorageClass") => 2,
        Some("ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding") => 3,
        Some("Secret" | "ConfigMap") => 4,
        Some("ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => 6,
        _ => 5,
    }
}

impl Applier {
    /// Parses and applies a stream of YAML documents in order; returns how many objects were applied.
    pub async fn apply_yaml(&self, text: &str) -> Result<usize, ManifestError> {
        let objects = parse(text)?;
        let count = objects.len();
        self.apply_objects(objects).await?;
        Ok(count)
    }

    /// Applies objects in order and waits for definitions before their objects.
    ///
    /// A namespaced object without a namespace goes to the client's default namespace.
    pub async fn apply_objects(&self, objects: Vec<DynamicObject>) -> Result<(), ManifestError> {
        let mut kinds = Kinds::default();
        let mut unestablished: Vec<String> = Vec::new();
        for mut object in in_order(objects) {
            let is_definition = rank(&object) == 1;
            if !is_definition {
                for name in unestablished.drain(..) {
                    self.await_established(&name).await?;
                }
            }
            let (kind, scope) = kinds.find(self, &object).await?;
            match scope {
                Scope::Namespaced if object.metadata.namespace.is_none() => {
                    object.metadata.namespace = Some(self.client().default_namespace().to_owned());
                }
                Scope::Cluster => object.metadata.namespace = None,
                Scope::Namespaced => {}
            }
            self.apply_with(&object, &kind).await?;
            if is_definition {
                unestablished.push(object.name_any());
            }
        }
        for name in unestablished {
            self.await_established(&name).await?;
        }
        Ok(())
    }

    async fn await_established(&self, name: &str) -> Result<(), ManifestError> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().clone());
        wait_for(definitions, name, is_crd_established(), ESTABLISH_TIMEOUT)
            .await
            .map_err(|source| ManifestError::NotEstablished {
                name: name.to_owned(),
                source,
            })
    }
}

/// The kinds that discovery has told of during one application.
#[derive(Default)]
struct Kinds {
    known: HashMap<GroupVersionKind, (ApiResource, Scope)>,
}

impl Kinds {
    async fn find(
        &mut self,
        applier: &Applier,
        object: &DynamicObject,
    ) -> Result<(ApiResource, Scope), ManifestError> {
        let types = object.types.clone().unwrap_or_else(|| TypeMeta {
            api_version: String::new(),
            kind: String::new(),
        });
        let unreadable = |source| ManifestError::Yaml {
            document: 0,
            source: Box::new(source),
        };
        let wanted = GroupVersionKind::try_from(&types).map_err(unreadable)?;
        if let Some((kind, scope)) = self.known.get(&wanted) {
            return Ok((kind.clone(), scope.clone()));
        }
        // An established definition reaches discovery a moment later.
        let deadline = tokio::time::Instant::now() + ESTABLISH_TIMEOUT;
        loop {
            match discovery::pinned_kind(applier.client(), &wanted).await {
                Ok((kind, capabilities)) => {
                    let found = (kind, capabilities.scope);
                    self.known.insert(wanted, found.clone());
                    return Ok(found);
                }
                Err(source) if tokio::time::Instant::now() >= deadline || !is_missing(&source) => {
                    let kind = format!("{} {}", types.api_version, types.kind);
                    return Err(ManifestError::UnknownKind { kind, source });
                }
                Err(_) => tokio::time::sleep(DISCOVERY_PERIOD).await,
            }
        }
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(api_category(error), "not-found" | "discovery")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "
# a comment alone
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: n}
spec: {replicas: 2}
---
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ServiceAccount
  metadata: {name: s}
- apiVersion: apiextensions.k8s.io/v1
  kind: CustomResourceDefinition
  metadata: {name: c}
---
apiVersion: v1
kind: Namespace
metadata: {name: n}
";

    #[test]
    fn documents_are_read_and_ordered() {
        let objects = in_order(parse(STREAM).unwrap());
        let names: Vec<String> = objects.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["n", "c", "s", "d"]);
        assert_eq!(objects[3].data["spec"]["replicas"], 2);
    }

    #[test]
    fn a_document_that_is_no_object_is_named() {
        let error = parse("kind: Namespace\napiVersion: v1\nmetadata: {}\n").unwrap_err();
        assert_eq!(error.to_string(), "document 1 has no metadata.name");
        let error = parse("---\nmetadata: {name: a}\n").unwrap_err();
        assert!(
            matches!(
                error,
                ManifestError::Incomplete {
                    field: "apiVersion and kind",
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(parse("a: [").is_err());
    }
}
