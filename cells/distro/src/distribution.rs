//! The pinned distribution: what `distribution.yaml` says, as types.
//!
//! Must not touch the machine: this module only reads embedded text.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

const PINS: &str = include_str!("../distribution.yaml");

/// Everything the distribution pins.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Distribution {
    pub go: String,
    pub default_kubernetes: String,
    pub components: Vec<Component>,
    pub node: Node,
    pub images: Vec<ImageRecipe>,
}

/// One thing that is built or downloaded, at one version.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Component {
    pub name: String,
    pub version: String,
    #[serde(default, skip_serializing)]
    pub purpose: Purpose,
    #[serde(skip_serializing)]
    minutes: u64,
    #[serde(skip_serializing)]
    pub disk_mebibytes: u64,
    pub source: Source,
}

/// What a thing is made for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Purpose {
    /// Cells and tenants run it.
    #[default]
    Platform,
    /// Only tests of cells and tenants want it.
    Test,
}

/// Where a component's binaries come from; the maps give each binary its package or path.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Source {
    Go(GoSource),
    Wheel(WheelSource),
}

/// A Go module of ours that requires the real one at an exact version.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GoSource {
    pub module: String,
    /// The module whose required version is the component's; none for our own programs.
    pub pin: Option<String>,
    #[serde(default)]
    pub ldflags: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub cgo: Cgo,
    pub binaries: BTreeMap<String, String>,
    /// Packages whose tests become a binary.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tests: BTreeMap<String, String>,
    /// Files of the module that is pinned, each with its path there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// Whether C code is compiled in, which then is linked statically.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Cgo {
    #[default]
    Off,
    Static,
}

/// A Python wheel that carries binaries.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WheelSource {
    pub package: String,
    /// One hash for each platform's wheel.
    pub sha256: Vec<String>,
    pub binaries: BTreeMap<String, String>,
}

/// What a node machine runs; `links` are further names of a binary.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Node {
    pub bin: Vec<String>,
    pub links: BTreeMap<String, Vec<String>>,
    pub cni: Vec<String>,
}

/// What is in a container image, and what it is called.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ImageRecipe {
    pub name: String,
    #[serde(default)]
    pub purpose: Purpose,
    pub references: Vec<String>,
    /// Binaries of the distribution, each with its path in the image.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Files of the distribution that are no programs, each with its path in the image.
    #[serde(default)]
    pub data: BTreeMap<String, PathBuf>,
    /// Directories that are there and empty.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// Symbolic links beside a binary or a host program, by its name.
    #[serde(default)]
    pub links: BTreeMap<String, Vec<String>>,
    /// Programs of this machine that are copied in with their libraries, each with its Debian package.
    #[serde(default)]
    pub host_programs: BTreeMap<PathBuf, String>,
    /// Where the operators' binary goes; the image is left out when there is none.
    #[serde(default)]
    pub operator: Option<PathBuf>,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// The arguments of the entry point where a pod gives none.
    #[serde(default)]
    pub command: Vec<String>,
}

/// The Kubernetes versions that the distribution can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// The version of new cells and tenants.
    pub default: String,
    /// Every version that can be built, newest first.
    pub supported: Vec<String>,
}

impl Distribution {
    /// Reads the embedded pins.
    pub fn embedded() -> Result<Self, Error> {
        serde_saphyr::from_str(PINS).map_err(|e| Error::Pins {
            reason: e.to_string(),
        })
    }

    /// The components that run with one version of Kubernetes; those for tests bring the platform's too.
    pub fn components_for(&self, kubernetes: &str, purpose: Purpose) -> Result<Vec<Component>, Error> {
        let versions = self.versions();
        if !versions.supported.iter().any(|v| v == kubernetes) {
            return Err(Error::UnknownKubernetes {
                version: kubernetes.to_owned(),
                supported: versions.supported.join(", "),
            });
        }
        let wanted =
            |c: &&Component| c.purpose <= purpose && (c.name != "kubernetes" || c.version == kubernetes);
        Ok(self.components.iter().filter(wanted).cloned().collect())
    }

    /// The images for one purpose.
    pub fn images_for(&self, purpose: Purpose) -> Vec<ImageRecipe> {
        let wanted = |image: &&ImageRecipe| image.purpose == purpose;
        self.images.iter().filter(wanted).cloned().collect()
    }

    /// The Kubernetes versions in the pins, in their order.
    pub fn versions(&self) -> Versions {
        let kubernetes = self.components.iter().filter(|c| c.name == "kubernetes");
        Versions {
            default: self.default_kubernetes.clone(),
            supported: kubernetes.map(|c| c.version.clone()).collect(),
        }
    }
}

impl Component {
    /// How long the build takes on two cores with nothing cached.
    pub fn usual(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }

