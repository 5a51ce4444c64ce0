//! The names of folders in a store: whose, and which snapshot.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// UTC to the second, so that names sort by time.
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// What stands for a revision that nobody knows.
const NO_REVISION: &str = "x";
/// As long as a DNS label; a uid has 36.
const LONGEST_OWNER: usize = 63;

/// A name that has a form of its own, and not this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct InvalidName {
    value: String,
    expected: &'static str,
}

/// Whose snapshots: the uid of an etcd cluster, so that a new cluster of the same name has its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

impl Owner {
    /// Takes 1 to 63 letters, digits and `-`.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=LONGEST_OWNER).contains(&text.len());
        if fits
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName {
            value: text.to_owned(),
            expected: "1 to 63 letters, digits and '-'",
        })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Owner {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

/// One snapshot of an owner: when it was taken, and at which revision where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    taken_at: Timestamp,
    revision: Option<i64>,
}

impl SnapshotId {
    /// Names a snapshot, its time cut to the second.
    pub fn new(taken_at: Timestamp, revision: Option<i64>) -> Self {
        Self {
            taken_at: Timestamp::from_second(taken_at.as_second()).unwrap_or(taken_at),
            revision: revision.filter(|revision| *revision >= 0),
        }
    }

    /// When it was taken.
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// The revision that it holds, where that is known.
    pub fn revision(&self) -> Option<i64> {
        self.revision
    }
}

/// As in `20261128T041410Z-0000000000000004711`.
impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.taken_at.strftime(TIME))?;
        match self.revision {
            Some(revision) => write!(f, "{revision:019}"),
            None => f.write_str(NO_REVISION),
        }
    }
}

impl FromStr for SnapshotId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parsed = text.split_once('-').and_then(|(time, revision)| {
            let time = DateTime::strptime(TIME, time).ok()?;
            let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
            let revision = match revision {
                NO_REVISION => None,
                digits => Some(digits.parse().ok()?),
            };
            Some(Self::new(time, revision))
        });
        // One snapshot has one name: without leading signs, short years and whatever else parses.
        let strict = parsed.filter(|id| id.to_string() == text);
        strict.ok_or_else(|| InvalidName {
            value: text.to_owned(),
            expected: "the name of a snapshot",
        })
    }
}
