//! A store that is open: what lies in it, and one bounded way to ask it anything.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::timeout;

use crate::error::{Damage, SnapshotError, Source};
use crate::keys::Keys;
use crate::location::{Credentials, Kind, Location};
use crate::manifest::Manifest;
use crate::name::{Owner, SnapshotId};

/// How long one request usually may take: a part of 5 MiB over 1 Mbit/s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// A step is two requests at most, each with a last repetition after a pause.
const REQUESTS_IN_A_STEP: u32 = 5;
/// The smallest part that S3 takes; three are in memory at most, and 8 GiB are well below its 10 000 parts.
pub(crate) const PART_BYTES: usize = 5 << 20;
/// A manifest has some hundred bytes; what is longer is none.
const LARGEST_MANIFEST: u64 = 64 << 10;

pub(crate) const BODY: &str = "body";
pub(crate) const MANIFEST: &str = "manifest";

/// An open store. Each of its steps ends within some request timeouts, but a stream from or to the caller is waited
/// for as long as that takes.
#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) keys: Keys,
    pub(crate) location: Location,
    pub(crate) request_timeout: Duration,
}

/// A snapshot in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its name, with its time and revision.
    pub id: SnapshotId,
    /// What it takes in the store.
    pub stored_bytes: u64,
}

/// What lies in the folder of one snapshot.
#[derive(Default)]
pub(crate) struct Folder {
    pub body: Option<u64>,
    pub manifest: bool,
}

impl Folder {
    pub fn is_snapshot(&self) -> bool {
        self.manifest && self.body.is_some()
    }
}

impl Store {
    /// Opens a store; a directory must exist, a bucket is not asked for yet.
    ///
    /// A bucket without credentials is used as whom the machine or the pod is. A directory needs none.
    pub fn open(
        location: Location,
        credentials: Option<&Credentials>,
        keys: Keys,
        request_timeout: Duration,
    ) -> Result<Self, SnapshotError> {
        let opened: Result<Arc<dyn ObjectStore>, object_store::Error> = match location.kind() {
            Kind::S3(bucket) => bucket
                .connect(credentials, request_timeout)
                .map(|s3| Arc::new(s3) as _),
            Kind::Directory(path) => LocalFileSystem::new_with_prefix(path)
                .map(|files| Arc::new(files.with_automatic_cleanup(true).with_fsync(true)) as _),
        };
        let objects =
            opened.map_err(|error| SnapshotError::of_store(location.to_string(), None, error.into()))?;
        Ok(Self {
            objects,
            keys,
            location,
            request_timeout,
        })
    }

    /// The snapshots of an owner, the newest first; those that are not whole are left out.
    pub async fn list(&self, owner: &Owner) -> Result<Vec<Listed>, SnapshotError> {
        let folders = self.folders(owner).await?.into_iter().rev();
        let whole = folders.filter(|(_, folder)| folder.is_snapshot());
        Ok(whole
            .map(|(id, folder)| Listed {
                id,
                stored_bytes: folder.body.unwrap_or_default(),
            })
            .collect())
    }

    /// What a snapshot says of itself.
    pub async fn manifest(&self, owner: &Owner, id: SnapshotId) -> Result<Manifest, SnapshotError> {
        let path = self.path(owner, id, MANIFEST);
        let corrupt = |damage| SnapshotError::Corrupt {
            object: self.name(&path),
            damage,
        };
        let found = self.step(&path, self.objects.get(&path)).await?;
        if found.meta.size > LARGEST_MANIFEST {
            return Err(corrupt(Damage::NoManifest));
        }
        let sealed = self.step(&path, found.bytes()).await?;
        let plain = self
            .keys
            .open(&sealed)
            .map_err(|error| self.unsealed(&path, error))?;
        let manifest = Manifest::parse(&plain).map_err(corrupt)?;
        if (&manifest.owner, manifest.about.id()) == (owner, id) {
            return Ok(manifest);
        }
        Err(SnapshotError::Foreign {
            object: self.name(&path),
            id: manifest.about.id(),
            owner: manifest.owner,
        })
    }

