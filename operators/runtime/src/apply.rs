//! Writes to the API: forced server-side apply with one field manager per controller, statuses only when
//! they changed, deletes that tolerate an object that is gone, and finalizers under optimistic locking.
//!
//! What is applied must be built, never an observed object changed: every field in it becomes this
//! manager's own.

mod status;
mod target;

use std::fmt::Debug;

use http::Request as HttpRequest;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::status::{holds_status, is_same_status};
use self::target::{Target, strip_server_fields};
use crate::error::{Categorised, api_category};

/// A write that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API refused, or could not be reached.
    #[error("cannot {verb} {object}")]
    Api {
        /// `apply`, `apply the status of`, `delete`, …
        verb: &'static str,
        /// Kind and name.
        object: String,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// The object cannot be written as JSON, or no request can be made from it.
    #[error("cannot encode {object}")]
    Encode {
        /// Kind and name.
        object: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object has no `metadata.name`.
    #[error("a {kind} without a name cannot be written")]
    NoName {
        /// The object's kind.
        kind: String,
    },
}

impl Categorised for ApplyError {
    fn category(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => api_category(source),
            Self::Encode { .. } => "encode",
            Self::NoName { .. } => "no-name",
        }
    }
}

impl ApplyError {
    /// Whether the API said that the object (or its namespace) does not exist.
    pub fn is_not_found(&self) -> bool {
        self.category() == "not-found"
    }

    /// Whether a precondition or resource version did not match: observe again and retry.
    pub fn is_conflict(&self) -> bool {
        self.category() == "conflict"
    }
}

/// What became of a status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// The status differed and was written.
    Written,
    /// The observed status already says this; nothing was sent.
    Unchanged,
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The API accepted it; finalizers may still hold the object.
    Started,
    /// There was no such object.
    Absent,
}

/// Writes objects as one field manager, `skep.dev/<controller>`.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    manager: String,
}

impl Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}

impl Applier {
    /// Writes with `client` as `skep.dev/<controller>`.
    pub fn new(client: Client, controller: &str) -> Self {
        Self {
            client,
            manager: format!("skep.dev/{controller}"),
        }
    }

