//! The archives' layout and determinism, on small files.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::distribution::Purpose;

struct Fixture {
    directory: TempDir,
    cache: Cache,
    lock: Lock,
    recipe: ImageRecipe,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("cache")).unwrap();
        let lock = cache.lock(|| ()).await.unwrap();
        let recipe = ImageRecipe {
            name: "thing".to_owned(),
            purpose: Purpose::Platform,
            references: vec![
                "localhost/a:v{thing}".to_owned(),
                "localhost/b:{content}".to_owned(),
            ],
            files: BTreeMap::from([("program".to_owned(), PathBuf::from("/usr/local/bin/program"))]),
            data: BTreeMap::from([("program".to_owned(), PathBuf::from("/data.json"))]),
            directories: vec![PathBuf::from("/uploads")],
            links: BTreeMap::from([("program".to_owned(), vec!["other".to_owned()])]),
            host_programs: BTreeMap::new(),
            operator: None,
            entrypoint: vec!["/usr/local/bin/program".to_owned()],
            command: vec!["serve".to_owned()],
        };
        Self {
            directory,
            cache,
            lock,
            recipe,
        }
    }

    fn binaries(&self, content: &str) -> Binaries {
        let path = self.directory.path().join("program");
        std::fs::write(&path, content).unwrap();
        Binaries::from([("program".to_owned(), hashed(&path).unwrap())])
    }

    fn plan(&self, content: &str) -> Plan {
        let binaries = self.binaries(content);
        let versions = BTreeMap::from([("thing".to_owned(), "1.2.3".to_owned())]);
        Plan::new(&self.recipe, &binaries, None, &versions)
            .unwrap()
            .unwrap()
    }

    fn pack(&self, content: &str) -> ImageArchive {
        self.plan(content).pack(&self.cache, &self.lock).unwrap()
    }

    fn pack_and_keep(self, content: &str) -> (ImageArchive, TempDir) {
        (self.pack(content), self.directory)
    }
}

/// The files of an archive by name.
fn blobs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    entries.collect()
}

fn blob(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let content = files[&format!("blobs/{}", digest.replace(':', "/"))].clone();
    assert_eq!(digest, format!("sha256:{}", sums::of_bytes(&content)));
    assert_eq!(descriptor["size"], content.len());
    content
}

#[tokio::test]
async fn every_name_leads_to_one_manifest_and_its_blobs() {
    let (archive, _directory) = Fixture::new().await.pack_and_keep("content");
    let files = blobs(&archive.path);
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let names: Vec<_> = manifests
        .iter()
        .map(|m| m["annotations"]["io.containerd.image.name"].as_str().unwrap())
        .collect();
    assert_eq!(names, archive.references);
    assert_eq!(names[0], "localhost/a:v1.2.3");
    assert!(!names[1].contains('{'), "{names:?}");
    assert!(manifests.iter().all(|m| m["digest"] == archive.digest));

    let manifest: Value = serde_json::from_slice(&blob(&files, &manifests[0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&files, &manifest["config"])).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/local/bin/program");
    assert_eq!(config["config"]["Cmd"][0], "serve");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    assert_eq!(files.len(), 5, "{:?}", files.keys());
}

#[tokio::test]
async fn a_layer_has_owners_modes_and_times_of_its_own() {
    let (archive, _directory) = Fixture::new().await.pack_and_keep("content");
    let files = blobs(&archive.path);
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifest: Value = serde_json::from_slice(&blob(&files, &index["manifests"][0])).unwrap();
    let layer = blob(&files, &manifest["layers"][0]);
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 0)
        );
        let target = entry.link_name().unwrap().map(|t| t.display().to_string());
        seen.insert(
            entry.path().unwrap().display().to_string(),
            (header.mode().unwrap(), target),
        );
    }
    assert_eq!(seen["tmp"].0, 0o1777);
    assert_eq!(seen["etc/passwd"].0, 0o644);
    assert_eq!(seen["usr/local/bin/program"].0, 0o755);
    assert_eq!((seen["data.json"].0, seen["uploads"].0), (0o644, 0o755));
    assert_eq!(seen["usr/local/bin/other"].1.as_deref(), Some("program"));
    assert!(
        ["etc", "usr", "usr/local", "usr/local/bin"]
            .iter()
            .all(|d| seen[*d].0 == 0o755)
    );
}

#[tokio::test]
async fn the_same_content_gives_the_same_bytes_and_other_content_does_not() {
    let (first, second) = (Fixture::new().await, Fixture::new().await);
    let (a, b) = (first.pack("content"), second.pack("content"));
    assert_eq!(std::fs::read(&a.path).unwrap(), std::fs::read(&b.path).unwrap());
    let other = first.pack("other");
    assert_eq!(
        [&a.digest, &b.digest, &other.digest]
            .into_iter()
            .collect::<BTreeSet<_>>()
            .len(),
        2
    );
    assert_ne!(a.references[1], other.references[1]);
}

#[tokio::test]
async fn a_packed_image_is_found_again() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.plan("content").find(&fixture.cache), None);
    let archive = fixture.pack("content");
    assert_eq!(fixture.plan("content").find(&fixture.cache), Some(archive));
    assert_eq!(fixture.plan("other").find(&fixture.cache), None);
}

#[tokio::test]
async fn a_host_program_has_links_too_and_a_missing_one_says_its_package() {
    let mut fixture = Fixture::new().await;
    let shell = PathBuf::from("/bin/sh");
    fixture.recipe.host_programs = BTreeMap::from([(shell, "dash".to_owned())]);
    let links = BTreeMap::from([("sh".to_owned(), vec!["ash".to_owned()])]);
    fixture.recipe.links.extend(links);
    let plan = fixture.plan("content");
    let paths: Vec<_> = plan.tree.paths().collect();
    for path in ["/bin/sh", "/bin/ash", "/usr/local/bin/other"] {
        assert!(paths.contains(&Path::new(path)), "{path} is not in {paths:?}");
    }
    fixture.recipe.host_programs =
        BTreeMap::from([(PathBuf::from("/nowhere/tool"), "tool-package".to_owned())]);
    let missing = Plan::new(
        &fixture.recipe,
        &fixture.binaries("content"),
        None,
        &BTreeMap::new(),
    );
    let Err(error) = missing else {
        unreachable!("it was found")
    };
    assert!(error.to_string().contains("tool-package"), "{error}");
}

#[tokio::test]
async fn a_dynamic_program_brings_its_libraries_and_no_operator_no_image() {
    let mut fixture = Fixture::new().await;
    fixture.recipe.operator = Some(PathBuf::from("/usr/local/bin/skep"));
    fixture.recipe.files.clear();
    fixture.recipe.data.clear();
    fixture.recipe.links.clear();
    let plan = |operator| Plan::new(&fixture.recipe, &Binaries::new(), operator, &BTreeMap::new());
    assert!(plan(None).unwrap().is_none());
    let own = std::env::current_exe().unwrap();
    let plan = plan(Some(&own)).unwrap().unwrap();
    let described = plan
        .tree
        .paths()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>();
    assert!(described.iter().any(|p| p.contains("libc.so")), "{described:?}");
    assert!(
        described.iter().any(|p| p == "/usr/local/bin/skep"),
        "{described:?}"
    );
}
