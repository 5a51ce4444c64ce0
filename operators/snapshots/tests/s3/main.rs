//! Against a real store that speaks S3, over real TCP and TLS: versitygw over a directory.
//!
//! `SKEP_TEST_PROGRAMS` is the JSON that the distribution's example `ensure` prints with the programs for tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use skep_pki::CertificateAuthority;
use skep_snapshots::{About, Bucket, Damage, Keys, Location, Owner, REQUEST_TIMEOUT, SnapshotError, Store};

use server::{SECRET_KEY, SHORT_TIMEOUT, Server, Small};

const MEBIBYTE: usize = 1 << 20;

fn owner() -> Owner {
    Owner::new("8f0c0f0e-7f5e-4f0c-9d3a-0c9c8f0e7f5e").unwrap()
}

fn about(taken_at: Timestamp) -> About {
    About {
        cluster: "shop".into(),
        etcd_version: "3.7.3".into(),
        cluster_id: 1,
        revision: Some(4711),
        content: None,
        taken_at,
    }
}

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

/// A database of whole sectors with etcd's checksum behind it.
fn etcd(bytes: usize) -> Bytes {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    let mut data: Vec<u8> = (0..bytes / 8).flat_map(|_| next()).collect();
    let hash = Sha256::digest(&data);
    data.extend(hash);
    data.into()
}

fn chunks(data: &Bytes) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let data = data.clone();
    let starts = (0..data.len()).step_by(100_000);
    stream::iter(starts.map(move |start| Ok(data.slice(start..data.len().min(start + 100_000)))))
}

async fn round_trip(store: &Store, bytes: usize) {
    let (owner, data) = (owner(), etcd(bytes));
    let written = store.write(&owner, about(now()), chunks(&data)).await.unwrap();
    let mut read = Vec::new();
    let id = written.about.id();
    assert_eq!(store.read(&owner, id, &mut read).await.unwrap(), written);
    assert!(data == read);
}

fn told(error: &SnapshotError) -> String {
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.fold(error.to_string(), |text, error| format!("{text}: {error}"))
}

#[tokio::test]
async fn what_is_written_in_parts_comes_back() {
    let server = Server::start().await;
    let store = server.store();
    round_trip(&store, 20 * MEBIBYTE).await;
    let listed = store.list(&owner()).await.unwrap();
    assert_eq!(listed.len(), 1);
    let stored = usize::try_from(listed[0].stored_bytes).unwrap();
    assert!((20 * MEBIBYTE..21 * MEBIBYTE).contains(&stored), "{stored}");
}

