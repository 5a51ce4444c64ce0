//! Where a cluster's snapshots are kept: what its spec says, checked, and the store that this opens.

use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use skep_api::snapshot_store::{S3Store, SnapshotPolicy, SnapshotStore};
use skep_snapshots::{
    Bucket, Credentials, InvalidKeys, InvalidLocation, Keys, Location, REQUEST_TIMEOUT, SnapshotError, Store,
};

use crate::validate::InvalidSpec;

/// The key of the Secret that holds age identities.
pub const KEYS: &str = "keys";
/// The key of the Secret that says who uses the store.
pub const ACCESS_KEY: &str = "accessKey";
/// The key of the Secret that proves it.
pub const SECRET_KEY: &str = "secretKey";

/// When snapshots are taken, where they are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The store as the spec has it.
    pub store: SnapshotStore,
    /// The same, checked.
    pub location: Location,
    /// The Secret with the keys that encrypt.
    pub keys_secret: String,
    /// How long after one snapshot the next is taken.
    pub every: SignedDuration,
    /// After how long a snapshot is deleted.
    pub keep: SignedDuration,
    /// How many of the newest are kept, however old they are.
    pub keep_at_least: usize,
    /// How long after one drill the next is due; none is where it is left out.
    pub drill_every: Option<SignedDuration>,
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A Secret cannot be read.
    #[error("cannot read Secret {secret}")]
    Read {
        /// The Secret's name.
        secret: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// A Secret is not there, or lacks something.
    #[error("Secret {secret} has no {key}")]
    Missing {
        /// The Secret's name.
        secret: String,
        /// What it lacks.
        key: &'static str,
    },
    /// A Secret holds no keys.
    #[error("Secret {secret} holds no age identities")]
    Keys {
        /// The Secret's name.
        secret: String,
        /// Why.
        #[source]
        source: InvalidKeys,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] SnapshotError),
}

impl Policy {
    /// Checks what a spec says.
    pub fn parse(policy: &SnapshotPolicy) -> Result<Self, InvalidSpec> {
        let SnapshotPolicy {
            store,
            keys_secret,
            every_minutes,
            keep_days,
            keep_at_least,
            drill_every_hours,
        } = policy;
        Ok(Self {
            location: parse_location(store)?,
            store: store.clone(),
            keys_secret: keys_secret.clone(),
            every: SignedDuration::from_mins((*every_minutes).max(1)),
            keep: SignedDuration::from_hours(24 * (*keep_days).clamp(1, 3650)),
            keep_at_least: usize::try_from((*keep_at_least).max(1)).unwrap_or(1),
            drill_every: (*drill_every_hours > 0)
                .then(|| SignedDuration::from_hours((*drill_every_hours).min(8760))),
        })
    }
}

/// Checks where a store is.
pub fn parse_location(store: &SnapshotStore) -> Result<Location, InvalidSpec> {
    let invalid = |error: InvalidLocation| {
        let field = match error.field {
            "bucket" => "snapshots.store.s3.bucket",
            "prefix" => "snapshots.store.s3.prefix",
            "region" => "snapshots.store.s3.region",
            "endpoint" => "snapshots.store.s3.endpoint",
            "ca" => "snapshots.store.s3.ca",
            _ => "snapshots.store.directory",
        };
        InvalidSpec::new(field, format!("it must be {}", error.expected))
    };
    match (&store.s3, &store.directory) {
        (Some(s3), None) => {
            let S3Store {
                bucket,
                prefix,
                region,
                endpoint,
                ca,
                credentials_secret: _,
            } = s3.clone();
            let bucket = Bucket {
                name: bucket,
                prefix,
                region,
                endpoint,
                ca,
            };
            Location::s3(bucket).map_err(invalid)
        }
        (None, Some(directory)) => Location::directory(directory.as_ref()).map_err(invalid),
        _ => Err(InvalidSpec::new(
            "snapshots.store",
            "exactly one of s3 and directory must be set",
        )),
    }
}

/// Opens a store with the Secrets of its namespace.
pub async fn open(client: &Client, namespace: &str, policy: &Policy) -> Result<Store, StoreError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = fetch(&secrets, &policy.keys_secret).await?;
    let keys = text(found.as_ref(), &policy.keys_secret, KEYS)?;
    let keys = Keys::parse(&keys).map_err(|source| StoreError::Keys {
        secret: policy.keys_secret.clone(),
        source,
    })?;
    let name = policy
        .store
        .s3
        .as_ref()
        .and_then(|s3| s3.credentials_secret.as_ref());
    let credentials = match name {
        None => None,
        Some(name) => {
            let found = fetch(&secrets, name).await?;
            Some(Credentials {
                access_key: text(found.as_ref(), name, ACCESS_KEY)?,
                secret_key: text(found.as_ref(), name, SECRET_KEY)?,
            })
        }
    };
    Ok(Store::open(
        policy.location.clone(),
        credentials.as_ref(),
        keys,
        REQUEST_TIMEOUT,
    )?)
}

async fn fetch(secrets: &Api<Secret>, name: &str) -> Result<Option<Secret>, StoreError> {
    secrets.get_opt(name).await.map_err(|source| StoreError::Read {
        secret: name.to_owned(),
        source,
    })
}

fn text(secret: Option<&Secret>, name: &str, key: &'static str) -> Result<String, StoreError> {
    let data = secret.and_then(|secret| secret.data.as_ref());
    let bytes = data
        .and_then(|data| data.get(key))
        .map(|ByteString(bytes)| bytes.clone());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| StoreError::Missing {
        secret: name.to_owned(),
        key,
    })
}
