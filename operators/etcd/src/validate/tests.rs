//! Each field, right and wrong.

use super::*;
use crate::fixtures::{one, three};
use crate::version::FlagStyle;

#[test]
fn a_good_spec_is_taken() {
    let cluster = validate(&three()).unwrap();
    assert_eq!(cluster.members, 3);
    assert_eq!(cluster.release.version.to_string(), "3.7.3");
    assert_eq!(cluster.resources.go_memory_limit, "384MiB");
    assert_eq!(
        cluster.labels.keys().collect::<Vec<_>>(),
        ["skep.dev/class", "skep.dev/cpid", "skep.dev/project"]
    );
    let cluster = validate(&one()).unwrap();
    assert_eq!(
        cluster.resources.go_memory_limit,
        format!("{}B", (512 << 20) / 5 * 4)
    );
}

#[test]
fn the_token_tells_a_namesake_from_its_predecessor() {
    let first = validate(&three()).unwrap();
    let mut object = three();
    object.metadata.uid = Some("another".into());
    assert_ne!(first.token(), validate(&object).unwrap().token());
    assert_eq!(first.token().len(), 32);
}

#[test]
fn each_mistake_names_its_field() {
    let wrong = |field: &str, change: &dyn Fn(&mut EtcdCluster)| {
        let mut object = three();
        change(&mut object);
        let error = validate(&object).expect_err(field);
        assert_eq!(error.field, field, "{error}");
    };
    for version in [
        "3.7.0", "3.6.13", "3.5.32", "3.4.40", "3.8.0", "4.0.0", "3.7", "latest", "",
    ] {
        wrong("version", &|object| object.spec.version = version.into());
    }
    for members in [0, 2, 4, -1, 7] {
        wrong("members", &|object| object.spec.members = members);
    }
    for quota in [0, -1, 1 << 20, 9 << 30, 1 << 30] {
        wrong("quotaBytes", &|object| object.spec.quota_bytes = quota);
    }
    for size in ["", "2", "-1Gi", "lots", "1Gi"] {
        let field = if Bytes::parse(size).is_some() {
            "quotaBytes"
        } else {
            "volumeSize"
        };
        wrong(field, &|object| object.spec.volume_size = size.into());
    }
    for image in ["", "an image", "a\nb"] {
        wrong("image", &|object| object.spec.image = image.into());
    }
    wrong("storageClass", &|object| object.spec.storage_class = "A".into());
    wrong("priorityClass", &|object| {
        object.spec.priority_class = Some("a b".into());
    });
    wrong("clients", &|object| object.spec.clients = vec!["../x".into()]);
    wrong("clients", &|object| object.spec.clients = vec!["x".repeat(31)]);
    wrong("resources.cpu", &|object| {
        object.spec.resources.cpu = "none".into();
    });
    wrong("resources.memory", &|object| {
        object.spec.resources.memory = "0".into();
    });
    wrong("resources.memoryLimit", &|object| {
        object.spec.resources.memory_limit = "1Mi".into();
    });
    wrong("resources.goMemoryLimit", &|object| {
        object.spec.resources.go_memory_limit = Some("384Mi --flag".into());
    });
    wrong("metadata.name", &|object| {
        object.metadata.name = Some("x".repeat(31));
    });
    wrong("metadata.name", &|object| {
        object.metadata.name = Some("1a".into());
    });
}

#[test]
fn flags_follow_the_version() {
    assert_eq!(
        EtcdVersion::parse("3.5.33").unwrap().flag_style(),
        FlagStyle::Experimental
    );
    assert_eq!(
        EtcdVersion::parse("3.6.14").unwrap().flag_style(),
        FlagStyle::FeatureGates
    );
    assert_eq!(
        EtcdVersion::parse("3.7.1").unwrap().flag_style(),
        FlagStyle::FeatureGates
    );
}

fn with_snapshots(store: &serde_json::Value) -> EtcdCluster {
    let mut object = three();
    let policy = serde_json::json!({"store": store, "keysSecret": "snapshot-keys"});
    object.spec.snapshots = Some(serde_json::from_value(policy).unwrap());
    object
}

#[test]
fn a_policy_of_snapshots_has_defaults() {
    let cluster = validate(&with_snapshots(
        &serde_json::json!({"s3": {"bucket": "snapshots"}}),
    ))
    .unwrap();
    let policy = cluster.snapshots.unwrap();
    assert_eq!(policy.location.to_string(), "s3://snapshots");
    assert_eq!(policy.every, jiff::SignedDuration::from_hours(1));
    assert_eq!(policy.keep, jiff::SignedDuration::from_hours(24 * 7));
    assert_eq!(policy.keep_at_least, 3);
}

#[test]
fn each_mistake_about_snapshots_names_its_field() {
    for (store, field) in [
        (serde_json::json!({}), "snapshots.store"),
        (
            serde_json::json!({"directory": "/a", "s3": {"bucket": "snapshots"}}),
            "snapshots.store",
        ),
        (
            serde_json::json!({"directory": "a/b"}),
            "snapshots.store.directory",
        ),
        (
            serde_json::json!({"s3": {"bucket": "Snapshots"}}),
            "snapshots.store.s3.bucket",
        ),
        (
            serde_json::json!({"s3": {"bucket": "snapshots", "prefix": "/a"}}),
            "snapshots.store.s3.prefix",
        ),
        (
            serde_json::json!({"s3": {"bucket": "snapshots", "endpoint": "ftp://a"}}),
            "snapshots.store.s3.endpoint",
        ),
        (
            serde_json::json!({"s3": {"bucket": "snapshots", "ca": "no"}}),
            "snapshots.store.s3.ca",
        ),
    ] {
        let error = validate(&with_snapshots(&store)).expect_err(field);
        assert_eq!(error.field, field, "{error}");
    }
}

#[test]
fn a_restore_names_a_snapshot_and_needs_a_store() {
    let source = |owner: &str, snapshot: &str| {
        Some(RestoreSource {
            name: "r".into(),
            owner: Some(owner.into()),
            snapshot: Some(snapshot.into()),
            member: None,
        })
    };
    let good = source("u-1", "20261128T041410Z-0000000000000004711");
    let mut object = three();
    object.spec.restore.clone_from(&good);
    assert_eq!(validate(&object).unwrap_err().field, "restore");
    let mut object = with_snapshots(&serde_json::json!({"s3": {"bucket": "snapshots"}}));
    object.spec.restore.clone_from(&good);
    assert_eq!(validate(&object).unwrap().restore, good);
    object.spec.restore = source("../x", "20261128T041410Z-0000000000000004711");
    assert_eq!(validate(&object).unwrap_err().field, "restore.owner");
    object.spec.restore = source("u-1", "newest");
    assert_eq!(validate(&object).unwrap_err().field, "restore.snapshot");
    object.spec.restore.as_mut().unwrap().member = Some("etcd-a".into());
    assert_eq!(validate(&object).unwrap_err().field, "restore");
    // From a member nothing is needed but the member.
    let mut object = three();
    object.spec.restore = Some(RestoreSource {
        name: "r".into(),
        snapshot: None,
        owner: None,
        member: Some("etcd-a".into()),
    });
    assert!(validate(&object).is_ok());
    object.spec.restore.as_mut().unwrap().member = Some("No Name".into());
    assert_eq!(validate(&object).unwrap_err().field, "restore.member");
}