    /// The client that is written with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The field manager, `skep.dev/<controller>`.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// Applies a built object, namespaced or cluster-scoped, and returns what the API made of it.
    pub async fn apply<K>(&self, object: &K) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        self.apply_with(object, &()).await
    }

    /// As [`Applier::apply`], for kinds that are known only at run time.
    pub async fn apply_with<K>(&self, object: &K, kind: &K::DynamicType) -> Result<K, ApplyError>
    where
        K: Resource + Serialize + DeserializeOwned,
    {
        let target = Target::of(object, kind)?;
        let mut body = target.encoded(object)?;
        strip_server_fields(&mut body);
        let request = target
            .request
            .patch(&target.name, &self.params(), &Patch::Apply(body));
        self.send("apply", &target.text, request).await
    }

    /// Applies the whole status of `observed`, unless that status already equals `status`.
    ///
    /// For a status that this controller writes alone. The write carries the observed uid, but API servers
    /// do not check it for custom resources: a stale write can land on a successor of the same name, until
    /// that one's own reconcile corrects it.
    pub async fn apply_status<K, S>(&self, observed: &K, status: &S) -> Result<StatusWrite, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
        S: Serialize,
    {
        self.write_status(observed, status, is_same_status).await
    }

    /// Applies this controller's part of a status that several managers write, unless `observed` already
    /// holds every field of `part`.
    ///
    /// A field that `part` no longer has goes away only with the next write that changes something.
    pub async fn apply_status_part<K, S>(&self, observed: &K, part: &S) -> Result<StatusWrite, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
        S: Serialize,
    {
        self.write_status(observed, part, holds_status).await
    }

    /// Deletes by name in the background; an object that is absent is no error.
    ///
    /// With `preconditions`, an object of another uid or resource version is left alone and the result is
    /// a conflict.
    pub async fn delete<K>(
        &self,
        api: &Api<K>,
        name: &str,
        preconditions: Option<Preconditions>,
    ) -> Result<Deletion, ApplyError>
    where
        K: Resource + Clone + DeserializeOwned + Debug,
    {
        let params = DeleteParams {
            preconditions,
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => Ok(Deletion::Started),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Deletion::Absent),
            Err(source) => Err(ApplyError::Api {
                verb: "delete",
                object: format!("{}/{name}", api.resource_url()),
                source,
            }),
        }
    }

    /// Deletes exactly the observed object (by uid); one that is gone or already ending is no error.
    pub async fn delete_observed<K>(&self, observed: &K) -> Result<Deletion, ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        let target = Target::of(observed, &())?;
        if observed.meta().deletion_timestamp.is_some() {
            return Ok(Deletion::Started);
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: observed.uid(),
                resource_version: None,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let request = target.request.delete(&target.name, &params);
        match self.send::<Value>("delete", &target.text, request).await {
            Ok(_) => Ok(Deletion::Started),
            Err(error) if error.is_not_found() => Ok(Deletion::Absent),
            Err(error) => Err(error),
        }
    }

    /// Adds a finalizer to the observed object; nothing is sent when it is there or the object is ending.
    pub async fn add_finalizer<K>(&self, observed: &K, finalizer: &str) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        if observed.meta().deletion_timestamp.is_some() || has_finalizer(observed, finalizer) {
            return Ok(());
        }
        let mut finalizers = observed.finalizers().to_vec();
        finalizers.push(finalizer.to_owned());
        self.write_finalizers(observed, "add a finalizer to", &finalizers)
            .await
    }

    /// Removes a finalizer from the observed object; one that is not there, or an object that is gone, is
    /// no error.
    pub async fn remove_finalizer<K>(&self, observed: &K, finalizer: &str) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        if !has_finalizer(observed, finalizer) {
            return Ok(());
        }
        let rest: Vec<String> = observed
            .finalizers()
            .iter()
            .filter(|known| *known != finalizer)
            .cloned()
            .collect();
        match self
            .write_finalizers(observed, "remove a finalizer from", &rest)
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    async fn write_status<K, S>(
        &self,
        observed: &K,
        status: &S,
        is_unchanged: fn(&Value, &Value) -> bool,
    ) -> Result<StatusWrite, ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
        S: Serialize,
    {
        let target = Target::of(observed, &())?;
        let status = target.encoded(status)?;
        let before = target
            .encoded(observed)?
            .get_mut("status")
            .map(Value::take)
            .unwrap_or_default();
        if is_unchanged(&before, &status) {
            return Ok(StatusWrite::Unchanged);
        }
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": target.identity(observed),
            "status": status,
        });
        let request =
            target
                .request
                .patch_subresource("status", &target.name, &self.params(), &Patch::Apply(body));
        self.send::<Value>("apply the status of", &target.text, request)
            .await?;
        Ok(StatusWrite::Written)
    }

    async fn write_finalizers<K>(
        &self,
        observed: &K,
        verb: &'static str,
        finalizers: &[String],
    ) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        let target = Target::of(observed, &())?;
        // The whole list is replaced, so the resource version guards what others added meanwhile.
        let body = json!({"metadata": {
            "uid": observed.uid(),
            "resourceVersion": observed.resource_version(),
            "finalizers": finalizers,
        }});
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            ..PatchParams::default()
        };
        let request = target.request.patch(&target.name, &params, &Patch::Merge(body));
        self.send::<Value>(verb, &target.text, request).await.map(drop)
    }

    fn params(&self) -> PatchParams {
        PatchParams::apply(&self.manager).force()
    }

    async fn send<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        object: &str,
        request: Result<HttpRequest<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ApplyError> {
        let request = request.map_err(|source| ApplyError::Encode {
            object: object.to_owned(),
            source: Box::new(source),
        })?;
        self.client
            .request(request)
            .await
            .map_err(|source| ApplyError::Api {
                verb,
                object: object.to_owned(),
                source,
            })
    }
}

/// Whether the object carries the finalizer.
pub fn has_finalizer<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|known| known == finalizer)
}
