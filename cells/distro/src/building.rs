//! The components that the cache lacks: downloaded side by side, built in turn.
//!
//! Must not build two things at once: a Go build uses every core by itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::cache::{Binaries, Cache, Lock};
use crate::component::{self, Workplace};
use crate::distribution::Component;
use crate::ensure::blocking;
use crate::toolchain::{self, Go};
use crate::{Error, Progress, sums};

/// How many downloads run at once.
const DOWNLOADS: usize = 4;

/// The binaries of all components, from the cache or built into it.
pub(crate) async fn binaries(
    cache: &Cache,
    oldest_go: &str,
    components: &[Component],
    progress: &dyn Progress,
) -> Result<Binaries, Error> {
    let go = Go::find(oldest_go).await?;
    let mut found = Binaries::new();
    let mut missing = take_cached(cache, &go, components, &mut found, progress)?;
    if missing.is_empty() {
        return Ok(found);
    }
    toolchain::check_programs(&missing).await?;
    let lock = lock(cache, progress).await?;
    // Another process may have built them while this one waited.
    missing = take_cached(cache, &go, &missing, &mut found, progress)?;
    if missing.is_empty() {
        return Ok(found);
    }
    toolchain::check_room(cache.root(), &go, &missing)?;
    let mut sites = Vec::new();
    for component in missing {
        sites.push(Site::new(component, &go, cache, &lock)?);
    }
    let (fetched, mut ready) = mpsc::unbounded_channel();
    let downloads = async move {
        let mut done = stream::iter(sites)
            .map(|site| site.download(progress))
            .buffered(DOWNLOADS);
        while let Some(site) = done.next().await {
            // The receiver goes away only when a build has failed, and this future with it.
            let _ = fetched.send(site?);
        }
        Ok(())
    };
    let builds = async {
        while let Some(site) = ready.recv().await {
            found.extend(site.build(cache, &lock, progress).await?);
        }
        Ok(())
    };
    tokio::try_join!(downloads, builds)?;
    Ok(found)
}

/// Waits for the right to change the cache, and clears what killed processes left in it.
pub(crate) async fn lock(cache: &Cache, progress: &dyn Progress) -> Result<Lock, Error> {
    let place = cache.root().display();
    let waiting = || {
        let detail = format!("another process builds into {place}; waiting for it");
        progress.line("cache", &detail);
    };
    let lock = cache.lock(waiting).await?;
    cache.sweep(&lock)?;
    Ok(lock)
}

fn take_cached(
    cache: &Cache,
    go: &Go,
    components: &[Component],
    found: &mut Binaries,
    progress: &dyn Progress,
) -> Result<Vec<Component>, Error> {
    let mut missing = Vec::new();
    for component in components {
        let key = component::key(component, &go.identity)?;
        if let Some(binaries) = cache.find(&entry_name(component), &key) {
            progress.start(&component.name, &what(component), None);
            progress.finish(&component.name, Duration::ZERO, true);
            found.extend(binaries);
        } else {
            missing.push(component.clone());
        }
    }
    Ok(missing)
}

fn entry_name(component: &Component) -> String {
    format!("{}-{}", component.name, component.version)
}

fn what(component: &Component) -> String {
    format!("{} {}", component.name, component.version)
}

/// A component that is not in the cache, and the directory in which it grows.
struct Site {
    component: Component,
    key: String,
    aside: TempDir,
    log: PathBuf,
    spent: Duration,
}

impl Site {
    fn new(component: Component, go: &Go, cache: &Cache, lock: &Lock) -> Result<Self, Error> {
        let key = component::key(&component, &go.identity)?;
        let aside = cache.aside(lock)?;
        for part in ["sources", "output"] {
            let path = aside.path().join(part);
            std::fs::create_dir(&path).map_err(Error::io("create the directory", &path))?;
        }
        let log = cache.log(&entry_name(&component));
        std::fs::write(&log, "").map_err(Error::io("empty the log", &log))?;
        Ok(Self {
            component,
            key,
            aside,
            log,
            spent: Duration::ZERO,
        })
    }

    async fn download(mut self, progress: &dyn Progress) -> Result<Self, Error> {
        let begun = Instant::now();
        let name = &self.component.name;
        progress.start(name, &what(&self.component), Some(self.component.usual()));
        progress.line(name, "downloading");
        let (sources, output) = self.directories();
        let place = Workplace {
            sources: &sources,
            output: &output,
            log: &self.log,
        };
        component::download(&self.component, &place, |text| progress.line(name, text)).await?;
        progress.line(name, "downloaded");
        self.spent = begun.elapsed();
        Ok(self)
    }

    async fn build(self, cache: &Cache, lock: &Lock, progress: &dyn Progress) -> Result<Binaries, Error> {
        let begun = Instant::now();
        let name = self.component.name.clone();
        progress.line(&name, "building");
        let (sources, output) = self.directories();
        let place = Workplace {
            sources: &sources,
            output: &output,
            log: &self.log,
        };
        component::build(&self.component, &place, |text| progress.line(&name, text)).await?;
        let spent = self.spent;
        let (cache, lock) = (cache.clone(), lock.clone());
        let found = blocking("puts a build into the cache", move || {
            self.finish(&cache, &lock, &output)
        })
        .await?;
        progress.finish(&name, spent + begun.elapsed(), false);
        Ok(found)
    }

    fn finish(&self, cache: &Cache, lock: &Lock, output: &Path) -> Result<Binaries, Error> {
        let names: Vec<&str> = self.component.outputs().collect();
        let sums = sums::of_files(output, &names)?;
        cache.finish(lock, output, (&entry_name(&self.component), &self.key), sums)
    }

    fn directories(&self) -> (PathBuf, PathBuf) {
        (
            self.aside.path().join("sources"),
            self.aside.path().join("output"),
        )
    }
}
