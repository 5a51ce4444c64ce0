//! A directory or memory as the store, and streams that look like etcd's.

mod damage;
mod faults;
mod location;
mod names;
mod retention;
mod round_trip;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{About, Keys, Location, Manifest, Owner, REQUEST_TIMEOUT, SnapshotError, SnapshotId, Store};

/// A store in a directory that goes with it.
struct Fixture {
    store: Store,
    directory: TempDir,
    owner: Owner,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::directory(directory.path()).unwrap();
        Self {
            store: Store::open(location, None, Keys::generate(), REQUEST_TIMEOUT).unwrap(),
            directory,
            owner: owner("8f0c0f0e-1111"),
        }
    }

    /// The same directory with other keys.
    fn with_keys(&self, keys: Keys) -> Store {
        Store {
            keys,
            ..self.store.clone()
        }
    }

    async fn write(&self, about: About, data: &[u8]) -> Result<Manifest, SnapshotError> {
        self.store.write(&self.owner, about, chunks(data, 4000)).await
    }

    /// Writes a small one.
    async fn write_at(&self, taken_at: Timestamp) -> SnapshotId {
        let about = About { taken_at, ..about() };
        self.write(about.clone(), &etcd(1)).await.unwrap();
        about.id()
    }

    async fn read(&self, id: SnapshotId) -> Result<(Manifest, Vec<u8>), SnapshotError> {
        let mut data = Vec::new();
        let manifest = self.store.read(&self.owner, id, &mut data).await?;
        Ok((manifest, data))
    }

    fn file(&self, owner: &Owner, id: SnapshotId, name: &str) -> PathBuf {
        self.directory
            .path()
            .join(owner.as_str())
            .join(id.to_string())
            .join(name)
    }

    /// Every file, also those that the store does not list.
    fn files(&self) -> Vec<PathBuf> {
        fn below(path: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    below(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        below(self.directory.path(), &mut found);
        found
    }
}

fn over(objects: Arc<dyn ObjectStore>) -> Store {
    Store {
        objects,
        keys: Keys::generate(),
        location: Location::directory(Path::new("/memory")).unwrap(),
        request_timeout: REQUEST_TIMEOUT,
    }
}

fn in_memory() -> Store {
    over(Arc::new(InMemory::new()))
}

fn owner(text: &str) -> Owner {
    Owner::new(text).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn about() -> About {
    About {
        cluster: "shop".into(),
        etcd_version: "3.7.3".into(),
        cluster_id: 0xcdf8_181f_d00d_0001,
        revision: Some(4711),
        content: None,
        taken_at: at("2026-11-28T04:14:10.5Z"),
    }
}

/// A database of so many sectors with etcd's checksum behind it.
fn etcd(sectors: usize) -> Vec<u8> {
    let mut state = sectors as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    let mut data: Vec<u8> = (0..sectors * 64).flat_map(|_| next()).collect();
    let hash = Sha256::digest(&data);
    data.extend(hash);
    data
}

fn chunks(data: &[u8], size: usize) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter(data.chunks(size).map(Bytes::copy_from_slice).map(Ok))
}

fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test)
}
