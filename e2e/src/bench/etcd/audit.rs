//! What a user asked an API server for, by its own audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One request, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    object_ref: Option<ObjectRef>,
}

#[derive(Debug, Deserialize)]
struct ObjectRef {
    resource: String,
}

/// Requests of some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// What asks for no change.
    pub reads: u64,
    /// Renewals of the lease that its leader holds.
    pub renewals: u64,
    /// Everything else, by verb and resource.
    pub writes: BTreeMap<String, u64>,
}

impl Requests {
    /// How many writes there are beside renewals.
    pub fn write_count(&self) -> u64 {
        self.writes.values().sum()
    }

    /// Adds those of another time.
    pub fn merge(&mut self, other: &Self) {
        self.reads += other.reads;
        self.renewals += other.renewals;
        for (what, count) in &other.writes {
            *self.writes.entry(what.clone()).or_default() += count;
        }
    }

    fn count(&mut self, event: &Event) {
        let resource = event.object_ref.as_ref().map_or("", |object| &object.resource);
        match (event.verb.as_str(), resource) {
            ("get" | "list" | "watch", _) => self.reads += 1,
            (_, "leases") => self.renewals += 1,
            (verb, resource) => *self.writes.entry(format!("{verb} {resource}")).or_default() += 1,
        }
    }
}

/// An audit log that is read on and on.
pub struct AuditLog {
    path: PathBuf,
    read: u64,
}

impl AuditLog {
    /// From its beginning.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// What has come since the last call.
    ///
    /// # Errors
    /// When it cannot be read, or an event is none.
    pub fn requests(&mut self) -> Result<Requests> {
        let mut file = File::open(&self.path)
            .with_context(|| format!("cannot read the audit log {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut lines = BufReader::new(file);
        let mut requests = Requests::default();
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.read += u64::try_from(line.len())?;
            requests.count(&serde_json::from_str(&line).context("an audit event that is none")?);
            line.clear();
        }
        Ok(requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn each_request_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut file = File::create(&path).unwrap();
        let mut log = AuditLog::new(path);
        let line = |verb: &str, resource: &str| {
            format!("{{\"verb\":\"{verb}\",\"objectRef\":{{\"resource\":\"{resource}\"}}}}\n")
        };
        let (read, write) = (line("list", "pods"), line("patch", "pods"));
        write!(file, "{read}{write}{}", line("update", "leases")).unwrap();
        let (begin, end) = write.split_at(9);
        write!(file, "{begin}").unwrap();
        let first = log.requests().unwrap();
        assert_eq!((first.reads, first.renewals, first.write_count()), (1, 1, 1));
        write!(file, "{end}").unwrap();
        assert_eq!(
            log.requests().unwrap().writes,
            BTreeMap::from([("patch pods".to_owned(), 1)])
        );
        assert_eq!(log.requests().unwrap(), Requests::default());
    }
}
