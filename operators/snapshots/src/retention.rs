//! Snapshots whose time is over.

use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use tokio::fs;

use crate::error::SnapshotError;
use crate::location::Kind;
use crate::name::{Owner, SnapshotId};
use crate::store::{MANIFEST, Store};

/// No upload takes that long, so that what is not whole by then never will be.
const LEFTOVER_AGE: SignedDuration = SignedDuration::from_hours(24);

impl Store {
    /// Deletes the snapshots that are older than `age`, save the `keep_at_least` newest, and what is left of uploads
    /// that ended a day ago; says which snapshots went.
    pub async fn delete_older_than(
        &self,
        owner: &Owner,
        age: SignedDuration,
        keep_at_least: usize,
        now: Timestamp,
    ) -> Result<Vec<SnapshotId>, SnapshotError> {
        let is_older = |id: &SnapshotId, age| now.duration_since(id.taken_at()) > age;
        let folders = self.folders(owner).await?;
        let ids = |whole| {
            let alike = folders
                .iter()
                .rev()
                .filter(move |(_, folder)| folder.is_snapshot() == whole);
            alike.map(|(id, _)| *id)
        };
        let old: Vec<_> = ids(true)
            .skip(keep_at_least)
            .filter(|id| is_older(id, age))
            .collect();
        let leftover = ids(false).filter(|id| is_older(id, LEFTOVER_AGE));
        for id in old.iter().copied().chain(leftover) {
            self.delete(owner, id).await?;
        }
        if let Kind::Directory(directory) = self.location.kind() {
            let unfinished = |id: &SnapshotId| !folders.contains_key(id) && is_older(id, LEFTOVER_AGE);
            let path = directory.join(owner.as_str());
            self.step(&self.folder(owner), clear_unfinished(&path, unfinished))
                .await?;
        }
        Ok(old)
    }

    /// Deletes everything of an owner.
    pub async fn delete_all(&self, owner: &Owner) -> Result<(), SnapshotError> {
        let mut paths: Vec<_> = self
            .everything(owner)
            .await?
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        // Manifests first: what is left where this ends early is no snapshot.
        paths.sort_by_key(|path| path.filename() != Some(MANIFEST));
        for path in &paths {
            self.remove(path).await?;
        }
        Ok(())
    }
}

/// Removes folders with nothing but the hidden files of uploads whose process died.
async fn clear_unfinished(owner: &Path, is_unfinished: impl Fn(&SnapshotId) -> bool) -> io::Result<()> {
    if !fs::try_exists(owner).await? {
        return Ok(());
    }
    let mut entries = fs::read_dir(owner).await?;
    while let Some(entry) = entries.next_entry().await? {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if id.is_some_and(|id| is_unfinished(&id)) {
            fs::remove_dir_all(entry.path()).await?;
        }
    }
    Ok(())
}