#[tokio::test]
async fn lists_and_deletes_go_by_time_and_owner() {
    let server = Server::start().await;
    let store = server.store();
    let (owner, data) = (owner(), etcd(4096));
    let neighbour = Owner::new(&format!("{owner}-b")).unwrap();
    let mut ids = Vec::new();
    for hours in [72, 50, 1] {
        let about = about(now() - SignedDuration::from_hours(hours));
        store
            .write(&neighbour, about.clone(), chunks(&data))
            .await
            .unwrap();
        ids.push(
            store
                .write(&owner, about, chunks(&data))
                .await
                .unwrap()
                .about
                .id(),
        );
    }
    let listed = || async {
        let listed = store.list(&owner).await.unwrap();
        listed.into_iter().map(|found| found.id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [ids[2], ids[1], ids[0]]);
    let age = SignedDuration::from_hours(48);
    assert_eq!(
        store.delete_older_than(&owner, age, 2, now()).await.unwrap(),
        [ids[0]]
    );
    assert_eq!(listed().await, [ids[2], ids[1]]);
    for _ in 0..2 {
        store.delete(&owner, ids[2]).await.unwrap();
    }
    store.delete_all(&owner).await.unwrap();
    store.delete_all(&owner).await.unwrap();
    assert_eq!(listed().await, []);
    assert_eq!(store.list(&neighbour).await.unwrap().len(), 3);
    let error = store.verify(&owner, ids[1]).await.unwrap_err();
    assert!(
        matches!(error, SnapshotError::NotFound { .. }),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let server = Server::start().await;
    let (owner, data) = (owner(), etcd(4096));
    let store = server.open(server.bucket(), "another-secret", REQUEST_TIMEOUT);
    for error in [
        store
            .write(&owner, about(now()), chunks(&data))
            .await
            .unwrap_err(),
        store.list(&owner).await.unwrap_err(),
        store.verify(&owner, about(now()).id()).await.unwrap_err(),
        store.delete_all(&owner).await.unwrap_err(),
    ] {
        let text = told(&error);
        assert!(
            matches!(error, SnapshotError::Refused { .. }) && !error.is_transient(),
            "{text}"
        );
        assert!(!text.contains("another-secret"), "{text}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let server = Server::start().await;
    let (owner, data) = (owner(), etcd(6 * MEBIBYTE));
    let bucket = Bucket {
        name: "elsewhere".into(),
        ..server.bucket()
    };
    let store = server.open(bucket, SECRET_KEY, REQUEST_TIMEOUT);
    for error in [
        store
            .write(&owner, about(now()), chunks(&data))
            .await
            .unwrap_err(),
        store.list(&owner).await.unwrap_err(),
        store.verify(&owner, about(now()).id()).await.unwrap_err(),
    ] {
        let text = told(&error);
        assert!(
            matches!(error, SnapshotError::NotFound { .. }) && !error.is_transient(),
            "{text}"
        );
        assert_eq!(error.to_string(), "there is no bucket elsewhere");
    }
}

#[tokio::test]
async fn a_flipped_byte_below_the_server_is_found() {
    let server = Server::start().await;
    let store = server.store();
    round_trip(&store, 11 * MEBIBYTE).await;
    let id = about(now()).id();
    let flip = |name: &str, position: usize| {
        let file = server.file(id, name);
        let mut stored = std::fs::read(&file).unwrap();
        stored[position] ^= 1;
        std::fs::write(&file, stored).unwrap();
    };
    for (name, position) in [("body", 10_000_000), ("manifest", 300)] {
        flip(name, position);
        let error = store.verify(&owner(), id).await.unwrap_err();
        let SnapshotError::Corrupt { object, damage } = &error else {
            panic!("{}", told(&error))
        };
        assert!(object.ends_with(name), "{object}");
        assert_eq!(*damage, Damage::Encryption);
        flip(name, position);
    }
    store.verify(&owner(), id).await.unwrap();
}

#[tokio::test]
async fn a_damaged_stream_leaves_nothing() {
    let server = Server::start().await;
    let store = server.store();
    let mut data = etcd(11 * MEBIBYTE).to_vec();
    data[5] ^= 1;
    let error = store
        .write(&owner(), about(now()), chunks(&data.into()))
        .await
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Stream { .. }), "{}", told(&error));
    assert_eq!(store.list(&owner()).await.unwrap(), []);
    // A part that was on its way when the upload was aborted may stay for the bucket's own rule, as S3 says.
    let is_part = |file: &PathBuf| file.components().any(|part| part.as_os_str() == ".sgwtmp");
    let mut left = files(&server.directory.path().join("root"));
    left.retain(|file| !is_part(file));
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_directory_that_is_full_has_no_snapshot_and_takes_one_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let small = Small::mount(directory.path(), 6);
    let location = Location::directory(directory.path()).unwrap();
    let store = Store::open(location, None, Keys::generate(), REQUEST_TIMEOUT).unwrap();
    let data = etcd(11 * MEBIBYTE);
    let error = store
        .write(&owner(), about(now()), chunks(&data))
        .await
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Full { .. }), "{}", told(&error));
    assert_eq!(store.list(&owner()).await.unwrap(), []);
    small.resize("remount,size", 64);
    round_trip(&store, 11 * MEBIBYTE).await;
}

