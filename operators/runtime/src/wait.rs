//! Waiting for one object.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::wait::Condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// The condition did not come about in time.
#[derive(Debug, thiserror::Error)]
#[error("not within {} s{}", limit.as_secs(), tell(last.as_deref()))]
pub struct TimedOut {
    /// How long was waited.
    pub limit: Duration,
    /// What went wrong with the watch, if the last that it told was a failure.
    pub last: Option<Box<watcher::Error>>,
}

fn tell(last: Option<&watcher::Error>) -> String {
    last.map(|error| format!(", and the watch fails: {error}"))
        .unwrap_or_default()
}

/// Waits until an object meets a condition, which an object that is not there may meet too.
///
/// Unlike kube's `await_condition` it outlives watches that fail: they are begun again, after longer and longer pauses.
pub async fn wait_for<K>(
    api: Api<K>,
    name: &str,
    condition: impl Condition<K>,
    limit: Duration,
) -> Result<(), TimedOut>
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let mut last = None;
    let watch = async {
        let mut states = Box::pin(watcher::watch_object(api, name).default_backoff());
        while let Some(state) = states.next().await {
            match state {
                Ok(object) if condition.matches_object(object.as_ref()) => return,
                Ok(_) => last = None,
                Err(error) => last = Some(Box::new(error)),
            }
        }
    };
    match tokio::time::timeout(limit, watch).await {
        Ok(()) => Ok(()),
        Err(_) => Err(TimedOut { limit, last }),
    }
}
