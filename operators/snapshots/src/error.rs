//! What can fail, told apart by what somebody has to do about it. Never holds key material.

use std::error::Error;
use std::{io, iter};

use object_store::client::HttpError;
use tokio::time::error::Elapsed;

use crate::name::{Owner, SnapshotId};

pub(crate) type Source = Box<dyn Error + Send + Sync>;

/// A snapshot that was not written, found, read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store, the bucket or an object is not there.
    #[error("there is no {object}")]
    NotFound {
        /// What is not there.
        object: String,
        /// The store's answer.
        #[source]
        source: Source,
    },
    /// The store does not take the credentials, or they may not do this.
    #[error("the store refuses access to {object}")]
    Refused {
        /// What was asked for.
        object: String,
        /// The store's answer.
        #[source]
        source: Source,
    },
    /// The store has no room.
    #[error("there is no room for {object}")]
    Full {
        /// What was to be written.
        object: String,
        /// The store's answer.
        #[source]
        source: Source,
    },
    /// No answer, none in time, or one that says that the store is not well.
    #[error("the store does not answer for {object}")]
    Unreachable {
        /// What was asked for.
        object: String,
        /// Why not.
        #[source]
        source: Source,
    },
    /// Any other answer of the store.
    #[error("the store fails at {object}")]
    Store {
        /// What was asked for.
        object: String,
        /// The store's answer.
        #[source]
        source: Source,
    },
    /// What is in the store is not what was written there.
    #[error("{object} is damaged: {damage}")]
    Corrupt {
        /// What is damaged.
        object: String,
        /// How.
        damage: Damage,
    },
    /// Another cluster's snapshot, or another one of the same cluster, was put in its place.
    #[error("{object} is the snapshot {id} of {owner}")]
    Foreign {
        /// Where it lies.
        object: String,
        /// Whose it is.
        owner: Owner,
        /// Which one it is.
        id: SnapshotId,
    },
    /// None of the keys decrypts it, or the first bytes of it are damaged.
    #[error("none of the keys opens {object}")]
    WrongKey {
        /// What it was about.
        object: String,
    },
    /// A snapshot of this second and revision is there.
    #[error("{object} exists")]
    Exists {
        /// The snapshot.
        object: String,
    },
    /// What etcd sent is not a whole database; nothing was kept of it.
    #[error("etcd's stream is damaged: {damage}")]
    Stream {
        /// How.
        damage: Damage,
    },
    /// The stream that was to be written broke off; nothing was kept of it.
    #[error("etcd's stream broke off")]
    Source(#[source] Source),
    /// What was read could not be handed on.
    #[error("cannot hand on {object}")]
    Sink {
        /// What was read.
        object: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How bytes differ from what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not a database and a checksum, or less of it than there was.
    #[error("it is cut off")]
    CutOff,
    /// Etcd's own checksum is of something else.
    #[error("etcd's checksum does not match")]
    Checksum,
    /// Something was changed after it was encrypted.
    #[error("it does not decrypt")]
    Encryption,
    /// The body is a whole one, but not this manifest's.
    #[error("it is not what its manifest says")]
    Differs,
    /// A manifest that cannot be read.
    #[error("it is no manifest")]
    NoManifest,
    /// The form of a later version.
    #[error("it has the unknown format {0}")]
    Format(u32),
}

impl SnapshotError {
    /// A short static word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Refused { .. } => "refused",
            Self::Full { .. } => "full",
            Self::Unreachable { .. } => "unreachable",
            Self::Store { .. } => "store",
            Self::Corrupt { .. } => "corrupt",
            Self::Foreign { .. } => "foreign",
            Self::WrongKey { .. } => "wrong-key",
            Self::Exists { .. } => "exists",
            Self::Stream { .. } => "stream-damaged",
            Self::Source(_) => "stream-broken",
            Self::Sink { .. } => "sink",
        }
    }

    /// Whether the same call may succeed later though nobody changes anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Stream { .. } | Self::Source(_)
        )
    }

    /// Tells what a failure of the store means for an object, or for the bucket that it should be in.
    pub(crate) fn of_store(object: String, bucket: Option<&str>, source: Source) -> Self {
        let first: &(dyn Error + 'static) = source.as_ref();
        match iter::successors(Some(first), |&error| error.source()).find_map(meaning_of) {
            Some(Meaning::NotFound) => {
                let bucket = bucket.filter(|_| source.to_string().contains("NoSuchBucket"));
                let object = bucket.map_or(object, |name| format!("bucket {name}"));
                Self::NotFound { object, source }
            }
            Some(Meaning::Refused) => Self::Refused { object, source },
            Some(Meaning::Full) => Self::Full { object, source },
            Some(Meaning::Unreachable) => Self::Unreachable { object, source },
            None => Self::Store { object, source },
        }
    }
}

enum Meaning {
    NotFound,
    Refused,
    Full,
    Unreachable,
}

fn meaning_of(error: &(dyn Error + 'static)) -> Option<Meaning> {
    use io::ErrorKind as Kind;
    use object_store::Error as StoreError;

    if let Some(error) = error.downcast_ref::<StoreError>() {
        return match error {
            StoreError::NotFound { .. } => Some(Meaning::NotFound),
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                Some(Meaning::Refused)
            }
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return match error.kind() {
            Kind::NotFound => Some(Meaning::NotFound),
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Some(Meaning::Refused),
            Kind::StorageFull | Kind::QuotaExceeded => Some(Meaning::Full),
            Kind::TimedOut => Some(Meaning::Unreachable),
            _ => None,
        };
    }
    if error.is::<HttpError>() || error.is::<Elapsed>() {
        return Some(Meaning::Unreachable);
    }
    match http_status(error)? {
        401 | 403 => Some(Meaning::Refused),
        404 => Some(Meaning::NotFound),
        507 => Some(Meaning::Full),
        408 | 429 | 500.. => Some(Meaning::Unreachable),
        _ => None,
    }
}

/// `object_store` keeps the type of these to itself; only the text says which status it was.
fn http_status(error: &dyn Error) -> Option<u16> {
    let text = error.to_string();
    let status = text.strip_prefix("Server returned non-2xx status code: ")?;
    status.get(..3)?.parse().ok()
}
