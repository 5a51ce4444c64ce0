use proptest::prelude::*;

use super::*;
use crate::InvalidKeys;

proptest! {
    #[test]
    fn an_id_is_read_as_it_is_written(second in 0..253_402_300_799_i64, revision in prop::option::of(0..i64::MAX)) {
        let id = SnapshotId::new(Timestamp::from_second(second).unwrap(), revision);
        prop_assert_eq!(id.to_string().parse::<SnapshotId>().unwrap(), id);
    }

    #[test]
    fn names_sort_by_time(one in 0..253_402_300_799_i64, other in 0..253_402_300_799_i64) {
        let name = |second| SnapshotId::new(Timestamp::from_second(second).unwrap(), Some(1)).to_string();
        prop_assert_eq!(one.cmp(&other), name(one).cmp(&name(other)));
    }

    #[test]
    fn no_other_text_is_an_id(text in "[0-9]{7,9}[TZ]?[0-9]{5,7}Z?-?(x|[0-9]{17,20})?") {
        if let Ok(id) = text.parse::<SnapshotId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}

#[test]
fn an_id_says_time_and_revision() {
    let id = about().id();
    assert_eq!(id.to_string(), "20261128T041410Z-0000000000000004711");
    assert_eq!(
        (id.taken_at(), id.revision()),
        (at("2026-11-28T04:14:10Z"), Some(4711))
    );
    let unknown = SnapshotId::new(id.taken_at(), None);
    assert_eq!(unknown.to_string(), "20261128T041410Z-x");
    for text in [
        "",
        "20261128T041410Z",
        "20261128T041410Z-4711",
        "20261128T041410Z--000000000000004711",
        "20261128T041410Z-+000000000000004711",
        "20261128T041410Z-9999999999999999999",
        "20261328T041410Z-x",
        "20261128T041460Z-x",
        "20261128T041410Z-x/",
        " 20261128T041410Z-x",
    ] {
        assert!(text.parse::<SnapshotId>().is_err(), "{text}");
    }
}

#[test]
fn an_owner_cannot_leave_its_folder() {
    for text in ["a", "8f0c0f0e-7f5e-4f0c-9d3a-0c9c8f0e7f5e", &"x".repeat(63)] {
        assert_eq!(Owner::new(text).unwrap().as_str(), text);
    }
    for text in ["", "a/b", "..", "a b", "a%2Fb", "ä", &"x".repeat(64)] {
        assert!(Owner::new(text).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<Owner>("\"../a\"").is_err());
}

#[test]
fn keys_are_read_line_by_line_and_never_told() {
    let keys = Keys::generate();
    let text = keys.expose();
    assert!(text.starts_with("AGE-SECRET-KEY-1"), "another form");
    assert_eq!(
        Keys::parse(&format!("# created\n\n  {text}\r\n"))
            .unwrap()
            .expose(),
        text
    );
    let two = Keys::generate().expose() + &text;
    assert_eq!(Keys::parse(&two).unwrap().expose(), two);
    assert_eq!(Keys::parse("\n# nothing\n").unwrap_err(), InvalidKeys::Empty);
    let wrong = format!("{text}{}", text.replace('1', "2"));
    let error = Keys::parse(&wrong).unwrap_err();
    assert_eq!(error, InvalidKeys::Line { line: 2 });
    assert!(!error.to_string().contains(&wrong[20..40]));
    assert_eq!(format!("{keys:?}"), "Keys { .. }");
}

#[test]
fn a_manifest_reads_well() {
    let fixture = Fixture::new();
    let manifest = block_on(fixture.write(about(), &etcd(1))).unwrap();
    let hash = hex::encode(Sha256::digest(etcd(1)));
    let expected = serde_json::json!({
        "format": 1, "owner": "8f0c0f0e-1111", "cluster": "shop", "etcdVersion": "3.7.3",
        "clusterId": "cdf8181fd00d0001", "revision": 4711, "takenAt": "2026-11-28T04:14:10Z",
        "bytes": 544, "sha256": hash,
    });
    assert_eq!(serde_json::to_value(manifest).unwrap(), expected);
}
