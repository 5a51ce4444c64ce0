//! Container images of the distribution, made without a registry or an engine.
//!
//! Must not depend on when, where or by whom an image is made: the same inputs
//! give the same digest.

mod archive;
mod layer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{Binaries, Binary, Cache, Key, Lock};
use crate::distribution::ImageRecipe;
use crate::{Error, closure, sums};
use layer::{Content, Tree};

/// An image as an OCI archive that `ctr -n k8s.io images import` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageArchive {
    /// The image's short name, for example "kubernetes".
    pub name: String,
    /// Every name that the image gets when the archive is imported.
    pub references: Vec<String>,
    /// The archive.
    pub path: PathBuf,
    /// The manifest's digest, "sha256:…".
    pub digest: String,
}

/// What is recorded beside an archive, so that a finished one need not be opened.
#[derive(Serialize, Deserialize)]
struct Record {
    references: Vec<String>,
    digest: String,
}

const RECORD: &str = "image.json";

/// An image whose inputs are known and whose archive may be in the cache.
pub(crate) struct Plan {
    recipe: ImageRecipe,
    references: Vec<String>,
    tree: Tree,
    key: String,
}

impl Plan {
    /// Gathers an image's files; none when it needs an operators' binary and there is none.
    pub fn new(
        recipe: &ImageRecipe,
        binaries: &Binaries,
        operator: Option<&Path>,
        versions: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Error> {
        let Some(tree) = tree(recipe, binaries, operator)? else {
            return Ok(None);
        };
        let named: Vec<String> = recipe
            .references
            .iter()
            .map(|text| fill(text, versions))
            .collect();
        let key = tree
            .describe(Key::default().add("format", archive::FORMAT))
            .add_json("references", &named)?
            .add_json("entrypoint", &recipe.entrypoint)?
            .add_json("command", &recipe.command)?
            .finish();
        let references = named.iter().map(|text| text.replace("{content}", &key)).collect();
        Ok(Some(Self {
            recipe: recipe.clone(),
            references,
            tree,
            key,
        }))
    }

    /// The image's short name.
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// The finished archive, if the cache has it.
    pub fn find(&self, cache: &Cache) -> Option<ImageArchive> {
        let files = cache.find(&self.entry_name(), &self.key)?;
        let record = std::fs::read(&files.get(RECORD)?.path).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let path = files.get(&self.file_name())?.path.clone();
        Some(self.archive(record, path))
    }

    /// Writes the archive into the cache.
    pub fn pack(&self, cache: &Cache, lock: &Lock) -> Result<ImageArchive, Error> {
        let aside = cache.aside(lock)?;
        let file = self.file_name();
        let digest = archive::write(
            &aside.path().join(&file),
            &self.tree,
            archive::Start {
                entrypoint: &self.recipe.entrypoint,
                command: &self.recipe.command,
            },
            &self.references,
        )?;
        let record = Record {
            references: self.references.clone(),
            digest,
        };
        let json = serde_json::to_vec(&record).map_err(|e| Error::Recipe {
            what: format!("{RECORD}: {e}"),
        })?;
        let path = aside.path().join(RECORD);
        std::fs::write(&path, json).map_err(Error::io("write", &path))?;
        let name = self.entry_name();
        let sums = sums::of_files(aside.path(), &[&file, RECORD])?;
        cache.finish(lock, aside.path(), (&name, &self.key), sums)?;
        Ok(self.archive(record, cache.entry(&name, &self.key).join(file)))
    }

    fn archive(&self, record: Record, path: PathBuf) -> ImageArchive {
        let Record { references, digest } = record;
        ImageArchive {
            name: self.recipe.name.clone(),
            references,
            path,
            digest,
        }
    }

    fn entry_name(&self) -> String {
        format!("image-{}", self.recipe.name)
    }

    fn file_name(&self) -> String {
        format!("{}.tar", self.recipe.name)
    }
}

/// The files of an image; none when it needs an operators' binary and there is none.
fn tree(recipe: &ImageRecipe, binaries: &Binaries, operator: Option<&Path>) -> Result<Option<Tree>, Error> {
    let find = |name| binaries.get(name).ok_or_else(|| missing(&recipe.name, name));
    let mut tree = Tree::base();
    for (name, path) in &recipe.files {
        add_program(&mut tree, path, find(name)?.clone())?;
    }
    for (name, path) in &recipe.data {
        tree.insert(path.clone(), Content::Data(find(name)?.clone()));
    }
    for path in &recipe.directories {
        tree.insert(path.clone(), Content::Directory(0o755));
    }
    for (path, package) in &recipe.host_programs {
        if !path.exists() {
            return Err(Error::ToolMissing {
                program: path.display().to_string(),
                purpose: "run inside a container image",
                advice: format!("apt-get install {package}"),
            });
        }
        add_program(&mut tree, path, hashed(path)?)?;
    }
    match (&recipe.operator, operator) {
        (Some(to), Some(from)) => add_program(&mut tree, to, hashed(from)?)?,
        (Some(_), None) => return Ok(None),
        (None, _) => {}
    }
    for (name, links) in &recipe.links {
        let path = program(recipe, name).ok_or_else(|| missing(&recipe.name, name))?;
        for link in links {
            tree.insert(path.with_file_name(link), Content::Link(PathBuf::from(name)));
        }
    }
    Ok(Some(tree))
}

/// The path of a binary or a host program in an image.
fn program<'a>(recipe: &'a ImageRecipe, name: &str) -> Option<&'a PathBuf> {
    let mut host = recipe.host_programs.keys();
    let found = recipe.files.get(name);
    found.or_else(|| host.find(|path| path.file_name().is_some_and(|last| last == name)))
}

fn fill(text: &str, versions: &BTreeMap<String, String>) -> String {
    let replace =
        |text: String, (name, version): (&String, &String)| text.replace(&format!("{{{name}}}"), version);
    versions.iter().fold(text.to_owned(), replace)
}

fn missing(image: &str, name: &str) -> Error {
    Error::Recipe {
        what: format!("image {image} wants {name}, which nothing brings"),
    }
}

fn hashed(path: &Path) -> Result<Binary, Error> {
    Ok(Binary {
        path: path.to_owned(),
        sha256: sums::of_file(path)?,
    })
}

fn add_program(tree: &mut Tree, path: &Path, binary: Binary) -> Result<(), Error> {
    for library in closure::of(&binary.path)? {
        let content = Content::Program(hashed(&library)?);
        tree.insert(library, content);
    }
    tree.insert(path.to_owned(), Content::Program(binary));
    Ok(())
}
