//! The directories of programs that a node machine runs.
//!
//! Must not link across the cache by path: a node's mount namespace may show
//! it only this directory.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::cache::{Binaries, Cache, Key, Lock};
use crate::distribution::Node;
use crate::sums::Sums;

const BIN: &str = "node-bin";
const CNI: &str = "node-cni";

/// The finished directories of programs and of CNI plugins.
pub(crate) struct Directories {
    pub bin: PathBuf,
    pub cni: PathBuf,
}

/// The key of the directories' entry: the programs' content and names.
pub(crate) fn key(node: &Node, binaries: &Binaries) -> Result<String, Error> {
    let used = |name: &&String| node.bin.contains(name) || node.cni.contains(name);
    let used = binaries.iter().filter(|(name, _)| used(name));
    let hashes: Vec<_> = used.map(|(name, binary)| (name, &binary.sha256)).collect();
    Ok(Key::default()
        .add_json("node", node)?
        .add_json("binaries", &hashes)?
        .finish())
}

/// The directories, if the cache has them whole.
pub(crate) fn find(cache: &Cache, key: &str, node: &Node) -> Option<Directories> {
    cache.find(BIN, key)?;
    cache.find(CNI, key)?;
    let found = directories(cache, key);
    let mut links = node.links.values().flatten();
    links.all(|link| found.bin.join(link).exists()).then_some(found)
}

/// Makes the directories out of the binaries.
pub(crate) fn make(
    cache: &Cache,
    lock: &Lock,
    key: &str,
    node: &Node,
    binaries: &Binaries,
) -> Result<Directories, Error> {
    for (entry, names) in [(BIN, &node.bin), (CNI, &node.cni)] {
        let aside = cache.aside(lock)?;
        let mut sums = Sums::new();
        for name in names {
            let binary = binaries.get(name).ok_or_else(|| Error::Recipe {
                what: format!("a node wants {name}, which no component makes"),
            })?;
            place(&binary.path, &aside.path().join(name))?;
            sums.insert(name.clone(), binary.sha256.clone());
        }
        for (target, links) in node.links.iter().filter(|(target, _)| names.contains(target)) {
            for link in links {
                let path = aside.path().join(link);
                std::os::unix::fs::symlink(target, &path).map_err(Error::io("create the link", &path))?;
            }
        }
        cache.finish(lock, aside.path(), (entry, key), sums)?;
    }
    Ok(directories(cache, key))
}

fn directories(cache: &Cache, key: &str) -> Directories {
    Directories {
        bin: cache.entry(BIN, key),
        cni: cache.entry(CNI, key),
    }
}

/// A hard link takes no room; prebuilt files may be on another file system, and are then copied.
fn place(from: &Path, to: &Path) -> Result<(), Error> {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).map_err(Error::io("copy", from))?;
    }
    Ok(())
}
