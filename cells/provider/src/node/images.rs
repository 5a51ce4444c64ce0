//! The images of a node: imported from archives, since there is no registry to pull from.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use skep_distro::{Artifacts, ImageArchive};

use super::RUNTIME_SOCKET;
use crate::command::Command;
use crate::error::Error;
use crate::inside::Inside;

/// One import of a large image on a busy machine.
const IMPORT_LIMIT: Duration = Duration::from_mins(3);

/// A runtime's images.
pub(crate) struct ImageStore<'a> {
    pub inside: Inside<'a>,
    pub bin: &'a Path,
}

impl ImageStore<'_> {
    fn ctr(&self) -> Command {
        self.inside.command(&self.bin.join("ctr")).args([
            "--address",
            RUNTIME_SOCKET,
            "--namespace",
            "k8s.io",
            "images",
        ])
    }

    /// The digest of each image that is there, by reference.
    pub(crate) async fn present(&self) -> Result<BTreeMap<String, String>, Error> {
        Ok(parse_list(&self.ctr().arg("list").run().await?))
    }

    /// Imports an archive.
    pub(crate) async fn import(&self, archive: &Path) -> Result<(), Error> {
        self.ctr()
            .args(["import", "--local"])
            .arg(archive)
            .limit(IMPORT_LIMIT)
            .run()
            .await
            .map(drop)
    }
}

/// Imports the images that a machine lacks; says whether there were any.
pub(crate) async fn import_missing(store: &ImageStore<'_>, images: &[&ImageArchive]) -> Result<bool, Error> {
    let present = store.present().await?;
    let mut has_imported = false;
    for image in images.iter().filter(|image| !is_present(image, &present)) {
        store.import(&image.path).await?;
        has_imported = true;
    }
    Ok(has_imported)
}

/// Whether every name of an image stands for it.
fn is_present(image: &ImageArchive, present: &BTreeMap<String, String>) -> bool {
    image
        .references
        .iter()
        .all(|name| present.get(name) == Some(&image.digest))
}

/// The reference in the distribution that begins so.
pub(crate) fn find_reference<'a>(artifacts: &'a Artifacts, prefix: &str) -> Result<&'a str, Error> {
    let mut all = artifacts.images.iter().flat_map(|image| &image.references);
    let found = all.find(|reference| reference.starts_with(prefix));
    found.map(String::as_str).ok_or_else(|| Error::MissingImage {
        reference: prefix.to_owned(),
    })
}

/// Reads the table that `ctr images list` prints: reference, type, digest, …
fn parse_list(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, _, digest) = (words.next()?, words.next()?, words.next()?);
        digest
            .starts_with("sha256:")
            .then(|| (name.to_owned(), digest.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn present_only_under_all_names() {
        let list = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
                    localhost/a:1 application/vnd.oci.image.manifest.v1+json sha256:aa 1.0 MiB linux/amd64 -\n";
        let present = parse_list(list);
        let image = |references: &[&str], digest: &str| ImageArchive {
            name: "a".into(),
            references: references.iter().map(|&r| r.into()).collect(),
            path: "/a.tar".into(),
            digest: digest.into(),
        };
        assert!(is_present(&image(&["localhost/a:1"], "sha256:aa"), &present));
        assert!(!is_present(&image(&["localhost/a:1"], "sha256:bb"), &present));
        assert!(!is_present(
            &image(&["localhost/a:1", "localhost/b:1"], "sha256:aa"),
            &present
        ));
    }
}