#[tokio::test]
async fn a_server_that_is_full_has_no_snapshot_and_takes_one_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("root")).unwrap();
    let small = Small::mount(&directory.path().join("root"), 6);
    let server = Server::start_in(directory, None).await;
    let store = server.impatient_store();
    let data = etcd(11 * MEBIBYTE);
    let error = store
        .write(&owner(), about(now()), chunks(&data))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            SnapshotError::Full { .. } | SnapshotError::Unreachable { .. } | SnapshotError::Store { .. }
        ),
        "{}",
        told(&error)
    );
    assert_eq!(server.store().list(&owner()).await.unwrap(), []);
    small.resize("remount,size", 64);
    round_trip(&server.store(), 11 * MEBIBYTE).await;
    // Before the directory that it is mounted in.
    drop(small);
}

/// Every file below a directory, also those that the server does not show, as parts are.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Streams `data`, counts what was taken of it, and calls `then` once that is the half.
fn interrupted(
    data: &Bytes,
    mut then: impl FnMut(),
) -> (Arc<AtomicU64>, impl Stream<Item = io::Result<Bytes>>) {
    let taken = Arc::new(AtomicU64::new(0));
    let (counted, half) = (Arc::clone(&taken), data.len() as u64 / 2);
    let stream = chunks(data).inspect(move |chunk| {
        let bytes = chunk.as_ref().unwrap().len() as u64;
        let before = counted.fetch_add(bytes, Ordering::Relaxed);
        if before < half && before + bytes >= half {
            then();
        }
    });
    (taken, stream)
}

async fn fails_soon(server: &Server, signal: Signal) {
    let data = etcd(40 * MEBIBYTE);
    let (taken, stream) = interrupted(&data, || server.signal(signal));
    let begun = Instant::now();
    let error = server
        .impatient_store()
        .write(&owner(), about(now()), stream)
        .await
        .unwrap_err();
    let text = told(&error);
    assert!(
        matches!(error, SnapshotError::Unreachable { .. }) && error.is_transient(),
        "{text}"
    );
    assert!(
        taken.load(Ordering::Relaxed) < data.len() as u64,
        "it was read to its end"
    );
    assert!(
        begun.elapsed() < SHORT_TIMEOUT * 15,
        "{:?}: {text}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_dies_meanwhile_has_no_snapshot_when_it_is_back() {
    let mut server = Server::start().await;
    fails_soon(&server, Signal::SIGKILL).await;
    server.kill().await;
    server.start_again().await;
    assert_eq!(server.store().list(&owner()).await.unwrap(), []);
    round_trip(&server.store(), 12 * MEBIBYTE).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_not_waited_for() {
    let server = Server::start().await;
    fails_soon(&server, Signal::SIGSTOP).await;
    let store = server.impatient_store();
    for error in [
        store.list(&owner()).await.unwrap_err(),
        store.verify(&owner(), about(now()).id()).await.unwrap_err(),
        store.delete_all(&owner()).await.unwrap_err(),
    ] {
        assert!(
            matches!(error, SnapshotError::Unreachable { .. }),
            "{}",
            told(&error)
        );
    }
    server.signal(Signal::SIGCONT);
    assert_eq!(server.store().list(&owner()).await.unwrap(), []);
}

#[tokio::test]
async fn an_authority_of_the_store_s_own_is_trusted_and_no_other() {
    let authority = |name| CertificateAuthority::create(name, Timestamp::now()).unwrap();
    let (its_own, another) = (authority("store"), authority("another"));
    let server = Server::start_with(Some(&its_own)).await;
    round_trip(&server.store(), 6 * MEBIBYTE).await;
    for ca in [Some(another.certificate().as_str().to_owned()), None] {
        let bucket = Bucket {
            ca,
            ..server.bucket()
        };
        let error = server
            .open(bucket, SECRET_KEY, SHORT_TIMEOUT)
            .list(&owner())
            .await
            .unwrap_err();
        assert!(
            matches!(error, SnapshotError::Unreachable { .. }),
            "{}",
            told(&error)
        );
        assert!(told(&error).contains("UnknownIssuer"), "{}", told(&error));
    }
}
