//! Waits for a datastore, and tells what it waits for itself.

use futures::TryStreamExt;
use kube::Api;
use kube::runtime::watcher;
use skep_api::etcd_cluster::EtcdCluster;
use skep_core::reasons;

use crate::client::{Context, Failure};

/// Whether all members serve and nothing is to be done.
pub fn is_ready(object: &EtcdCluster) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == reasons::READY);
    ready.any(|ready| ready.status == "True")
}

/// Waits until a datastore is as wanted, as long as the command line allows; `late` is what is said then.
pub async fn wait(
    api: &Api<EtcdCluster>,
    name: &str,
    context: &Context,
    late: &str,
    is_as_wanted: impl Fn(&EtcdCluster) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let timeout = context.global.timeout;
    let late = |_| Failure::TimedOut(format!("after {} s {late}", timeout.as_secs()));
    tokio::time::timeout(timeout, follow(api, name, is_as_wanted))
        .await
        .map_err(late)?
}

async fn follow(
    api: &Api<EtcdCluster>,
    name: &str,
    is_as_wanted: impl Fn(&EtcdCluster) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut objects = std::pin::pin!(watcher::watch_object(api.clone(), name));
    let mut said = String::new();
    while let Some(object) = objects.try_next().await.map_err(Failure::from_error)? {
        let Some(object) = object else {
            let text = format!("datastore {name} was deleted meanwhile");
            return Err(Failure::NotFound(text));
        };
        if is_as_wanted(&object)? {
            return Ok(());
        }
        let conditions = object.status.iter().flat_map(|status| &status.conditions);
        let mut ready = conditions.filter(|condition| condition.type_ == reasons::READY);
        let message = ready
            .next()
            .map(|ready| ready.message.clone())
            .unwrap_or_default();
        if message != said {
            eprintln!("{message}");
            said = message;
        }
    }
    Err(Failure::Other(format!("the watch of datastore {name} ended")))
}
