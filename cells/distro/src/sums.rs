//! Lists of checksums in the form of `sha256sum`: made, read and verified.
//!
//! Must not repair anything: a file that differs is an error for the caller.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Error;

/// The name of the list in each directory.
pub(crate) const FILE: &str = "SHA256SUMS";

/// Hashes by file name.
pub(crate) type Sums = BTreeMap<String, String>;

/// A writer that hashes and counts what goes through it.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    written: u64,
}

impl<W: Write> Hashing<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            written: 0,
        }
    }

    /// The writer, the hash in hexadecimal and the number of bytes.
    pub fn finish(self) -> (W, String, u64) {
        (self.inner, hex::encode(self.hash.finalize()), self.written)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn of_file(path: &Path) -> Result<String, Error> {
    let mut file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

/// Hashes the named files of a directory.
pub(crate) fn of_files(directory: &Path, names: &[&str]) -> Result<Sums, Error> {
    names
        .iter()
        .map(|name| Ok(((*name).to_owned(), of_file(&directory.join(name))?)))
        .collect()
}

/// Writes a list into a directory.
pub(crate) fn write(directory: &Path, sums: &Sums) -> Result<(), Error> {
    let lines: Vec<String> = sums
        .iter()
        .map(|(name, sum)| {
            format!(
                "{sum}  {name}
"
            )
        })
        .collect();
    let path = directory.join(FILE);
    std::fs::write(&path, lines.concat()).map_err(Error::io("write", &path))
}

/// Reads a directory's list.
pub(crate) fn read(directory: &Path) -> Result<Sums, Error> {
    let path = directory.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(Error::io("read the checksums", &path))?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            // Two spaces for text, a space and a star for binary: `sha256sum` writes either.
            let parts = line.split_once("  ").or_else(|| line.split_once(" *"));
            match parts {
                Some((sum, name)) if sum.len() == 64 && !name.contains('/') => {
                    Ok((name.to_owned(), sum.to_ascii_lowercase()))
                }
                _ => Err(Error::ChecksumList {
                    file: path.clone(),
                    problem: format!(
                        "{line:?} is not a line of sha256sum; write the list with `sha256sum *`"
                    ),
                }),
            }
        })
        .collect()
}

/// Checks the named files of a directory against its list and returns the list.
pub(crate) fn verify(directory: &Path, names: &[&str]) -> Result<Sums, Error> {
    let sums = read(directory)?;
    for name in names {
        let Some(expected) = sums.get(*name) else {
            return Err(Error::ChecksumList {
                file: directory.join(FILE),
                problem: format!("{name} is not in the list; add the file and its line"),
            });
        };
        let file = directory.join(name);
        let found = of_file(&file)?;
        if found != *expected {
            return Err(Error::Checksum {
                file,
                expected: expected.clone(),
                found,
            });
        }
    }
    Ok(sums)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    #[test]
    fn a_list_that_was_written_verifies() {
        let directory = directory(&[("a", "one"), ("b", "two")]);
        let sums = of_files(directory.path(), &["a", "b"]).unwrap();
        write(directory.path(), &sums).unwrap();
        assert_eq!(verify(directory.path(), &["a", "b"]).unwrap(), sums);
    }

    #[test]
    fn a_changed_file_is_named_with_both_hashes() {
        let directory = directory(&[("a", "one")]);
        let sums = of_files(directory.path(), &["a"]).unwrap();
        write(directory.path(), &sums).unwrap();
        std::fs::write(directory.path().join("a"), "other").unwrap();
        let message = verify(directory.path(), &["a"]).unwrap_err().to_string();
        for part in ["/a has", &sums["a"], &of_bytes(b"other")] {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }

    #[test]
    fn a_file_outside_the_list_or_gone_is_an_error() {
        let directory = directory(&[("a", "one")]);
        write(
            directory.path(),
            &Sums::from([("b".to_owned(), of_bytes(b"two"))]),
        )
        .unwrap();
        let unlisted = verify(directory.path(), &["a"]).unwrap_err();
        assert!(matches!(unlisted, Error::ChecksumList { .. }), "{unlisted}");
        let gone = verify(directory.path(), &["b"]).unwrap_err();
        assert!(matches!(gone, Error::Io { .. }), "{gone}");
    }

    #[test]
    fn both_forms_of_sha256sum_are_read_and_others_are_refused() {
        let sum = of_bytes(b"one");
        let text = directory(&[(FILE, &format!("{sum}  a\n{sum} *b\n"))]);
        assert_eq!(read(text.path()).unwrap().len(), 2);
        for line in ["abc  a", &format!("{sum}  ../a"), &sum] {
            let bad = directory(&[(FILE, line)]);
            assert!(
                matches!(read(bad.path()), Err(Error::ChecksumList { .. })),
                "{line}"
            );
        }
    }
}
