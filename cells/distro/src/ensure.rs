//! Makes sure that everything is there: finds it in the cache, builds what is not.
//!
//! Must not know how a thing is made, only in what order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cache::{Binaries, Cache, binaries};
use crate::distribution::{Component, Distribution, ImageRecipe, Node, Purpose};
use crate::image::{ImageArchive, Plan};
use crate::node::{self, Directories};
use crate::{Artifacts, Error, Progress, Request, TestArtifacts, building, sums};

/// Finds or makes everything that a cell is made of.
pub async fn ensure(request: &Request, progress: &dyn Progress) -> Result<Artifacts, Error> {
    let made = Made::find(request, Purpose::Platform, progress).await?;
    let node = node_directories(&made.cache, &made.distribution.node, &made.binaries, progress).await?;
    let versions = made.versions.clone();
    let images = made.images(request, Purpose::Platform, progress).await?;
    let version = |name: &str| {
        let found = versions.get(name).cloned();
        found.ok_or_else(|| Error::Recipe {
            what: format!("there is no component {name}"),
        })
    };
    Ok(Artifacts {
        kubernetes: version("kubernetes")?,
        etcd: version("etcd")?,
        coredns: version("coredns")?,
        envoy: version("envoy")?,
        bin: node.bin,
        cni: node.cni,
        images,
    })
}

/// Finds or makes what only tests want: programs that drive or fill a cell, and their images.
///
/// The tests of Kubernetes are those of the default version, whichever is asked for.
pub async fn ensure_tests(request: &Request, progress: &dyn Progress) -> Result<TestArtifacts, Error> {
    let made = Made::find(request, Purpose::Test, progress).await?;
    let place = |name: &str| {
        made.binaries
            .get(name)
            .map(|binary| (name.to_owned(), binary.path.clone()))
    };
    let tests = made.components.iter().filter(|c| c.purpose == Purpose::Test);
    let programs = tests.flat_map(Component::programs).filter_map(place).collect();
    let images = made.images(request, Purpose::Test, progress).await?;
    Ok(TestArtifacts { programs, images })
}

/// The components that one purpose takes, made.
struct Made {
    distribution: Distribution,
    cache: Cache,
    components: Vec<Component>,
    binaries: Binaries,
    /// Versions by component.
    versions: BTreeMap<String, String>,
}

impl Made {
    async fn find(request: &Request, purpose: Purpose, progress: &dyn Progress) -> Result<Self, Error> {
        let distribution = Distribution::embedded()?;
        let components = distribution.components_for(&request.kubernetes, purpose)?;
        let cache = Cache::open(&request.cache)?;
        let binaries = match &request.prebuilt {
            Some(directory) => prebuilt(directory, &components, progress).await?,
            None => building::binaries(&cache, &distribution.go, &components, progress).await?,
        };
        let versions = components
            .iter()
            .map(|component| (component.name.clone(), component.version.clone()))
            .collect();
        Ok(Self {
            distribution,
            cache,
            components,
            binaries,
            versions,
        })
    }

    async fn images(
        self,
        request: &Request,
        purpose: Purpose,
        progress: &dyn Progress,
    ) -> Result<Vec<ImageArchive>, Error> {
        let recipes = self.distribution.images_for(purpose);
        let operator = request.operator_binary.clone();
        images(
            operator,
            &self.cache,
            recipes,
            self.binaries,
            self.versions,
            progress,
        )
        .await
    }
}

async fn prebuilt(
    directory: &Path,
    components: &[Component],
    progress: &dyn Progress,
) -> Result<Binaries, Error> {
    let begun = Instant::now();
    progress.start("prebuilt", "verify the prebuilt binaries", None);
    let names: Vec<String> = components
        .iter()
        .flat_map(Component::outputs)
        .map(str::to_owned)
        .collect();
    let directory = directory
        .canonicalize()
        .map_err(Error::io("resolve", directory))?;
    let found = blocking("verifies prebuilt binaries", move || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(binaries(&directory, sums::verify(&directory, &names)?))
    })
    .await?;
    progress.finish("prebuilt", begun.elapsed(), false);
    Ok(found)
}

