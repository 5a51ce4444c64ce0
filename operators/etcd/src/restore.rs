//! Makes the data of a first member from a snapshot: read and checked whole, restored aside, and put in place at once.
//!
//! Runs before the member's etcd in its pod. It never touches data that are there, so it may run again at any time.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};
use skep_api::snapshot_store::SnapshotStore;
use skep_snapshots::{Credentials, Keys, Manifest, Owner, REQUEST_TIMEOUT, SnapshotError, SnapshotId, Store};
use tokio::fs;
use tokio::process::Command;

use crate::snapshots::parse_location;
use crate::validate::InvalidSpec;

/// As far as revisions go up at once, so that whoever has seen a later one than the snapshot's never sees it again with
/// other data. Source: etcd's documentation of `--bump-revision`; it is more than a week of 1500 writes a second.
pub const BUMP: &str = "1000000000";
const TOOL: &str = "etcdutl";

/// What to restore, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Where the snapshot is.
    pub store: SnapshotStore,
    /// Whose it is.
    pub owner: String,
    /// Which one it is.
    pub snapshot: String,
    /// Whose data it becomes.
    pub member: Member,
    /// Whether revisions stay as they were; not where anybody may have seen later ones.
    #[serde(default)]
    pub keeps_revisions: bool,
}

/// The first member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where others reach it.
    pub peer_url: String,
    /// What tells its cluster from others.
    pub token: String,
}

/// A member's data that were not made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The job cannot be.
    #[error(transparent)]
    Job(#[from] InvalidSpec),
    /// The snapshot cannot be named so.
    #[error("there is no such snapshot: {0}")]
    Name(String),
    /// The snapshot cannot be read, or is refused.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The disk.
    #[error("cannot {verb} {path}")]
    Disk {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Etcd's own tool refused.
    #[error("etcdutl ended with {status}: {said}")]
    Tool {
        /// How.
        status: ExitStatus,
        /// Its last words.
        said: String,
    },
}

/// What became of a job.
#[derive(Debug, PartialEq, Eq)]
pub enum Restored {
    /// Data were there; nothing was done.
    WasThere,
    /// They were made from this snapshot.
    Made(Box<Manifest>),
}

/// Makes `volume/data` from a snapshot, unless it is there.
pub async fn restore(
    job: &Job,
    volume: &Path,
    keys: Keys,
    credentials: Option<&Credentials>,
) -> Result<Restored, RestoreError> {
    let (data, aside) = (volume.join("data"), volume.join("restore"));
    if fs::try_exists(&data).await.map_err(disk("look for", &data))? {
        return Ok(Restored::WasThere);
    }
    let name = |error: skep_snapshots::InvalidName| RestoreError::Name(error.to_string());
    let owner = Owner::new(&job.owner).map_err(name)?;
    let id: SnapshotId = job.snapshot.parse().map_err(name)?;
    let store = Store::open(parse_location(&job.store)?, credentials, keys, REQUEST_TIMEOUT)?;
    // What an attempt that was cut off left.
    remove(&aside).await?;
    fs::create_dir(&aside).await.map_err(disk("make", &aside))?;
    let file = aside.join("snapshot.db");
    let sink = fs::File::create(&file).await.map_err(disk("make", &file))?;
    let manifest = store.read(&owner, id, sink).await?;
    let made = aside.join("data");
    make_data(&file, &made, &job.member, job.keeps_revisions).await?;

    fs::rename(&made, &data)
        .await
        .map_err(disk("put in place", &data))?;
    put_in_place(volume).await?;
    remove(&aside).await?;
    Ok(Restored::Made(Box::new(manifest)))
}

/// Has etcd's own tool make data from a snapshot, with revisions that nobody has seen unless they are kept.
pub(crate) async fn make_data(
    snapshot: &Path,
    made: &Path,
    member: &Member,
    keeps_revisions: bool,
) -> Result<(), RestoreError> {
    let Member {
        name,
        peer_url,
        token,
    } = member;
    let mut command = Command::new(TOOL);
    command
        .args(["snapshot", "restore"])
        .arg(snapshot)
        .arg("--data-dir")
        .arg(made)
        .args(["--name", name])
        .args(["--initial-cluster", &format!("{name}={peer_url}")])
        .args(["--initial-advertise-peer-urls", peer_url])
        .args(["--initial-cluster-token", token])
        .kill_on_drop(true);
    if !keeps_revisions {
        command.args(["--bump-revision", BUMP, "--mark-compacted"]);
    }
    let output = command.output().await.map_err(disk("run", Path::new(TOOL)))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(RestoreError::Tool {
        status: output.status,
        said: text.lines().last().unwrap_or_default().to_owned(),
    })
}

pub(crate) async fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk("remove", path)(error)),
        _ => Ok(()),
    }
}