    /// Deletes a snapshot, or what is left of it; one that is not there is no error.
    pub async fn delete(&self, owner: &Owner, id: SnapshotId) -> Result<(), SnapshotError> {
        for name in [MANIFEST, BODY] {
            self.remove(&self.path(owner, id, name)).await?;
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, path: &Path) -> Result<(), SnapshotError> {
        match self.step(path, self.objects.delete(path)).await {
            Err(SnapshotError::NotFound { object, .. }) if object == self.name(path) => Ok(()),
            other => other,
        }
    }

    /// Every folder of an owner that has the name of a snapshot, the oldest first.
    pub(crate) async fn folders(&self, owner: &Owner) -> Result<BTreeMap<SnapshotId, Folder>, SnapshotError> {
        let root = self.folder(owner);
        let mut folders = BTreeMap::<_, Folder>::new();
        for (path, size) in self.everything(owner).await? {
            let mut parts = path.prefix_match(&root).into_iter().flatten();
            let id = parts.next().and_then(|part| part.as_ref().parse().ok());
            let (Some(id), Some(name), None) = (id, parts.next(), parts.next()) else {
                continue;
            };
            let folder = folders.entry(id).or_default();
            match name.as_ref() {
                BODY => folder.body = Some(size),
                MANIFEST => folder.manifest = true,
                _ => {}
            }
        }
        Ok(folders)
    }

    /// Every object of an owner, with its size.
    pub(crate) async fn everything(&self, owner: &Owner) -> Result<Vec<(Path, u64)>, SnapshotError> {
        let root = self.folder(owner);
        let mut listed = self.objects.list(Some(&root));
        let mut found = Vec::new();
        while let Some(meta) = self.step(&root, listed.try_next()).await? {
            found.push((meta.location, meta.size));
        }
        Ok(found)
    }

    pub(crate) fn path(&self, owner: &Owner, id: SnapshotId, name: &str) -> Path {
        self.folder(owner).join(id.to_string()).join(name)
    }

    /// A list of it ends its prefix with `/`, so that no other owner's name can begin with it.
    pub(crate) fn folder(&self, owner: &Owner) -> Path {
        let root = match self.location.kind() {
            Kind::S3(bucket) => Path::from(bucket.prefix.as_str()),
            Kind::Directory(_) => Path::default(),
        };
        root.join(owner.as_str())
    }

    /// An object's name for people.
    pub(crate) fn name(&self, path: &Path) -> String {
        match self.location.kind() {
            Kind::S3(bucket) => format!("s3://{}/{path}", bucket.name),
            Kind::Directory(directory) => format!("{}/{path}", directory.display()),
        }
    }

    /// Asks the store something, for a time that has an end whatever the store does.
    pub(crate) async fn step<T, E: Into<Source>>(
        &self,
        path: &Path,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SnapshotError> {
        let answer = self.within(path, asked).await?;
        answer.map_err(|error| self.failed(path, error.into()))
    }

    /// As [`Store::step`], for answers that the caller understands better.
    pub(crate) async fn within<T>(
        &self,
        path: &Path,
        asked: impl Future<Output = T>,
    ) -> Result<T, SnapshotError> {
        let answer = timeout(self.request_timeout * REQUESTS_IN_A_STEP, asked).await;
        answer.map_err(|late| self.failed(path, late.into()))
    }

    pub(crate) fn failed(&self, path: &Path, source: Source) -> SnapshotError {
        // An I/O error hides the one that it was made of from whoever asks for its source.
        let source = match source.downcast::<io::Error>() {
            Ok(error) => error
                .downcast::<object_store::Error>()
                .map_or_else(Source::from, Source::from),
            Err(other) => other,
        };
        let bucket = match self.location.kind() {
            Kind::S3(bucket) => Some(bucket.name.as_str()),
            Kind::Directory(_) => None,
        };
        SnapshotError::of_store(self.name(path), bucket, source)
    }

    /// Why something in the store cannot be decrypted.
    pub(crate) fn unsealed(&self, path: &Path, error: age::DecryptError) -> SnapshotError {
        let object = self.name(path);
        match error {
            age::DecryptError::NoMatchingKeys => SnapshotError::WrongKey { object },
            age::DecryptError::Io(error) => self.undecrypted(path, error),
            _ => SnapshotError::Corrupt {
                object,
                damage: Damage::Encryption,
            },
        }
    }

    /// Why what was decrypted goes no further: the store itself, or what it gave.
    pub(crate) fn undecrypted(&self, path: &Path, error: io::Error) -> SnapshotError {
        let is_damage = error
            .get_ref()
            .is_none_or(|inner| !inner.is::<object_store::Error>());
        let damage = match error.kind() {
            io::ErrorKind::UnexpectedEof => Damage::CutOff,
            _ => Damage::Encryption,
        };
        let object = self.name(path);
        if is_damage {
            return SnapshotError::Corrupt { object, damage };
        }
        self.failed(path, error.into())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}
