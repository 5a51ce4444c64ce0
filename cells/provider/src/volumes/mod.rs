//! The `local-volumes` controller: one node's mounted file systems as volumes that can be claimed.
//!
//! It runs on every node with that node's `/var/lib/skep/volumes`. A volume whose claim is gone is
//! scrubbed and offered again. It never scrubs anything without having read, in that moment, that the
//! claim is gone, and never offers a directory that holds files of an unknown owner.

mod apply;
mod build;
mod observe;
mod scrub;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};

use apply::Cluster;
use observe::Directory;

/// The controller's name: field manager, event reporter, and owner of its annotation.
pub const CONTROLLER: &str = "skep.dev/local-volumes";
/// The storage class of the volumes.
pub const STORAGE_CLASS: &str = "local";
/// Names the node that a volume is on; the controller watches its own by it.
pub const NODE_LABEL: &str = "skep.dev/node";
const ZONE_LABEL: &str = "skep.dev/zone";
/// Why a volume could not be scrubbed, and since when.
pub const SCRUB_FAILED: &str = "skep.dev/scrub-failed";

/// Without any event everything is looked at this often.
const RESYNC: Duration = Duration::from_mins(10);
/// Pauses after a failure, doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Events close together are handled at once.
const SETTLE: Duration = Duration::from_millis(50);

pub use build::build_storage_class;

/// What the controller works on.
#[derive(Clone, Debug)]
pub struct VolumesConfig {
    /// The node that it runs on.
    pub node: String,
    /// Where that node's volumes are mounted, `/var/lib/skep/volumes`.
    pub root: PathBuf,
}

/// Why a pass did not end.
#[derive(Debug, thiserror::Error)]
pub enum VolumesError {
    /// The API refused or could not be reached.
    #[error("cannot {action}")]
    Api {
        /// What was tried.
        action: String,
        /// The client's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The volumes' directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Some volumes could not be scrubbed; each has its own event.
    #[error("{0} volumes could not be scrubbed")]
    Scrub(usize),
}

/// What is to be done about one directory or volume.
#[derive(Debug, PartialEq)]
enum Task {
    /// Offer a directory that has no volume yet.
    Offer(Directory),
    /// Scrub and offer again a volume whose claim is gone.
    Recycle(Arc<PersistentVolume>, Directory),
}

/// Runs the controller until the returned future is dropped.
pub async fn run(client: Client, config: VolumesConfig) {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let (store, writer) = reflector::store();
    let selector = format!("{NODE_LABEL}={}", config.node);
    let events = watcher(volumes, watcher::Config::default().labels(&selector))
        .default_backoff()
        .reflect(writer);
    let mut events = std::pin::pin!(events);
    let cluster = Cluster::new(client, &config.node);
    let mut retry = FIRST_RETRY;
    let mut pause = RESYNC;
    // Before the first whole list every volume would look missing.
    let mut is_listed = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                // The watcher tries again by itself.
                Some(Err(error)) => tracing::warn!(%error, "watching volumes"),
                Some(Ok(Event::InitDone)) => {
                    is_listed = true;
                    pause = SETTLE;
                }
                Some(Ok(Event::Apply(_) | Event::Delete(_))) => pause = SETTLE,
                Some(Ok(Event::Init | Event::InitApply(_))) => {}
                None => return,
            },
            () = tokio::time::sleep(pause), if is_listed => {
                pause = match reconcile(&config, &store, &cluster).await {
                    Ok(()) => {
                        retry = FIRST_RETRY;
                        RESYNC
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "local volumes");
                        let pause = retry;
                        retry = (retry * 2).min(LONGEST_RETRY);
                        pause
                    }
                };
            }
        }
    }
}