async fn node_directories(
    cache: &Cache,
    recipe: &Node,
    binaries: &Binaries,
    progress: &dyn Progress,
) -> Result<Directories, Error> {
    let key = node::key(recipe, binaries)?;
    if let Some(found) = node::find(cache, &key, recipe) {
        return Ok(found);
    }
    let lock = building::lock(cache, progress).await?;
    if let Some(found) = node::find(cache, &key, recipe) {
        return Ok(found);
    }
    let (cache, recipe, binaries) = (cache.clone(), recipe.clone(), binaries.clone());
    blocking("lays out a node's programs", move || {
        node::make(&cache, &lock, &key, &recipe, &binaries)
    })
    .await
}

async fn images(
    operator: Option<PathBuf>,
    cache: &Cache,
    recipes: Vec<ImageRecipe>,
    binaries: Binaries,
    versions: BTreeMap<String, String>,
    progress: &dyn Progress,
) -> Result<Vec<ImageArchive>, Error> {
    let plans = blocking("reads what goes into the images", move || {
        let plan = |recipe| Plan::new(recipe, &binaries, operator.as_deref(), &versions).transpose();
        recipes.iter().filter_map(plan).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let mut archives = Vec::new();
    for plan in plans {
        let begun = Instant::now();
        let step = format!("image {}", plan.name());
        progress.start(&step, "pack the container image", None);
        let found = plan.find(cache);
        let cached = found.is_some();
        archives.push(match found {
            Some(archive) => archive,
            None => pack(plan, cache, progress).await?,
        });
        progress.finish(&step, begun.elapsed(), cached);
    }
    Ok(archives)
}

async fn pack(plan: Plan, cache: &Cache, progress: &dyn Progress) -> Result<ImageArchive, Error> {
    let lock = building::lock(cache, progress).await?;
    let cache = cache.clone();
    blocking("packs a container image", move || match plan.find(&cache) {
        Some(archive) => Ok(archive),
        None => plan.pack(&cache, &lock),
    })
    .await
}

/// Runs work on files and hashes where it holds up nothing else.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Interrupted { what })?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::Silent;

    /// A directory with a small file for every binary, and a request that uses it.
    fn prebuilt() -> (TempDir, Request) {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("prebuilt");
        std::fs::create_dir(&files).unwrap();
        let distribution = Distribution::embedded().unwrap();
        let components = distribution
            .components_for(&distribution.default_kubernetes, Purpose::Test)
            .unwrap();
        let names: Vec<&str> = components.iter().flat_map(Component::outputs).collect();
        for name in &names {
            std::fs::write(files.join(name), format!("#!/bin/{name}")).unwrap();
        }
        sums::write(&files, &sums::of_files(&files, &names).unwrap()).unwrap();
        let request = Request {
            cache: directory.path().join("cache"),
            kubernetes: distribution.default_kubernetes,
            prebuilt: Some(files),
            operator_binary: None,
        };
        (directory, request)
    }

    #[tokio::test]
    async fn prebuilt_binaries_are_laid_out_for_a_node() {
        let (_directory, request) = prebuilt();
        let found = built_without_images(&request).await.unwrap();
        for program in [
            "kubelet",
            "kubectl",
            "kubeadm",
            "containerd",
            "runc",
            "etcdctl",
            "envoy",
        ] {
            assert!(found.bin.join(program).exists(), "{program}");
        }
        assert!(
            std::fs::read_to_string(found.bin.join("kubelet"))
                .unwrap()
                .contains("hyperkube")
        );
        assert!(found.cni.join("host-local").exists());
        let again = built_without_images(&request).await.unwrap();
        assert_eq!((found.bin, found.cni), (again.bin, again.cni));
    }

    #[tokio::test]
    async fn a_prebuilt_file_that_differs_is_refused() {
        let (_directory, request) = prebuilt();
        std::fs::write(request.prebuilt.as_ref().unwrap().join("runc"), "forged").unwrap();
        let Err(error) = built_without_images(&request).await else {
            unreachable!("it was taken")
        };
        assert!(
            matches!(&error, Error::Checksum { file, .. } if file.ends_with("runc")),
            "{error}"
        );
    }

    /// All of `ensure` that does not need the programs of a configured machine.
    async fn built_without_images(request: &Request) -> Result<Directories, Error> {
        let distribution = Distribution::embedded()?;
        let components = distribution.components_for(&request.kubernetes, Purpose::Platform)?;
        let cache = Cache::open(&request.cache)?;
        let directory = request.prebuilt.clone().unwrap_or_default();
        let binaries = super::prebuilt(&directory, &components, &Silent).await?;
        node_directories(&cache, &distribution.node, &binaries, &Silent).await
    }
}
