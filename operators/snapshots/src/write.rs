//! Writes a snapshot: check, encrypt, upload in parts, and only then say that it is there.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use age::Encryptor;
use bytes::Bytes;
use futures::{AsyncWrite, AsyncWriteExt, Stream, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio_util::compat::TokioAsyncWriteCompatExt;

use crate::check::{Check, Content};
use crate::error::{SnapshotError, Source};
use crate::manifest::{About, Manifest};
use crate::name::Owner;
use crate::store::{BODY, MANIFEST, PART_BYTES, Store};

/// One part goes out while the next one fills.
const PARTS_ON_THEIR_WAY: usize = 2;
/// Age's own, so that a step waits for one part at most.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

impl Store {
    /// Writes what etcd's `Maintenance/Snapshot` sends, and says what was written.
    ///
    /// A stream that breaks off, is cut off or does not have its checksum leaves no snapshot; a part that
    /// was just on its way to a bucket may outlive the aborted upload. Memory does not depend on
    /// its length. A process that dies meanwhile, or a caller that gives up, leaves parts: a directory is rid of them
    /// by [`Store::delete_older_than`], a bucket by a rule of its own (`AbortIncompleteMultipartUpload`).
    pub async fn write<E: Into<Source>>(
        &self,
        owner: &Owner,
        about: About,
        stream: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Manifest, SnapshotError> {
        let id = about.id();
        let (body, last) = (self.path(owner, id, BODY), self.path(owner, id, MANIFEST));
        match self.step(&last, self.objects.head(&last)).await {
            Ok(_) => {
                return Err(SnapshotError::Exists {
                    object: self.name(&last),
                });
            }
            Err(SnapshotError::NotFound { object, .. }) if object == self.name(&last) => {}
            Err(error) => return Err(error),
        }
        let content = self.write_body(&body, stream).await?;
        let manifest = Manifest::new(owner.clone(), about, content);
        let written = self.write_manifest(&last, &manifest).await;
        if written.is_err() {
            // The first error is the one to tell; a body without a manifest is cleared later anyway.
            let _ = self.delete(owner, id).await;
        }
        written.map(|()| manifest)
    }

    async fn write_body<E: Into<Source>>(
        &self,
        path: &Path,
        stream: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Content, SnapshotError> {
        let mut upload = BufWriter::with_capacity(Arc::clone(&self.objects), path.clone(), PART_BYTES)
            .with_max_concurrency(PARTS_ON_THEIR_WAY);
        let recipient = self.keys.recipient();
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        let encryptor =
            Encryptor::with_recipients(recipients).map_err(|error| self.failed(path, error.into()))?;
        let sealed = encryptor.wrap_async_output((&mut upload).compat_write());
        let mut sealed = self.step(path, sealed).await?;
        let written = self.write_pieces(path, stream, &mut sealed).await;
        if written.is_ok() {
            // This alone completes the upload; where it fails the upload is aborted.
            self.step(path, sealed.close()).await?;
        } else {
            drop(sealed);
            let _ = self.step(path, upload.abort()).await;
        }
        written
    }

    async fn write_pieces<E: Into<Source>>(
        &self,
        path: &Path,
        stream: impl Stream<Item = Result<Bytes, E>>,
        sealed: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Content, SnapshotError> {
        let mut stream = pin!(stream.map_err(|error| SnapshotError::Source(error.into())));
        let mut check = Check::default();
        while let Some(chunk) = stream.try_next().await? {
            for piece in chunk.chunks(PIECE_BYTES) {
                check.update(piece);
                self.step(path, sealed.write_all(piece)).await?;
            }
        }
        check.finish().map_err(|damage| SnapshotError::Stream { damage })
    }

    async fn write_manifest(&self, path: &Path, manifest: &Manifest) -> Result<(), SnapshotError> {
        let failed = |source: Source| self.failed(path, source);
        let plain = serde_json::to_vec(manifest).map_err(|error| failed(error.into()))?;
        let sealed = self
            .keys
            .seal(&plain)
            .map_err(|error| failed(io::Error::other(error).into()))?;
        self.step(path, self.objects.put(path, sealed.into()))
            .await
            .map(drop)
    }
}
