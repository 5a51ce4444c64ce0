use super::*;
use crate::store::{BODY, MANIFEST};

const NOW: &str = "2026-11-28T12:00:00Z";

async fn listed(fixture: &Fixture) -> Vec<SnapshotId> {
    let listed = fixture.store.list(&fixture.owner).await.unwrap();
    listed.into_iter().map(|found| found.id).collect()
}

/// Snapshots so many hours ago, the oldest first.
async fn written(fixture: &Fixture, ages: &[i64]) -> Vec<SnapshotId> {
    let mut ids = Vec::new();
    for age in ages {
        ids.push(fixture.write_at(at(NOW) - hours(*age)).await);
    }
    ids
}

#[tokio::test]
async fn the_newest_is_listed_first() {
    let fixture = Fixture::new();
    let ids = written(&fixture, &[2, 900, 1, 30]).await;
    let unknown = About {
        revision: None,
        taken_at: at(NOW),
        ..about()
    };
    fixture.write(unknown.clone(), &etcd(1)).await.unwrap();
    let expected = [unknown.id(), ids[2], ids[0], ids[3], ids[1]];
    assert_eq!(listed(&fixture).await, expected);
    let mut names: Vec<_> = expected.iter().map(ToString::to_string).collect();
    names.reverse();
    assert!(names.is_sorted(), "{names:?}");
}

#[tokio::test]
async fn what_is_old_goes_but_for_the_newest() {
    let fixture = Fixture::new();
    let ids = written(&fixture, &[100, 72, 49, 47, 1]).await;
    let delete = |keep| {
        fixture
            .store
            .delete_older_than(&fixture.owner, hours(48), keep, at(NOW))
    };
    assert_eq!(delete(4).await.unwrap(), [ids[0]]);
    assert_eq!(delete(0).await.unwrap(), [ids[2], ids[1]]);
    assert_eq!(delete(0).await.unwrap(), []);
    assert_eq!(listed(&fixture).await, [ids[4], ids[3]]);
    assert_eq!(fixture.files().len(), 4);
    let all = fixture
        .store
        .delete_older_than(&fixture.owner, hours(0), 0, at(NOW));
    assert_eq!(all.await.unwrap().len(), 2);
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_last_ones_stay_however_old_they_are() {
    let fixture = Fixture::new();
    let ids = written(&fixture, &[9000, 8000]).await;
    let deleted = fixture
        .store
        .delete_older_than(&fixture.owner, hours(1), 3, at(NOW))
        .await;
    assert_eq!(
        (deleted.unwrap(), listed(&fixture).await.len()),
        (vec![], ids.len())
    );
}

#[tokio::test]
async fn what_is_left_of_an_upload_goes_after_a_day() {
    let fixture = Fixture::new();
    let ids = written(&fixture, &[30, 20, 10]).await;
    for id in &ids[..2] {
        std::fs::remove_file(fixture.file(&fixture.owner, *id, MANIFEST)).unwrap();
    }
    // What an upload whose process died leaves, and what is nobody's business.
    let unfinished = SnapshotId::new(at(NOW) - hours(40), None);
    for (id, name) in [(unfinished, "body#1"), (ids[2], "note")] {
        std::fs::create_dir_all(fixture.file(&fixture.owner, id, "")).unwrap();
        std::fs::write(fixture.file(&fixture.owner, id, name), "x").unwrap();
    }
    let stray = fixture
        .directory
        .path()
        .join(fixture.owner.as_str())
        .join("stray");
    std::fs::write(&stray, "x").unwrap();
    assert_eq!(listed(&fixture).await, [ids[2]]);
    // They do not count as kept.
    let deleted = fixture
        .store
        .delete_older_than(&fixture.owner, hours(1), 1, at(NOW))
        .await;
    assert_eq!(deleted.unwrap(), []);
    let left: Vec<_> = [
        (unfinished, "body#1"),
        (ids[0], BODY),
        (ids[1], BODY),
        (ids[2], BODY),
        (ids[2], "note"),
    ]
    .into_iter()
    .filter(|(id, name)| fixture.file(&fixture.owner, *id, name).exists())
    .collect();
    assert_eq!(left, [(ids[1], BODY), (ids[2], BODY), (ids[2], "note")]);
    assert!(stray.exists());
}

#[tokio::test]
async fn an_owner_never_sees_another() {
    let fixture = Fixture::new();
    let data = etcd(1);
    let owners = ["a", "a-b", "a-", "b"].map(owner);
    for (number, owner) in (0..).zip(&owners) {
        let about = About {
            taken_at: at(NOW) - hours(number),
            ..about()
        };
        fixture
            .store
            .write(owner, about, chunks(&data, 600))
            .await
            .unwrap();
    }
    fixture.store.delete_all(&owners[0]).await.unwrap();
    for (number, owner) in owners.iter().enumerate() {
        let listed = fixture.store.list(owner).await.unwrap();
        assert_eq!(listed.len(), usize::from(number > 0), "{owner}");
    }
    let deleted = fixture
        .store
        .delete_older_than(&owners[2], hours(0), 0, at(NOW))
        .await;
    assert_eq!(deleted.unwrap().len(), 1);
    assert_eq!(fixture.store.list(&owners[1]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn deleting_may_be_repeated() {
    let fixture = Fixture::new();
    let id = fixture.write_at(at(NOW)).await;
    for _ in 0..2 {
        fixture.store.delete(&fixture.owner, id).await.unwrap();
        fixture.store.delete_all(&fixture.owner).await.unwrap();
        let deleted = fixture
            .store
            .delete_older_than(&fixture.owner, hours(0), 0, at(NOW))
            .await;
        assert_eq!(deleted.unwrap(), []);
    }
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());
}
