//! The files of an image, and their tar stream.
//!
//! Must not take times, owners or modes from this machine's files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use crate::Error;
use crate::cache::{Binary, Key};

/// The user that workloads without root run as.
const PASSWD: &str =
    "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// The C library asks DNS before /etc/hosts when it finds no such file.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A directory with its mode.
    Directory(u32),
    /// A readable text.
    Text(&'static str),
    /// An executable file of this machine.
    Program(Binary),
    /// A file of this machine that is no program.
    Data(Binary),
    /// A symbolic link to a target.
    Link(PathBuf),
}

/// A file system by absolute path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Content>);

impl Tree {
    /// What every image has: users, name service order, and a /tmp that anyone can write to.
    pub fn base() -> Self {
        let mut tree = Self::default();
        tree.insert("/tmp".into(), Content::Directory(0o1777));
        tree.insert("/root".into(), Content::Directory(0o700));
        tree.insert("/etc/passwd".into(), Content::Text(PASSWD));
        tree.insert("/etc/group".into(), Content::Text(GROUP));
        tree.insert("/etc/nsswitch.conf".into(), Content::Text(NSSWITCH));
        tree
    }

    /// Puts something at an absolute path, with the directories above it.
    pub fn insert(&mut self, path: PathBuf, content: Content) {
        for above in path.ancestors().skip(1).filter(|p| p.parent().is_some()) {
            self.0
                .entry(above.to_owned())
                .or_insert(Content::Directory(0o755));
        }
        self.0.insert(path, content);
    }

    /// Every path that is there.
    #[cfg(test)]
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Adds every path and what is there to a key.
    pub fn describe(&self, key: Key) -> Key {
        self.0.iter().fold(key, |key, (path, content)| {
            let text = match content {
                Content::Directory(mode) => format!("directory {mode:o}"),
                Content::Text(text) => format!("text {text}"),
                Content::Program(binary) => format!("program {}", binary.sha256),
                Content::Data(file) => format!("data {}", file.sha256),
                Content::Link(target) => format!("link {}", target.display()),
            };
            key.add(&path.to_string_lossy(), text.as_bytes())
        })
    }

    /// Writes the tree as a tar stream and gives the writer back.
    pub fn write<W: Write>(&self, out: W, archive: &Path) -> Result<W, Error> {
        let mut tar = tar::Builder::new(out);
        for (path, content) in &self.0 {
            append(&mut tar, path, content)?;
        }
        tar.into_inner().map_err(Error::io("write", archive))
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, content: &Content) -> Result<(), Error> {
    let name = path.strip_prefix("/").unwrap_or(path);
    let done = match content {
        Content::Directory(mode) => tar.append_data(
            &mut header(EntryType::Directory, *mode, 0),
            name,
            std::io::empty(),
        ),
        Content::Text(text) => {
            let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes())
        }
        Content::Link(target) => tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), name, target),
        Content::Program(binary) => return append_file(tar, name, binary, 0o755),
        Content::Data(binary) => return append_file(tar, name, binary, 0o644),
    };
    done.map_err(Error::io("write into a layer", path))
}

fn append_file<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &Path,
    binary: &Binary,
    mode: u32,
) -> Result<(), Error> {
    let from = &binary.path;
    let file = std::fs::File::open(from).map_err(Error::io("open", from))?;
    let size = file.metadata().map_err(Error::io("read", from))?.len();
    tar.append_data(&mut header(EntryType::Regular, mode, size), name, file)
        .map_err(Error::io("write into a layer", from))
}

/// A header that says nothing of this machine.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
