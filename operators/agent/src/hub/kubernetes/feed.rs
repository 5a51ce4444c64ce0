//! One kind's list and watch, resumable from a resource version.
//!
//! An object that cannot be read is logged and left out; it stops nothing.

use std::fmt::Debug;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DeserializeGuard;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::hub::{Change, HubError};

/// The code by which the API says that a resource version is too old.
const GONE: u16 = 410;

/// Why a feed does not go on.
#[derive(Debug)]
pub(super) enum FeedError {
    /// The resource version is too old: list again.
    Expired,
    /// The hub failed: try again from the same version.
    Failed(HubError),
}

type Events<K> = BoxStream<'static, kube::Result<WatchEvent<DeserializeGuard<K>>>>;

/// Where one kind has been read to, and its watch while one is open.
pub(super) struct Feed<K> {
    version: String,
    events: Option<Events<K>>,
}

impl<K> Default for Feed<K> {
    fn default() -> Self {
        Self {
            version: String::new(),
            events: None,
        }
    }
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// The resource version that was read to.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Goes on from another version.
    pub(super) fn seek(&mut self, version: &str) {
        version.clone_into(&mut self.version);
        self.events = None;
    }

    /// Reads everything; a watch goes on from there.
    pub(super) async fn list(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        verb: &'static str,
    ) -> Result<Vec<Change<K>>, HubError> {
        let failed = |source| HubError::Read { verb, source };
        let list = api.list(&ListParams::default()).await.map_err(failed)?;
        self.seek(list.metadata.resource_version.as_deref().unwrap_or_default());
        Ok(list.items.into_iter().filter_map(readable).map(present).collect())
    }

    /// Opens the watch unless it is open.
    pub(super) async fn open(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        verb: &'static str,
    ) -> Result<(), FeedError> {
        if self.events.is_some() {
            return Ok(());
        }
        let opened = api.watch(&WatchParams::default(), &self.version).await;
        self.events = Some(opened.map_err(|source| failure(verb, source))?.boxed());
        Ok(())
    }

    /// Awaits the next event of the open watch: a change, or nothing to tell.
    pub(super) async fn next(&mut self, verb: &'static str) -> Result<Option<Change<K>>, FeedError> {
        let event = match self.events.as_mut() {
            Some(events) => events.next().await,
            None => None,
        };
        let change = match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.advance(&object);
                readable(object).map(present)
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.advance(&object);
                Some(Change::Gone(object.name_any()))
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                self.version = bookmark.metadata.resource_version;
                None
            }
            Some(Ok(WatchEvent::Error(status))) => {
                self.events = None;
                return Err(failure(verb, kube::Error::Api(status)));
            }
            Some(Err(source)) => {
                self.events = None;
                return Err(failure(verb, source));
            }
            None => {
                self.events = None;
                None
            }
        };
        Ok(change)
    }

    /// The changes that are there already, about `limit` at most; awaits nothing. An error is met again when
    /// the watch is opened anew.
    pub(super) fn drain(&mut self, verb: &'static str, limit: usize) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        while changes.len() < limit && self.events.is_some() {
            match self.next(verb).now_or_never() {
                Some(Ok(change)) => changes.extend(change),
                Some(Err(_)) | None => break,
            }
        }
        changes
    }

    fn advance(&mut self, object: &DeserializeGuard<K>) {
        if let Some(version) = object.resource_version() {
            self.version = version;
        }
    }
}

fn failure(verb: &'static str, source: kube::Error) -> FeedError {
    match source {
        kube::Error::Api(status) if status.code == GONE => FeedError::Expired,
        source => FeedError::Failed(HubError::Read { verb, source }),
    }
}

fn present<K>(object: K) -> Change<K> {
    Change::Present(Box::new(object))
}

fn readable<K: Resource<DynamicType = ()>>(object: DeserializeGuard<K>) -> Option<K> {
    match object.0 {
        Ok(mut object) => {
            object.managed_fields_mut().clear();
            Some(object)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(kind = %K::kind(&()), name, error = invalid.error, "an object of the hub cannot be read");
            None
        }
    }
}