/// One pass: observe, decide, apply.
async fn reconcile(
    config: &VolumesConfig,
    store: &Store<PersistentVolume>,
    cluster: &Cluster,
) -> Result<(), VolumesError> {
    let read = |source| VolumesError::Read {
        path: config.root.clone(),
        source,
    };
    let directories = observe::mounted(&config.root).map_err(read)?;
    let node = cluster.fetch_node().await?;
    let mut failures = 0;
    for task in decide(&config.node, directories, &store.state()) {
        match task {
            Task::Offer(directory) => offer(config, cluster, &node, &directory).await?,
            Task::Recycle(volume, directory) => {
                if cluster.is_claim_gone(&volume).await? && !recycle(cluster, &volume, directory).await? {
                    failures += 1;
                }
            }
        }
    }
    if failures == 0 {
        Ok(())
    } else {
        Err(VolumesError::Scrub(failures))
    }
}

/// What there is to do, from what is mounted and what the API has; pure.
fn decide(node: &str, directories: Vec<Directory>, volumes: &[Arc<PersistentVolume>]) -> Vec<Task> {
    let by_name: BTreeMap<_, _> = volumes.iter().map(|volume| (volume.name_any(), volume)).collect();
    let task = |directory: Directory| match by_name.get(&build::volume_name(node, &directory)) {
        None => Some(Task::Offer(directory)),
        Some(volume) if is_released(volume) => Some(Task::Recycle(Arc::clone(volume), directory)),
        Some(_) => None,
    };
    directories.into_iter().filter_map(task).collect()
}

/// Whether a volume's claim was deleted, as the API says.
fn is_released(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Released") && volume.metadata.deletion_timestamp.is_none()
}

/// Makes a volume of a directory, unless files in it say that somebody's volume object was lost.
async fn offer(
    config: &VolumesConfig,
    cluster: &Cluster,
    node: &Node,
    directory: &Directory,
) -> Result<(), VolumesError> {
    let volume = build::build_volume(&config.node, node, directory);
    let is_known = cluster.exists(&volume.name_any()).await?;
    let read = |source| VolumesError::Read {
        path: directory.path.clone(),
        source,
    };
    if !is_known && !observe::is_empty(&directory.path).map_err(read)? {
        let text = format!(
            "{} holds files and no volume object knows them; empty it by hand",
            directory.name
        );
        tracing::warn!(directory = %directory.path.display(), "{text}");
        return cluster.warn_node(node, "UnknownFiles", &text).await;
    }
    cluster.apply_volume(&volume).await
}

/// Scrubs a volume and offers it again; says whether that worked.
async fn recycle(
    cluster: &Cluster,
    volume: &PersistentVolume,
    directory: Directory,
) -> Result<bool, VolumesError> {
    let scrubbed = tokio::task::spawn_blocking(move || scrub::scrub(&directory.path)).await;
    let outcome = scrubbed.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
    match outcome {
        Ok(()) => {
            cluster.release(volume).await?;
            tracing::info!(volume = volume.name_any(), "scrubbed and offered again");
            Ok(true)
        }
        Err(error) => {
            cluster.note_failure(volume, &error.to_string()).await?;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PersistentVolumeStatus;

    fn directory(name: &str) -> Directory {
        Directory {
            name: name.into(),
            path: format!("/v/{name}").into(),
            bytes: 1 << 31,
        }
    }

    fn volume(name: &str, phase: &str) -> Arc<PersistentVolume> {
        let mut volume = PersistentVolume::default();
        volume.metadata.name = Some(name.into());
        volume.status = Some(PersistentVolumeStatus {
            phase: Some(phase.into()),
            ..Default::default()
        });
        Arc::new(volume)
    }

    #[test]
    fn new_directories_are_offered_and_released_volumes_recycled() {
        let volumes = [
            volume("n-0", "Available"),
            volume("n-1", "Released"),
            volume("n-2", "Bound"),
        ];
        let directories = ["0", "1", "2", "3"].map(directory).to_vec();
        let tasks = decide("n", directories, &volumes);
        assert_eq!(
            tasks,
            [
                Task::Recycle(Arc::clone(&volumes[1]), directory("1")),
                Task::Offer(directory("3"))
            ]
        );
    }

    #[test]
    fn a_volume_that_is_being_deleted_is_left_alone() {
        let mut released = (*volume("n-1", "Released")).clone();
        released.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert!(!is_released(&released));
    }
}