    /// The programs it makes.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        let (binaries, tests) = match &self.source {
            Source::Go(go) => (&go.binaries, Some(&go.tests)),
            Source::Wheel(wheel) => (&wheel.binaries, None),
        };
        let tests = tests.into_iter().flat_map(BTreeMap::keys);
        binaries.keys().chain(tests).map(String::as_str)
    }

    /// All the files it makes: the programs, and what comes with them.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let files = match &self.source {
            Source::Go(go) => Some(&go.files),
            Source::Wheel(_) => None,
        };
        let files = files.into_iter().flat_map(BTreeMap::keys);
        self.programs().chain(files.map(String::as_str))
    }

    /// Fills the version's placeholders in a recipe's string.
    pub fn fill(&self, text: &str) -> String {
        let mut numbers = self.version.split('.');
        let major = numbers.next().unwrap_or_default();
        let minor = numbers.next().unwrap_or_default();
        text.replace("{version}", &self.version)
            .replace("{major}", major)
            .replace("{minor}", minor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{SYSTEM_PACKAGES, TEST_PACKAGES, modules};

    /// The version that a go.mod requires of a module, and the text around it.
    fn required(module: &str, pin: &str) -> Option<String> {
        let files = modules::files(module).unwrap();
        let (_, content) = files.iter().find(|(name, _)| *name == "go.mod").unwrap();
        let text = std::str::from_utf8(content).unwrap();
        text.lines().find_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split_whitespace();
            (words.next()? == pin)
                .then(|| words.next().map(str::to_owned))
                .flatten()
        })
    }

    #[test]
    fn every_module_requires_the_pinned_version() {
        for component in Distribution::embedded().unwrap().components {
            let Source::Go(go) = &component.source else {
                continue;
            };
            if let Some(pin) = &go.pin {
                let found = required(&go.module, pin);
                assert_eq!(
                    found,
                    Some(format!("v{}", component.version)),
                    "{} in {}",
                    pin,
                    go.module
                );
            }
        }
    }

    #[test]
    fn no_module_directory_is_left_over() {
        let components = Distribution::embedded().unwrap().components;
        let used: BTreeSet<_> = components
            .iter()
            .filter_map(|c| {
                if let Source::Go(go) = &c.source {
                    Some(go.module.as_str())
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(
            used,
            modules::EMBEDDED.iter().map(|(module, ..)| *module).collect()
        );
    }

    #[test]
    fn every_version_has_all_that_nodes_and_images_want() {
        let distribution = Distribution::embedded().unwrap();
        for version in distribution.versions().supported {
            for purpose in [Purpose::Platform, Purpose::Test] {
                let components = distribution.components_for(&version, purpose).unwrap();
                let made: BTreeSet<&str> = components.iter().flat_map(Component::outputs).collect();
                let node = &distribution.node;
                let images = distribution.images_for(purpose);
                let images = images
                    .iter()
                    .flat_map(|image| image.files.keys().chain(image.data.keys()));
                for name in node.bin.iter().chain(&node.cni).chain(images) {
                    assert!(
                        made.contains(name.as_str()),
                        "nothing makes {name} with Kubernetes {version}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_only_tests_want_is_made_only_for_them() {
        let distribution = Distribution::embedded().unwrap();
        let named = |purpose| -> Vec<String> {
            let components = distribution
                .components_for(&distribution.default_kubernetes, purpose)
                .unwrap();
            components.into_iter().map(|component| component.name).collect()
        };
        let (platform, test) = (named(Purpose::Platform), named(Purpose::Test));
        assert!(!platform.contains(&"helm".to_owned()), "{platform:?}");
        assert!(test.contains(&"helm".to_owned()), "{test:?}");
        assert!(platform.iter().all(|name| test.contains(name)), "{test:?}");
        let images = distribution.images_for(Purpose::Platform);
        assert!(images.iter().all(|image| image.name != "agnhost"));
    }

    #[test]
    fn one_name_is_one_file() {
        let distribution = Distribution::embedded().unwrap();
        let components = distribution
            .components_for(&distribution.default_kubernetes, Purpose::Test)
            .unwrap();
        let mut seen = BTreeSet::new();
        for name in components.iter().flat_map(Component::outputs) {
            assert!(seen.insert(name), "two components make {name}");
        }
    }

    /// Every module that a go.mod requires, with its version.
    fn requirements(module: &str) -> BTreeSet<String> {
        let files = modules::files(module).unwrap();
        let (_, content) = files.iter().find(|(name, _)| *name == "go.mod").unwrap();
        let lines = std::str::from_utf8(content).unwrap().lines();
        let required = lines.filter(|line| line.starts_with('\t') && line.contains(" v"));
        required
            .map(|line| line.trim().trim_end_matches(" // indirect").to_owned())
            .collect()
    }

    #[test]
    fn tests_are_built_from_the_sources_of_hyperkube() {
        let (hyperkube, tests) = (
            requirements("kubernetes-1.36"),
            requirements("kubernetes-1.36-tests"),
        );
        let other: Vec<_> = hyperkube.difference(&tests).collect();
        assert!(hyperkube.len() > 100 && other.is_empty(), "{other:?}");
    }

    #[test]
    fn every_link_is_to_a_file_of_its_image() {
        for image in Distribution::embedded().unwrap().images {
            for target in image.links.keys() {
                let mut host = image.host_programs.keys();
                let there = image.files.contains_key(target) || host.any(|path| path.ends_with(target));
                assert!(there, "image {} has no {target}", image.name);
            }
        }
    }

    #[test]
    fn every_host_program_is_from_a_package_that_is_installed() {
        for image in Distribution::embedded().unwrap().images {
            for (program, package) in &image.host_programs {
                let installed = match image.purpose {
                    Purpose::Platform => SYSTEM_PACKAGES,
                    Purpose::Test => &[SYSTEM_PACKAGES, TEST_PACKAGES].concat(),
                };
                assert!(
                    installed.contains(&package.as_str()),
                    "nobody installs {package}, which has {}",
                    program.display()
                );
            }
        }
    }

    #[test]
    fn the_default_is_supported_and_others_are_refused() {
        let distribution = Distribution::embedded().unwrap();
        let versions = distribution.versions();
        assert!(versions.supported.contains(&versions.default));
        let error = distribution
            .components_for("1.2.3", Purpose::Platform)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1.2.3") && error.contains(&versions.default),
            "{error}"
        );
    }

    #[test]
    fn placeholders_are_filled() {
        let distribution = Distribution::embedded().unwrap();
        let component = distribution.components.first().unwrap();
        assert_eq!(component.fill("{version} {major}-{minor}"), "1.36.3 1-36");
    }
}
