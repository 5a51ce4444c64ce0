use std::error::Error;

use futures::StreamExt;
use proptest::prelude::*;

use super::*;
use crate::Damage;
use crate::store::{BODY, MANIFEST};

async fn refused(fixture: &Fixture, data: &[u8]) -> Damage {
    let error = fixture.write(about(), data).await.unwrap_err();
    assert_eq!(fixture.files(), Vec::<PathBuf>::new(), "something was left");
    match error {
        SnapshotError::Stream { damage } => damage,
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stream_that_is_cut_off_leaves_nothing(length in 0..4127_usize) {
        // One that ends with a sector and 32 bytes has the wrong checksum, any other the wrong length.
        let damage = block_on(refused(&Fixture::new(), &etcd(8)[..length]));
        prop_assert!(matches!(damage, Damage::CutOff | Damage::Checksum), "{damage}");
    }

    #[test]
    fn a_flipped_bit_of_a_stream_leaves_nothing(position in 0..4128_usize, bit in 0..8) {
        let mut data = etcd(8);
        data[position] ^= 1_u8 << bit;
        let damage = block_on(refused(&Fixture::new(), &data));
        prop_assert_eq!(damage, Damage::Checksum);
    }

    #[test]
    fn a_flipped_bit_in_the_store_is_found(name in prop::sample::select(vec![BODY, MANIFEST]), position: prop::sample::Index, bit in 0..8) {
        let fixture = Fixture::new();
        let error = block_on(async {
            fixture.write(about(), &etcd(300)).await.unwrap();
            let file = fixture.file(&fixture.owner, about().id(), name);
            let mut stored = std::fs::read(&file).unwrap();
            let position = position.index(stored.len());
            stored[position] ^= 1_u8 << bit;
            std::fs::write(&file, stored).unwrap();
            fixture.read(about().id()).await.unwrap_err()
        });
        let expected = match error {
            SnapshotError::Corrupt { .. } => true,
            // The first lines of a manifest say which key: they do not tell another one from a damage.
            SnapshotError::WrongKey { .. } => name == MANIFEST,
            _ => false,
        };
        prop_assert!(expected, "{error}");
    }

    #[test]
    fn a_file_in_the_store_that_is_cut_off_is_found(name in prop::sample::select(vec![BODY, MANIFEST]), length: prop::sample::Index) {
        let fixture = Fixture::new();
        let error = block_on(async {
            fixture.write(about(), &etcd(300)).await.unwrap();
            let file = fixture.file(&fixture.owner, about().id(), name);
            let stored = std::fs::read(&file).unwrap();
            std::fs::write(&file, &stored[..length.index(stored.len())]).unwrap();
            fixture.read(about().id()).await.unwrap_err()
        });
        prop_assert!(matches!(error, SnapshotError::Corrupt { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let fixture = Fixture::new();
    let data = etcd(13 * 2048);
    let broken = stream::iter([Err(io::Error::other("etcd was killed"))]);
    let stream = chunks(&data[..12 << 20], 100_000).chain(broken);
    let error = fixture
        .store
        .write(&fixture.owner, about(), stream)
        .await
        .unwrap_err();
    assert!(
        matches!(error, SnapshotError::Source(_)) && error.is_transient(),
        "{error}"
    );
    assert_eq!(error.source().unwrap().to_string(), "etcd was killed");
    assert_eq!(fixture.files(), Vec::<PathBuf>::new());

    let mut flipped = data;
    flipped[77] ^= 4;
    assert_eq!(refused(&fixture, &flipped).await, Damage::Checksum);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let fixture = Fixture::new();
    fixture.write(about(), &etcd(1)).await.unwrap();
    for name in [BODY, MANIFEST] {
        std::fs::remove_file(fixture.file(&fixture.owner, about().id(), name)).unwrap();
        let error = fixture.read(about().id()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, SnapshotError::NotFound { .. }) && text.ends_with(name),
            "{text}"
        );
        assert_eq!(fixture.store.list(&fixture.owner).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_found() {
    let location = Location::directory(Path::new("/nowhere/to/be/found")).unwrap();
    let error = Store::open(location, None, Keys::generate(), REQUEST_TIMEOUT).unwrap_err();
    assert!(matches!(error, SnapshotError::NotFound { .. }), "{error}");
    assert_eq!(error.to_string(), "there is no /nowhere/to/be/found");
}

#[tokio::test]
async fn another_cluster_s_snapshot_is_foreign() {
    let fixture = Fixture::new();
    fixture.write(about(), &etcd(1)).await.unwrap();
    let later = About {
        taken_at: at("2026-11-28T05:00:00Z"),
        ..about()
    };
    let other = owner("other");
    for (to, id) in [(&other, about().id()), (&fixture.owner, later.id())] {
        std::fs::create_dir_all(fixture.file(to, id, "")).unwrap();
        for name in [BODY, MANIFEST] {
            let from = fixture.file(&fixture.owner, about().id(), name);
            std::fs::copy(from, fixture.file(to, id, name)).unwrap();
        }
        let error = fixture.store.verify(to, id).await.unwrap_err();
        let SnapshotError::Foreign { owner, id, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((owner, id), (fixture.owner.clone(), about().id()));
    }
}

#[tokio::test]
async fn another_snapshot_s_body_is_no_body() {
    let fixture = Fixture::new();
    let later = About {
        taken_at: at("2026-11-28T05:00:00Z"),
        ..about()
    };
    for sectors in [2, 5, 200] {
        fixture.write(about(), &etcd(2)).await.unwrap();
        fixture.write(later.clone(), &etcd(sectors)).await.unwrap();
        let body = |about: &About| fixture.file(&fixture.owner, about.id(), BODY);
        std::fs::copy(body(&later), body(&about())).unwrap();
        let read = fixture.read(about().id()).await;
        match (sectors, read) {
            (2, Ok((_, data))) => assert_eq!(data, etcd(2), "the same content is the same snapshot"),
            (_, Err(SnapshotError::Corrupt { damage, .. })) => {
                assert!(matches!(damage, Damage::Differs | Damage::CutOff), "{damage}");
            }
            (_, read) => panic!("{:?}", read.map(drop)),
        }
        fixture.store.delete_all(&fixture.owner).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_of_another_key_is_no_body() {
    let fixture = Fixture::new();
    fixture.write(about(), &etcd(1)).await.unwrap();
    let body = fixture.file(&fixture.owner, about().id(), BODY);
    std::fs::write(body, Keys::generate().seal(&etcd(1)).unwrap()).unwrap();
    let error = fixture.read(about().id()).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn the_format_of_a_later_version_is_refused() {
    let fixture = Fixture::new();
    fixture.write(about(), &etcd(1)).await.unwrap();
    let file = fixture.file(&fixture.owner, about().id(), MANIFEST);
    let keys = &fixture.store.keys;
    for (text, expected) in [
        (r#"{"format": 2, "somethingNew": true}"#, Damage::Format(2)),
        (r#"{"format": 1}"#, Damage::NoManifest),
        ("no JSON", Damage::NoManifest),
    ] {
        std::fs::write(&file, keys.seal(text.as_bytes()).unwrap()).unwrap();
        let error = fixture.read(about().id()).await.unwrap_err();
        let SnapshotError::Corrupt { damage, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(damage, expected);
    }
    std::fs::write(&file, vec![b'a'; 100_000]).unwrap();
    let error = fixture.read(about().id()).await.unwrap_err();
    assert!(error.to_string().ends_with("it is no manifest"), "{error}");
}

#[tokio::test]
async fn a_sink_that_fails_is_not_the_store_s_fault() {
    let fixture = Fixture::new();
    fixture.write(about(), &etcd(100)).await.unwrap();
    let mut small = [0; 1000];
    let sink = io::Cursor::new(&mut small[..]);
    let error = fixture
        .store
        .read(&fixture.owner, about().id(), sink)
        .await
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Sink { .. }), "{error}");
}

#[test]
fn what_somebody_has_to_do_is_told_apart() {
    #[derive(Debug, thiserror::Error)]
    #[error("Server returned non-2xx status code: {0}: <Error/>")]
    struct Status(&'static str);

    let of = |source: Box<dyn Error + Send + Sync>| {
        let generic = object_store::Error::Generic { store: "S3", source };
        SnapshotError::of_store("it".into(), None, generic.into()).category()
    };
    assert_eq!(of(Status("507 Insufficient Storage").into()), "full");
    assert_eq!(of(Status("503 Slow Down").into()), "unreachable");
    assert_eq!(of(Status("403 Forbidden").into()), "refused");
    assert_eq!(of(Status("404 Not Found").into()), "not-found");
    assert_eq!(of(Status("400 Bad Request").into()), "store");
    // ENOSPC, EDQUOT and EACCES
    assert_eq!(of(io::Error::from_raw_os_error(28).into()), "full");
    assert_eq!(of(io::Error::from_raw_os_error(122).into()), "full");
    assert_eq!(of(io::Error::from_raw_os_error(13).into()), "refused");
}
