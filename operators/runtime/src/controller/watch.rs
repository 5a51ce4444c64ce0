//! Watches that never end: errors are logged, counted, and followed by a new try with backoff.

use std::any::TypeId;
use std::fmt::Debug;

use futures::{Stream, StreamExt, future};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Guarded;
use crate::error::chain;
use crate::metrics;

/// Watches the controller's own kind into a store.
pub(super) fn primary<K>(
    controller: &'static str,
    api: Api<Guarded<K>>,
    config: watcher::Config,
) -> (
    impl Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + 'static,
    Store<Guarded<K>>,
)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let events = watcher::watcher(api, config)
        .modify(|object: &mut Guarded<K>| object.managed_fields_mut().clear())
        .default_backoff()
        .reflect(writer)
        .applied_objects();
    (
        surviving(controller, K::kind(&()).into_owned(), events).map(Ok),
        reader,
    )
}

/// Watches the metadata of another kind: every object that changes or goes.
pub(super) fn metadata<C>(
    controller: &'static str,
    api: Api<PartialObjectMeta<C>>,
    config: watcher::Config,
) -> impl Stream<Item = PartialObjectMeta<C>> + Send + 'static
where
    C: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let changes = watcher::watcher(api, config).default_backoff().touched_objects();
    surviving(controller, C::kind(&()).into_owned(), changes)
}

/// Keeps all `K` in memory for as long as the returned future runs; `prune` drops what nobody reads.
pub fn cache<K>(
    controller: &'static str,
    api: Api<K>,
    prune: impl Fn(&mut K) + Send + 'static,
) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, changes) = changing_cache(controller, api, prune);
    (reader, changes.for_each(|()| future::ready(())))
}

/// Keeps all `K` in memory for as long as the returned stream is polled, which tells of each change; `prune` drops what
/// nobody reads.
pub fn changing_cache<K>(
    controller: &'static str,
    api: Api<K>,
    prune: impl Fn(&mut K) + Send + 'static,
) -> (Store<K>, impl Stream<Item = ()> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let events = watcher::watcher(api, watcher::Config::default())
        .modify(move |object: &mut K| {
            object.managed_fields_mut().clear();
            prune(object);
        })
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    let changes = surviving(controller, K::kind(&()).into_owned(), events).map(|_| ());
    (reader, changes)
}

/// What `map` makes of each `C` that changes or goes, where its metadata does not tell; what cannot be read is left out.
pub fn changed<C, T>(
    controller: &'static str,
    api: Api<Guarded<C>>,
    map: impl Fn(&C) -> T + Send + 'static,
) -> impl Stream<Item = T> + Send + 'static
where
    C: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    let changes = watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .touched_objects();
    surviving(controller, C::kind(&()).into_owned(), changes)
        .filter_map(move |object| future::ready(object.0.as_ref().ok().map(&map)))
}

fn surviving<T>(
    controller: &'static str,
    kind: String,
    stream: impl Stream<Item = Result<T, watcher::Error>>,
) -> impl Stream<Item = T> {
    stream.filter_map(move |item| {
        future::ready(match item {
            Ok(object) => Some(object),
            Err(error) => {
                metrics::WATCH_ERRORS
                    .with_label_values(&[controller, &kind])
                    .inc();
                tracing::warn!(
                    controller,
                    kind,
                    error = chain(&error),
                    "a watch failed and is started again"
                );
                None
            }
        })
    })
}

/// The owners of kind `K`. For a cluster-scoped `K` the child's namespace is left out: with it the queue
/// would take the same owner for two objects and reconcile it twice at a time.
pub(super) fn owners<K>(child: &ObjectMeta) -> Vec<ObjectRef<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    K::Scope: 'static,
{
    let is_cluster_scoped = TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>();
    let namespace = if is_cluster_scoped {
        None
    } else {
        child.namespace.as_deref()
    };
    let owners = child.owner_references.iter().flatten();
    owners
        .filter_map(|owner| ObjectRef::from_owner_ref(namespace, owner, ()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Namespace;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    fn child(api_version: &str, kind: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("n".into()),
            owner_references: Some(vec![OwnerReference {
                api_version: api_version.into(),
                kind: kind.into(),
                name: "o".into(),
                uid: "u".into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_cluster_scoped_owner_has_one_key() {
        let found = owners::<Namespace>(&child("v1", "Namespace"));
        assert_eq!(found, vec![ObjectRef::new("o")]);
    }

    #[test]
    fn a_namespaced_owner_is_in_the_childs_namespace() {
        let found = owners::<Deployment>(&child("apps/v1", "Deployment"));
        assert_eq!(found, vec![ObjectRef::new("o").within("n")]);
        assert!(owners::<Deployment>(&child("v1", "Namespace")).is_empty());
    }
}
