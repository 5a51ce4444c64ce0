//! Reads a snapshot, and believes nothing of it before all of it is checked.

use std::sync::Arc;

use age::Decryptor;
use futures::{AsyncRead, AsyncReadExt};
use object_store::ObjectStoreExt;
use object_store::buffered::BufReader;
use object_store::path::Path;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::check::{Check, Content};
use crate::error::{Damage, SnapshotError};
use crate::manifest::Manifest;
use crate::name::{Owner, SnapshotId};
use crate::store::{BODY, PART_BYTES, Store};
use crate::write::PIECE_BYTES;

impl Store {
    /// Hands a snapshot on, decrypted, as etcd sent it. What the sink has got is worth nothing until this returns.
    pub async fn read(
        &self,
        owner: &Owner,
        id: SnapshotId,
        sink: impl AsyncWrite + Unpin,
    ) -> Result<Manifest, SnapshotError> {
        let manifest = self.manifest(owner, id).await?;
        let path = self.path(owner, id, BODY);
        let corrupt = |damage| SnapshotError::Corrupt {
            object: self.name(&path),
            damage,
        };
        let meta = self.step(&path, self.objects.head(&path)).await?;
        let sealed = BufReader::with_capacity(Arc::clone(&self.objects), &meta, PART_BYTES).compat();
        let opened = self.within(&path, Decryptor::new_async_buffered(sealed)).await?;
        let opened = opened.and_then(|opened| opened.decrypt_async(self.keys.identities()));
        let plain = opened.map_err(|error| match error {
            // The manifest was written with the same key, and that one opened it.
            age::DecryptError::NoMatchingKeys => corrupt(Damage::Encryption),
            other => self.unsealed(&path, other),
        })?;
        let check = self.hand_on(&path, plain, sink, manifest.bytes).await?;
        let content: Content = check.finish().map_err(corrupt)?;
        if manifest.describes(&content) {
            return Ok(manifest);
        }
        Err(corrupt(Damage::Differs))
    }

    /// Reads a snapshot for its errors alone.
    pub async fn verify(&self, owner: &Owner, id: SnapshotId) -> Result<Manifest, SnapshotError> {
        self.read(owner, id, tokio::io::sink()).await
    }

    async fn hand_on(
        &self,
        path: &Path,
        mut plain: impl AsyncRead + Unpin,
        mut sink: impl AsyncWrite + Unpin,
        longest: u64,
    ) -> Result<Check, SnapshotError> {
        let unsent = |source| SnapshotError::Sink {
            object: self.name(path),
            source,
        };
        let mut check = Check::default();
        let mut piece = vec![0; PIECE_BYTES];
        // One byte more than there may be is enough to know.
        while check.bytes() <= longest {
            let read = self.within(path, plain.read(&mut piece)).await?;
            let read = read.map_err(|error| self.undecrypted(path, error))?;
            if read == 0 {
                break;
            }
            check.update(&piece[..read]);
            sink.write_all(&piece[..read]).await.map_err(unsent)?;
        }
        sink.flush().await.map_err(unsent)?;
        Ok(check)
    }
}