/// What was renamed is there after a loss of power too.
pub(crate) async fn put_in_place(directory: &Path) -> Result<(), RestoreError> {
    let opened = fs::File::open(directory).await.map_err(disk("open", directory))?;
    opened.sync_all().await.map_err(disk("sync", directory))
}

pub(crate) fn disk(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Disk { verb, path, source }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use sha2::{Digest, Sha256};
    use skep_snapshots::{About, Location};

    use super::*;

    /// A store in a directory with one snapshot that has etcd's checksum, and the job to restore it.
    async fn stored(directory: &Path, keys: &Keys) -> Job {
        let location = Location::directory(directory).unwrap();
        let store = Store::open(location, None, keys.clone(), REQUEST_TIMEOUT).unwrap();
        let owner = Owner::new("u-1").unwrap();
        let about = About {
            cluster: "etcd".into(),
            etcd_version: "3.7.3".into(),
            cluster_id: 1,
            revision: Some(7),
            content: None,
            taken_at: "2026-11-28T12:00:00Z".parse().unwrap(),
        };
        let mut body = vec![7; 4096];
        body.extend_from_slice(&Sha256::digest(&body));
        let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]);
        let manifest = store.write(&owner, about, pieces).await.unwrap();
        Job {
            store: SnapshotStore {
                s3: None,
                directory: Some(directory.display().to_string()),
            },
            owner: "u-1".into(),
            snapshot: manifest.about.id().to_string(),
            keeps_revisions: false,
            member: Member {
                name: "etcd-a".into(),
                peer_url: "https://etcd-a.etcd-peer.ns.svc:2380".into(),
                token: "token".into(),
            },
        }
    }

    #[tokio::test]
    async fn data_that_are_there_are_not_touched() {
        let (store, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = Keys::generate();
        let job = stored(store.path(), &keys).await;
        std::fs::create_dir(volume.path().join("data")).unwrap();
        std::fs::write(volume.path().join("data/member"), "mine").unwrap();
        let restored = restore(&job, volume.path(), keys, None).await.unwrap();
        assert_eq!(restored, Restored::WasThere);
        assert_eq!(
            std::fs::read_to_string(volume.path().join("data/member")).unwrap(),
            "mine"
        );
    }

    #[tokio::test]
    async fn a_snapshot_that_is_not_whole_becomes_nobodys_data() {
        let (store, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = Keys::generate();
        let job = stored(store.path(), &keys).await;
        let body = store.path().join("u-1").join(&job.snapshot).join("body");
        let bytes = std::fs::read(&body).unwrap();
        std::fs::write(&body, &bytes[..bytes.len() - 100]).unwrap();
        let refused = restore(&job, volume.path(), keys.clone(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, RestoreError::Snapshot(SnapshotError::Corrupt { .. })),
            "{refused}"
        );
        assert!(!volume.path().join("data").exists());
        let refused = restore(&job, volume.path(), Keys::generate(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, RestoreError::Snapshot(SnapshotError::WrongKey { .. })),
            "{refused}"
        );
        let mut job = job;
        job.snapshot = "newest".into();
        let refused = restore(&job, volume.path(), keys, None).await.unwrap_err();
        assert!(refused.to_string().contains("newest"), "{refused}");
    }
}
