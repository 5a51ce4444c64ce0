use std::time::{Duration, Instant};

use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use proptest::prelude::*;

use super::*;

async fn comes_back(store: &Store, data: &[u8], size: usize) {
    let owner = owner("a");
    let manifest = store.write(&owner, about(), chunks(data, size)).await.unwrap();
    assert_eq!(manifest.bytes, data.len() as u64);
    assert_eq!(manifest.sha256, hex::encode(Sha256::digest(data)));
    assert_eq!(manifest.about.taken_at, at("2026-11-28T04:14:10Z"));
    let id = about().id();
    let mut read = Vec::new();
    assert_eq!(store.read(&owner, id, &mut read).await.unwrap(), manifest);
    assert!(read == data, "{} bytes by {size}", data.len());
    assert_eq!(store.manifest(&owner, id).await.unwrap(), manifest);
    assert_eq!(store.verify(&owner, id).await.unwrap(), manifest);
    let listed = store.list(&owner).await.unwrap();
    assert_eq!(listed.iter().map(|found| found.id).collect::<Vec<_>>(), [id]);
    assert!(listed[0].stored_bytes > manifest.bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_written_comes_back(sectors in 1..400_usize, size in 1..70_000_usize) {
        let data = etcd(sectors);
        block_on(comes_back(&in_memory(), &data, size.max(data.len() / 500)));
    }
}

#[tokio::test]
async fn many_parts_come_back_from_a_directory() {
    let data = etcd(13 * 2048 + 1);
    for size in [1_000_003, data.len()] {
        comes_back(&Fixture::new().store, &data, size).await;
    }
}

#[tokio::test]
async fn sizes_around_a_part_come_back() {
    for sectors in [5 * 2048 - 1, 5 * 2048, 5 * 2048 + 1, 10 * 2048] {
        comes_back(&in_memory(), &etcd(sectors), 65_536).await;
    }
}

#[tokio::test]
async fn empty_chunks_are_nothing() {
    let owner = owner("a");
    let empty = || stream::iter([Ok(Bytes::new())]);
    let data = etcd(3);
    let stream = empty().chain(chunks(&data, 100)).chain(empty());
    let manifest = in_memory().write(&owner, about(), stream).await.unwrap();
    assert_eq!(manifest.bytes, 3 * 512 + 32);
}

#[tokio::test]
async fn a_snapshot_is_never_written_over() {
    let fixture = Fixture::new();
    fixture.write(about(), &etcd(1)).await.unwrap();
    let error = fixture.write(about(), &etcd(2)).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Exists { .. }), "{error}");
    assert_eq!(fixture.read(about().id()).await.unwrap().1, etcd(1));
}

#[tokio::test]
async fn a_new_key_is_put_before_the_old_one() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.store.keys.clone(), Keys::generate());
    let old = fixture.write_at(at("2026-11-28T04:00:00Z")).await;
    let rotated = Keys::parse(&(second.expose() + "\n# the old one\n" + &first.expose())).unwrap();
    let both = fixture.with_keys(rotated);
    both.verify(&fixture.owner, old).await.unwrap();
    both.write(&fixture.owner, about(), chunks(&etcd(2), 99))
        .await
        .unwrap();
    let only_new = fixture.with_keys(second);
    only_new.verify(&fixture.owner, about().id()).await.unwrap();
    let error = only_new.verify(&fixture.owner, old).await.unwrap_err();
    assert!(matches!(error, SnapshotError::WrongKey { .. }), "{error}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_waited_for() {
    let never = Duration::from_hours(1);
    let slow = ThrottledStore::new(
        InMemory::new(),
        ThrottleConfig {
            wait_get_per_call: never,
            wait_list_per_call: never,
            wait_put_per_call: never,
            wait_delete_per_call: never,
            ..ThrottleConfig::default()
        },
    );
    let store = Store {
        request_timeout: Duration::from_millis(10),
        ..over(Arc::new(slow))
    };
    let (owner, id) = (owner("a"), about().id());
    let begun = Instant::now();
    let errors = [
        store
            .write(&owner, about(), chunks(&etcd(1), 99))
            .await
            .unwrap_err(),
        store.verify(&owner, id).await.unwrap_err(),
        store.list(&owner).await.unwrap_err(),
        store.delete(&owner, id).await.unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(error, SnapshotError::Unreachable { .. }) && error.is_transient(),
            "{error}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}
