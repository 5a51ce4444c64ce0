//! Makes the data of the member that is left of a lost quorum anew: with all that its log holds, and with revisions that
//! nobody has seen.
//!
//! Runs before the member's etcd in its pod, beside an etcd that has opened the data as a cluster of one. Without later
//! revisions a client that has seen more than this member would miss what is written until the count has caught up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use crate::members::{Members, MembersError, Target, wait_for_leader};
use crate::restore::{Member, RestoreError, disk, make_data, put_in_place, remove};

/// The directory of a volume in which the data are while they are opened as a cluster of one; what an earlier recovery left
/// is never taken for them.
pub fn opened(recovery: &str) -> String {
    format!("recovering-{recovery}")
}

/// The longest that it may take to start: a large database is read and checked first.
const LONGEST: Duration = Duration::from_mins(10);

/// What to make, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The name of the recovery, which is done once.
    pub name: String,
    /// The member whose data they are.
    pub member: Member,
    /// The port of the etcd that has opened them.
    pub port: u16,
}

/// Data that were not made.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk, or etcd's own tool.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The etcd that has opened the data.
    #[error("the data cannot be read")]
    Etcd(#[from] MembersError),
}

/// Moves the data aside, so that they can be opened there; what was moved before stays.
pub async fn prepare(job: &Job, volume: &Path) -> Result<(), RecoverError> {
    let (data, opened) = (volume.join("data"), volume.join(opened(&job.name)));
    if is_there(&mark(job, volume)).await? || is_there(&opened).await? {
        return Ok(());
    }
    clear(volume).await?;
    fs::rename(&data, &opened)
        .await
        .map_err(disk("move aside", &data))?;
    put_in_place(volume).await?;
    Ok(())
}

/// Removes what earlier recoveries have left: an etcd beside a member that was killed may begin an empty database.
async fn clear(volume: &Path) -> Result<(), RecoverError> {
    let mut found = fs::read_dir(volume).await.map_err(disk("read", volume))?;
    while let Some(entry) = found.next_entry().await.map_err(disk("read", volume))? {
        let is_left = entry.file_name().to_string_lossy().starts_with(&opened(""));
        if is_left {
            remove(&entry.path()).await?;
        }
    }
    Ok(())
}

/// Makes `volume/data` from what was opened, unless that was done; `scratch` takes the database meanwhile.
pub async fn recover<M: Members>(
    members: &M,
    job: &Job,
    volume: &Path,
    scratch: &Path,
) -> Result<(), RecoverError> {
    let (data, mark) = (volume.join("data"), mark(job, volume));
    if !is_there(&mark).await? && !is_there(&data).await? {
        let file = scratch.join("snapshot.db");
        save(members, job, &file).await?;
        let made = volume.join("recovered");
        // What an attempt that was cut off left.
        remove(&made).await?;
        make_data(&file, &made, &job.member, false).await?;
        fs::rename(&made, &data)
            .await
            .map_err(disk("put in place", &data))?;
        put_in_place(volume).await?;
    }
    fs::write(&mark, "").await.map_err(disk("write", &mark))?;
    put_in_place(volume).await?;
    // After a recovery too: the etcd beside this has begun an empty database there when its pod was started again.
    remove(&volume.join(opened(&job.name))).await?;
    Ok(())
}

async fn is_there(path: &Path) -> Result<bool, RestoreError> {
    fs::try_exists(path).await.map_err(disk("look for", path))
}

fn mark(job: &Job, volume: &Path) -> PathBuf {
    volume.join(format!("recovered-{}", job.name))
}

/// Writes what the opened data are, with etcd's own checksum.
async fn save<M: Members>(members: &M, job: &Job, file: &Path) -> Result<(), RecoverError> {
    let target = Target::local(job.port, "the etcd of the recovery");
    wait_for_leader(members, &target, LONGEST).await?;
    let mut pieces = members.snapshot(&target).await?;
    let mut sink = fs::File::create(file).await.map_err(disk("make", file))?;
    while let Some(piece) = pieces.try_next().await? {
        sink.write_all(&piece).await.map_err(disk("write", file))?;
    }
    sink.sync_all().await.map_err(disk("sync", file))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            name: "r".to_owned(),
            member: Member {
                name: "etcd-a".to_owned(),
                peer_url: "https://etcd-a:2380".to_owned(),
                token: "t".to_owned(),
            },
            port: 1,
        }
    }

    #[tokio::test]
    async fn data_are_moved_aside_once_and_not_after_the_recovery() {
        let volume = tempfile::tempdir().unwrap();
        let (data, opened) = (volume.path().join("data"), volume.path().join(opened("r")));
        // What another recovery left.
        std::fs::create_dir(volume.path().join("recovering-q")).unwrap();
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("db"), "old").unwrap();
        for _ in 0..2 {
            prepare(&job(), volume.path()).await.unwrap();
            assert!(!data.exists() && opened.join("db").exists());
            assert!(!volume.path().join("recovering-q").exists());
        }
        // The process died after the data were put in place.
        std::fs::create_dir(&data).unwrap();
        for _ in 0..2 {
            let members = crate::members::GrpcMembers;
            recover(&members, &job(), volume.path(), volume.path())
                .await
                .unwrap();
            assert!(data.exists() && !opened.exists());
            prepare(&job(), volume.path()).await.unwrap();
            assert!(data.exists() && !opened.exists());
            // The pod is started again, and with it the etcd that opens data.
            std::fs::create_dir(&opened).unwrap();
        }
    }
}
