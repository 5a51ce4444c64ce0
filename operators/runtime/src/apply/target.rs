//! Where an object is written, and its encoding.

use kube::core::Request;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::ApplyError;

/// Where an object is written.
pub(super) struct Target {
    pub(super) name: String,
    /// Kind and name, for errors.
    pub(super) text: String,
    pub(super) request: Request,
}

impl Target {
    pub(super) fn of<K: Resource>(object: &K, kind: &K::DynamicType) -> Result<Self, ApplyError> {
        let meta = object.meta();
        let Some(name) = meta.name.clone() else {
            return Err(ApplyError::NoName {
                kind: K::kind(kind).into_owned(),
            });
        };
        let namespace = meta.namespace.as_deref();
        let place = namespace
            .map(|namespace| format!("{namespace}/"))
            .unwrap_or_default();
        Ok(Self {
            text: format!("{} {place}{name}", K::kind(kind)),
            request: Request::new(K::url_path(kind, namespace)),
            name,
        })
    }

    pub(super) fn encoded<T: Serialize>(&self, value: &T) -> Result<Value, ApplyError> {
        serde_json::to_value(value).map_err(|source| ApplyError::Encode {
            object: self.text.clone(),
            source: Box::new(source),
        })
    }

    pub(super) fn identity<K: Resource>(&self, observed: &K) -> Value {
        let mut identity = json!({"name": self.name});
        if let Some(namespace) = observed.namespace() {
            identity["namespace"] = namespace.into();
        }
        if let Some(uid) = observed.uid() {
            identity["uid"] = uid.into();
        }
        identity
    }
}

/// Takes away what the API refuses in an apply, or what would pin the write to one version.
pub(super) fn strip_server_fields(body: &mut Value) {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("creationTimestamp");
        metadata.remove("generation");
    }
}
