//! Compares an etcd that was started from a snapshot with what the datastore was when the snapshot was taken.
//!
//! Runs beside that etcd in the pod of a drill.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_snapshots::{Fingerprint, Manifest};

use crate::members::{CLIENT_PORT, Members, MembersError, Target, wait_for_leader};

/// What a snapshot should hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// The revision that it holds at least, where that is known.
    pub revision: Option<i64>,
    /// What was there at that revision, where that is known.
    pub content: Option<Fingerprint>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The revision of the store.
    pub revision: i64,
    /// How many keys it has.
    pub keys: i64,
    /// What was compared and is the same.
    pub compared: Vec<String>,
    /// What differs.
    pub differs: Option<String>,
}

impl Expected {
    /// What a snapshot's own manifest promises.
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            revision: manifest.about.revision,
            content: manifest.about.content,
        }
    }
}

/// Waits until the etcd of this pod serves, for so long, and compares.
pub async fn compare<M: Members>(
    members: &M,
    expected: &Expected,
    longest: Duration,
) -> Result<Report, MembersError> {
    let target = Target::local(CLIENT_PORT, "the etcd of the drill");
    let revision = wait_for_leader(members, &target, longest).await?.revision;
    let now = members.fingerprint(&target, revision).await?;
    let then = match expected.revision.filter(|then| *then <= revision) {
        Some(then) => match members.fingerprint(&target, then).await {
            Err(error) if error.is_compacted() => None,
            found => Some(found?),
        },
        None => None,
    };
    Ok(judge(expected, revision, now.keys, then.as_ref()))
}

/// Says what of `then`, which the etcd of the drill holds at the expected revision, is as it was.
fn judge(expected: &Expected, revision: i64, keys: i64, then: Option<&Fingerprint>) -> Report {
    let mut report = Report {
        revision,
        keys,
        ..Report::default()
    };
    if let Some(least) = expected.revision {
        if revision < least {
            report.differs = Some(format!(
                "it is at revision {revision}, and {least} was seen before it was taken"
            ));
            return report;
        }
        report.compared.push("revision".to_owned());
    }
    let (Some(was), Some(then)) = (expected.content, then) else {
        return report;
    };
    if was.keys != then.keys {
        let at = expected.revision.unwrap_or_default();
        report.differs = Some(format!(
            "it has {} keys at revision {at}, and there were {}",
            then.keys, was.keys
        ));
        return report;
    }
    report.compared.push("keys".to_owned());
    // A hash leaves out what was compacted.
    if was.compact_revision == then.compact_revision {
        if was.hash != then.hash {
            report.differs = Some("its keys or values are not those that there were".to_owned());
            return report;
        }
        report.compared.push("hash".to_owned());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Fingerprint = Fingerprint {
        keys: 40,
        hash: 7,
        compact_revision: 3,
    };

    fn judged(revision: i64, then: Fingerprint) -> Report {
        let expected = Expected {
            revision: Some(100),
            content: Some(TAKEN),
        };
        judge(&expected, revision, 41, Some(&then))
    }

    #[test]
    fn the_same_is_found_to_be_the_same() {
        let report = judged(102, TAKEN);
        assert_eq!(report.compared, ["revision", "keys", "hash"]);
        assert_eq!((report.differs, report.keys), (None, 41));
    }

    #[test]
    fn fewer_keys_other_values_and_an_older_store_are_found() {
        let fewer = Fingerprint { keys: 39, ..TAKEN };
        assert!(judged(102, fewer).differs.unwrap().contains("39 keys"));
        let other = Fingerprint { hash: 8, ..TAKEN };
        assert!(judged(102, other).differs.unwrap().contains("values"));
        assert!(judged(99, TAKEN).differs.unwrap().contains("revision 99"));
    }

    #[test]
    fn hashes_of_another_history_are_not_compared() {
        let compacted = Fingerprint {
            hash: 8,
            compact_revision: 50,
            ..TAKEN
        };
        let report = judged(102, compacted);
        assert_eq!(
            (report.compared.as_slice(), report.differs),
            (["revision".to_owned(), "keys".to_owned()].as_slice(), None)
        );
    }

    #[test]
    fn a_snapshot_that_promises_nothing_is_only_started() {
        let expected = Expected {
            revision: None,
            content: None,
        };
        let report = judge(&expected, 9, 2, None);
        assert!(report.compared.is_empty() && report.differs.is_none());
    }
}
