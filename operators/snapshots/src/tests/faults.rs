//! A store that fails at one call, or from one call on.

use std::fmt;
use std::future::ready;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, path,
};

use super::*;

#[derive(Debug, Clone)]
struct Faulty {
    objects: Arc<InMemory>,
    calls: Arc<AtomicUsize>,
    fails: Range<usize>,
}

impl Faulty {
    fn call(&self) -> Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.fails.contains(&number) {
            let source = "this call fails".into();
            return Err(object_store::Error::Generic {
                store: "test",
                source,
            });
        }
        Ok(())
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &path::Path, body: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call()?;
        self.objects.put_opts(path, body, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &path::Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call()?;
        let upload = self.objects.put_multipart_opts(path, options).await?;
        let faulty = self.clone();
        Ok(Box::new(FaultyUpload { upload, faulty }))
    }

    async fn get_opts(&self, path: &path::Path, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<path::Path>>,
    ) -> BoxStream<'static, Result<path::Path>> {
        let this = self.clone();
        let delete = move |path: path::Path| {
            let this = this.clone();
            async move {
                this.call()?;
                this.objects.delete(&path).await.map(|()| path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&path::Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.call() {
            Ok(()) => self.objects.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, _: Option<&path::Path>) -> Result<ListResult> {
        unreachable!("nobody asks for it")
    }

    async fn copy_opts(&self, _: &path::Path, _: &path::Path, _: CopyOptions) -> Result<()> {
        unreachable!("nobody asks for it")
    }
}

/// An upload in parts, each of which is a call.
#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    faulty: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.faulty.call() {
            Ok(()) => self.upload.put_part(data),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faulty.call()?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.faulty.call()?;
        self.upload.abort().await
    }
}

/// A store that does not fail, and the same one that does.
fn pair(fails: Range<usize>) -> (Store, Store) {
    let objects = Arc::new(InMemory::new());
    let good = over(objects.clone());
    let faulty = Store {
        objects: Arc::new(Faulty {
            objects,
            calls: Arc::default(),
            fails,
        }),
        ..good.clone()
    };
    (good, faulty)
}

/// Runs a test with each call that fails alone or first of all others, until none fails; returns how many there are.
async fn at_every_call<F: Future<Output = bool>>(test: impl Fn(Range<usize>) -> F) -> usize {
    for number in 0.. {
        let alone = test(number..number + 1).await;
        let first = test(number..usize::MAX).await;
        assert_eq!(alone, first);
        if alone {
            return number;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_write_that_fails_anywhere_leaves_no_snapshot() {
    // Of one part, and of several.
    for (sectors, calls) in [(3, 3), (21 * 1024, 7)] {
        let data = etcd(sectors);
        let failed_at = at_every_call(|fails| async {
            let (owner, id, alone) = (owner("a"), about().id(), fails.len() == 1);
            let (good, faulty) = pair(fails);
            let written = faulty.write(&owner, about(), chunks(&data, 4096)).await;
            if written.is_err() {
                assert_eq!(good.list(&owner).await.unwrap(), []);
                assert!(!alone || good.everything(&owner).await.unwrap().is_empty());
                good.write(&owner, about(), chunks(&data, 4096)).await.unwrap();
            }
            good.verify(&owner, id).await.unwrap();
            written.is_ok()
        });
        assert_eq!(failed_at.await, calls);
    }
}

#[tokio::test]
async fn a_read_that_fails_anywhere_says_so() {
    let data = etcd(3);
    let failed_at = at_every_call(|fails| async {
        let (owner, (good, faulty)) = (owner("a"), pair(fails));
        good.write(&owner, about(), chunks(&data, 4096)).await.unwrap();
        let read = faulty.verify(&owner, about().id()).await;
        assert!(matches!(read, Ok(_) | Err(SnapshotError::Store { .. })));
        read.is_ok()
    });
    assert_eq!(failed_at.await, 3);
}

#[tokio::test]
async fn what_has_a_manifest_is_whole_though_deleting_fails_anywhere() {
    let data = etcd(1);
    let (data, now) = (&data, at("2026-11-28T12:00:00Z"));
    for all in [true, false] {
        let failed_at = at_every_call(|fails| async move {
            let (owner, (good, faulty)) = (owner("a"), pair(fails));
            let mut ids = Vec::new();
            for number in 1..=3 {
                let taken_at = now - hours(number);
                let about = About { taken_at, ..about() };
                ids.push(about.id());
                good.write(&owner, about, chunks(data, 600)).await.unwrap();
            }
            let delete = async |store: &Store| {
                if all {
                    return store.delete_all(&owner).await;
                }
                store.delete_older_than(&owner, hours(0), 0, now).await.map(drop)
            };
            let deleted = delete(&faulty).await;
            for id in ids {
                if good.manifest(&owner, id).await.is_ok() {
                    good.verify(&owner, id).await.unwrap();
                }
            }
            delete(&good).await.unwrap();
            assert_eq!(good.list(&owner).await.unwrap(), []);
            deleted.is_ok()
        });
        assert_eq!(failed_at.await, 7);
    }
}
