//! What a snapshot says of itself, encrypted beside it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::Content;
use crate::error::Damage;
use crate::name::{Owner, SnapshotId};

/// The form of manifest and body; another one is refused.
const FORMAT: u32 = 1;

/// What is known of a snapshot before it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The name of the cluster, for people.
    pub cluster: String,
    /// The version of etcd that made it.
    pub etcd_version: String,
    /// Etcd's own id of the cluster.
    #[serde(with = "hexadecimal")]
    pub cluster_id: u64,
    /// The revision that it holds, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// What the store held at that revision, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Fingerprint>,
    /// When it was taken; seconds count.
    pub taken_at: Timestamp,
}

/// What an etcd holds at a revision, in few numbers: two that hold the same have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fingerprint {
    /// How many keys there are.
    pub keys: i64,
    /// Etcd's own hash of all keys, values and their history.
    pub hash: u32,
    /// The revision before which history was thrown away; hashes of another one are of something else.
    pub compact_revision: i64,
}

impl About {
    /// The snapshot's name in the store.
    pub fn id(&self) -> SnapshotId {
        SnapshotId::new(self.taken_at, self.revision)
    }
}

/// What is known of a snapshot that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    format: u32,
    /// Whose it is.
    pub owner: Owner,
    /// What was said when it was written.
    #[serde(flatten)]
    pub about: About,
    /// Its length, decrypted, with etcd's own checksum at the end.
    pub bytes: u64,
    /// SHA-256 of all these bytes, in hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    pub(crate) fn new(owner: Owner, about: About, content: Content) -> Self {
        let taken_at = about.id().taken_at();
        Self {
            format: FORMAT,
            owner,
            about: About { taken_at, ..about },
            bytes: content.bytes,
            sha256: content.sha256,
        }
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, Damage> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let unreadable = |_| Damage::NoManifest;
        let Format { format } = serde_json::from_slice(text).map_err(unreadable)?;
        if format != FORMAT {
            return Err(Damage::Format(format));
        }
        serde_json::from_slice(text).map_err(unreadable)
    }

    pub(crate) fn describes(&self, content: &Content) -> bool {
        (self.bytes, &self.sha256) == (content.bytes, &content.sha256)
    }
}

/// As etcd prints its ids.
mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
