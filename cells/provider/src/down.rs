//! Takes an instance down and leaves nothing of it on the host.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;
use skep_distro::Progress;

use crate::cell::Cell;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::host::registry::Registry;
use crate::host::{preflight, process, settings};
use crate::layout::Layout;
use crate::leftovers::{self, Keep, Step};
use crate::names::Names;
use crate::state;

/// How long machines may take to end by themselves; their supervisors give up sooner.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What `down` did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DownReport {
    /// Machines that ran and were stopped.
    pub stopped: Vec<String>,
    /// What then was still there and was taken away.
    pub removed: Vec<Step>,
    /// Whether the data is kept for the next `up`.
    pub kept_data: bool,
    /// Whether this was the last instance, so that the host's settings were put back.
    pub was_last: bool,
}

/// Stops and removes an instance; with `keep` its data stays for the next `up`.
pub async fn down(
    instance: &str,
    home: &Path,
    keep: bool,
    progress: &dyn Progress,
) -> Result<DownReport, Error> {
    preflight::check_user()?;
    let hierarchies = Hierarchies::observe()?;
    let home = std::path::absolute(home).map_err(Error::io("find", home))?;
    let layout = Layout::new(&home);
    let names = Names::new(instance);
    let registry = Registry::open();
    let _lock = registry.lock(instance)?;
    let others = registry.others(instance)?;
    let mut report = DownReport {
        kept_data: keep,
        ..DownReport::default()
    };

    let begun = Instant::now();
    progress.start(
        "stop",
        "containers and machines end",
        Some(Duration::from_secs(8)),
    );
    let observed = leftovers::observe(&hierarchies, &names, &others, &home);
    let inits: BTreeSet<_> = observed
        .alive
        .iter()
        .filter_map(|m| process::machine_init(&hierarchies, &names, m))
        .collect();
    process::signal(&inits, Signal::SIGTERM);
    process::wait_gone(&inits, STOP_LIMIT).await;
    report.stopped = observed.alive.into_iter().collect();
    progress.finish("stop", begun.elapsed(), report.stopped.is_empty());

    let begun = Instant::now();
    progress.start(
        "remove",
        "network, cgroups and mounts",
        Some(Duration::from_secs(1)),
    );
    let observed = leftovers::observe(&hierarchies, &names, &others, &home);
    report.removed = leftovers::plan(&observed, Keep::Nothing, &names);
    leftovers::take(&report.removed, &hierarchies, &names).await?;
    hierarchies.remove(&names.cgroup()).await?;
    hierarchies.remove_parent_if_empty();
    if !keep {
        remove_data(&layout, instance)?;
    }
    registry.release(instance, || {
        report.was_last = true;
        settings::restore()
    })?;
    progress.finish("remove", begun.elapsed(), report.removed.is_empty());
    Ok(report)
}

/// Removes the state that `up` made; logs stay.
fn remove_data(layout: &Layout, instance: &str) -> Result<(), Error> {
    let of_another = state::read::<Cell>(&layout.cell())?.is_some_and(|cell| cell.instance != instance);
    if of_another {
        return Ok(());
    }
    for dir in [layout.machines(), layout.volumes(), layout.tenants()] {
        remove(&dir, |path| std::fs::remove_dir_all(path))?;
    }
    for file in [layout.kubeconfig(), layout.cell()] {
        remove(&file, |path| std::fs::remove_file(path))?;
    }
    Ok(())
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), Error> {
    match how(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
