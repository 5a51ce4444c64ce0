use super::*;
use crate::{Bucket, Credentials};

fn bucket() -> Bucket {
    Bucket {
        name: "snapshots".into(),
        prefix: "cells/one".into(),
        region: "eu-central-1".into(),
        endpoint: Some("https://store.example.org:9000".into()),
        ca: None,
    }
}

fn refused(bucket: Bucket) -> &'static str {
    Location::s3(bucket).unwrap_err().field
}

#[test]
fn a_location_that_can_be_is_taken() {
    assert_eq!(
        Location::s3(bucket()).unwrap().to_string(),
        "s3://snapshots/cells/one"
    );
    for endpoint in [None, Some("http://10.0.0.1:7070/"), Some("http://[::1]:7070")] {
        let endpoint = endpoint.map(str::to_owned);
        let bucket = Bucket {
            prefix: String::new(),
            endpoint,
            ..bucket()
        };
        let location = Location::s3(bucket).unwrap();
        assert_eq!(format!("{location:?}"), "Location(s3://snapshots)");
        let credentials = Credentials {
            access_key: "ACCESS".into(),
            secret_key: "SECRET".into(),
        };
        let store = Store::open(location, Some(&credentials), Keys::generate(), REQUEST_TIMEOUT).unwrap();
        assert_eq!(
            format!("{store:?}"),
            "Store { location: Location(s3://snapshots), .. }"
        );
        assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
    }
    assert_eq!(
        Location::directory(Path::new("/srv/snapshots"))
            .unwrap()
            .to_string(),
        "/srv/snapshots"
    );
}

#[test]
fn a_field_that_cannot_be_is_named() {
    for name in ["", "ab", "Upper", "a/b", "-ab", "ab-", &"a".repeat(64)] {
        assert_eq!(
            refused(Bucket {
                name: name.into(),
                ..bucket()
            }),
            "bucket",
            "{name}"
        );
    }
    for prefix in [
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "a b",
        "a%2Fb",
        &"a".repeat(513),
    ] {
        assert_eq!(
            refused(Bucket {
                prefix: prefix.into(),
                ..bucket()
            }),
            "prefix",
            "{prefix}"
        );
    }
    for region in ["", "a.b", "a/b"] {
        assert_eq!(
            refused(Bucket {
                region: region.into(),
                ..bucket()
            }),
            "region",
            "{region}"
        );
    }
    for endpoint in [
        "",
        "store.example.org",
        "ftp://store",
        "https://",
        "https://user:secret@store",
        "https://store/path",
        "https://store/?a=b",
    ] {
        let bucket = Bucket {
            endpoint: Some(endpoint.into()),
            ..bucket()
        };
        assert_eq!(refused(bucket), "endpoint", "{endpoint}");
    }
    for ca in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
    ] {
        let bucket = Bucket {
            ca: Some(ca.into()),
            ..bucket()
        };
        assert_eq!(refused(bucket), "ca", "{ca}");
    }
    let error = Location::directory(Path::new("snapshots")).unwrap_err();
    assert_eq!(error.to_string(), "directory must be an absolute path");
}
