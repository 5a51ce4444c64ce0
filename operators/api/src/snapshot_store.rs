//! Where snapshots of datastores are kept: shared by every kind that speaks of them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When snapshots of a datastore are taken, where they are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPolicy {
    /// Where they are kept.
    pub store: SnapshotStore,
    /// The Secret beside the datastore whose key `keys` holds age identities, one `AGE-SECRET-KEY-…` a line: the first
    /// encrypts, all of them decrypt.
    #[schemars(length(min = 1, max = 253))]
    pub keys_secret: String,
    /// How many minutes after one snapshot the next is taken.
    #[serde(default = "hourly")]
    #[schemars(range(min = 1, max = 10_080))]
    pub every_minutes: i64,
    /// After how many days a snapshot is deleted.
    #[serde(default = "week")]
    #[schemars(range(min = 1, max = 3650))]
    pub keep_days: i64,
    /// How many of the newest are kept, however old they are.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_at_least: i64,
    /// How many hours after one drill the newest snapshot is restored aside and compared again; never where it is 0.
    #[serde(default = "day")]
    #[schemars(range(min = 0, max = 8760))]
    pub drill_every_hours: i64,
}

fn day() -> i64 {
    24
}

fn hourly() -> i64 {
    60
}

fn week() -> i64 {
    7
}

fn three() -> i64 {
    3
}

/// A store of objects: a bucket or a directory.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.s3) != has(self.directory)").message("exactly one of s3 and directory must be set"))]
pub struct SnapshotStore {
    /// A bucket of a store that speaks S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Store>,
    /// The absolute path of a directory that is the same on every node and in the operator's pod, such as a shared mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1024), regex(pattern = r"^/"))]
    pub directory: Option<String>,
}

/// A bucket of a store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Store {
    /// The bucket's name.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The folder of all snapshots in it, without `/` at its ends.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// The bucket's region.
    #[serde(default = "first_region")]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// The store's URL, where it is not Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300), regex(pattern = r"^https?://"))]
    pub endpoint: Option<String>,
    /// The only authorities that the endpoint is trusted by, PEM, where they are not those of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca: Option<String>,
    /// The Secret beside the datastore with the keys `accessKey` and `secretKey`; the identity of the machine or pod where
    /// it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: Option<String>,
}

fn first_region() -> String {
    "us-east-1".to_owned()
}
