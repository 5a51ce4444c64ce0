//! Workers of tenants: node machines in a network of the tenant's own, which join with plain kubeadm.
//!
//! The tenant's API is reached through the gateway alone, as from any other network. Rights in the tenant are the
//! caller's business: it brings a bootstrap token, and deletes the nodes of machines that are removed.

mod machine;
mod network;
mod pods;
mod stand;
mod state;
mod upgrade;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use skep_distro::{Artifacts, Progress};

use crate::address::Slot;
use crate::cell::Cell;
use crate::command::Command;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::host::{interfaces, preflight, process};
use crate::inside::Inside;
use crate::layout::Layout;
use crate::names::Names;
use crate::node::images::{ImageStore, import_missing};
use crate::start::Starter;
use machine::Machine;
use network::TenantTopology;
use stand::Stand;
use state::TenantState;

pub use state::{Tenant, Worker};
pub use upgrade::upgrade_worker;

/// How long a machine may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Images that a worker needs to be of use.
const IMAGES: [&str; 8] = [
    "busybox",
    "coredns",
    "envoy",
    "konnectivity",
    "kubernetes",
    "local-path-provisioner",
    "metrics-server",
    "pause",
];

/// What lets a machine join a tenant: a bootstrap token, and the hash of the authority that it must meet there.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// `abcdef.0123456789abcdef`.
    pub token: String,
    /// `sha256:` and the hex hash of the authority's public key.
    pub authority_hash: String,
}

/// Which platform workers are added to.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The instance.
    pub instance: &'a str,
    /// Its state directory.
    pub home: &'a Path,
    /// The command that becomes a machine's supervisor; `--config FILE` is added to it.
    pub supervisor: &'a [OsString],
}

/// What machines of workers are made of.
struct Site<'a> {
    names: Names,
    slot: Slot,
    layout: &'a Layout,
    hierarchies: &'a Hierarchies,
    artifacts: &'a Artifacts,
    supervisor: &'a [OsString],
    /// How many node machines share this host.
    machines: usize,
}

impl<'a> Site<'a> {
    fn new(
        cell: &Cell,
        tenants: &[TenantState],
        layout: &'a Layout,
        hierarchies: &'a Hierarchies,
        artifacts: &'a Artifacts,
        supervisor: &'a [OsString],
    ) -> Self {
        let workers: usize = tenants.iter().map(|tenant| tenant.workers.len()).sum();
        Self {
            names: cell.names(),
            slot: cell.slot,
            layout,
            hierarchies,
            artifacts,
            supervisor,
            machines: cell.nodes.len() + workers,
        }
    }
}

impl Site<'_> {
    fn starter(&self) -> Starter<'_> {
        Starter {
            supervisor: self.supervisor,
            names: &self.names,
            layout: self.layout,
            hierarchies: self.hierarchies,
            bin: &self.artifacts.bin,
        }
    }

    async fn ensure_network(&self, tenant: &TenantState) -> Result<bool, Error> {
        TenantTopology {
            names: &self.names,
            slot: self.slot,
            tenant,
        }
        .ensure()
        .await
    }

    /// Network and machines of a tenant as its file says; says whether anything was missing.
    async fn ensure(&self, tenant: &TenantState) -> Result<bool, Error> {
        let has_wired = self.ensure_network(tenant).await? | self.plug_in(tenant).await?;
        let starter = self.starter();
        let booted = try_join_all(tenant.workers.iter().map(|worker| async move {
            let machine = Machine {
                site: self,
                tenant,
                worker,
            };
            machine.prepare()?;
            starter.ensure(&machine.name()).await
        }))
        .await?;
        Ok(has_wired || booted.contains(&true))
    }

    /// Brings the images that a worker needs onto a machine.
    async fn import(&self, inside: Inside<'_>) -> Result<(), Error> {
        let store = ImageStore {
            inside,
            bin: &self.artifacts.bin,
        };
        let wanted: Vec<_> = self
            .artifacts
            .images
            .iter()
            .filter(|image| IMAGES.contains(&image.name.as_str()))
            .collect();
        import_missing(&store, &wanted).await.map(drop)
    }

    /// Makes a machine a node of its tenant, from whatever an earlier try left; returns its pods' range.
    async fn admit(&self, machine: &Machine<'_>, token: &JoinToken) -> Result<ipnet::Ipv4Net, Error> {
        let (starter, name) = (self.starter(), machine.name());
        starter.wait_runtime(&name).await?;
        let inside = starter.inside(&name)?;
        let joining = async {
            if machine.is_member() {
                Ok(())
            } else {
                machine.join(inside, token).await
            }
        };
        tokio::try_join!(joining, self.import(inside))?;
        machine.wait_credentials().await?;
        machine.pods(inside).await
    }
}

/// Adds a worker in each of `zones` to a tenant and returns them once they have joined.
pub async fn add_workers(
    place: &Place<'_>,
    tenant: &Tenant,
    name: &str,
    zones: &[String],
    token: &JoinToken,
    artifacts: &Artifacts,
    progress: &dyn Progress,
) -> Result<Vec<Worker>, Error> {
    let stand = Stand::open(place).await?;
    let cell = stand.cell(place)?;
    let layout = &stand.layout;
    let mut stands = TenantState::open(layout, tenant)?;
    let added = stands.grow(name, zones)?;
    // Written before anything is made: `up` goes on with what a killed command began, `down` removes it.
    stands.write(layout)?;
    let site = stand.site(&cell, place, artifacts)?;
    let begun = std::time::Instant::now();
    progress.start(
        "machines",
        "network and machines of the tenant",
        Some(Duration::from_secs(2)),
    );
    let has_made = site.ensure(&stands).await?;
    progress.finish("machines", begun.elapsed(), !has_made);
    let begun = std::time::Instant::now();
    progress.start(
        "join",
        "kubeadm joins through the gateway",
        Some(Duration::from_secs(15)),
    );
    let admitted = join_all(added.iter().map(|worker| {
        let (site, stands) = (&site, &stands);
        let machine = Machine {
            site,
            tenant: stands,
            worker,
        };
        async move { site.admit(&machine, token).await }
    }))
    .await;
    let mut ranges = Vec::new();
    let mut failures = Vec::new();
    for (worker, result) in added.iter().zip(admitted) {
        match result {
            Ok(range) => ranges.push((worker, range)),
            Err(error) => failures.push((worker.name.clone(), error)),
        }
    }
    for (worker, pods) in ranges {
        if let Some(known) = stands
            .workers
            .iter_mut()
            .find(|known| known.index == worker.index)
        {
            known.pods = Some(pods);
        }
    }
    let (refused, failures): (Vec<_>, Vec<_>) = failures.into_iter().unzip();
    if let Some(error) = failures.into_iter().next() {
        // A machine that could not join is of no use, and its name may be wanted again.
        remove_from(&stand, &site.names, stands, &refused).await?;
        return Err(error);
    }
    stands.write(layout)?;
    site.ensure(&stands).await?;
    progress.finish("join", begun.elapsed(), false);
    let is_new = |worker: &&Worker| added.iter().any(|added| added.index == worker.index);
    Ok(stands.workers.iter().filter(is_new).cloned().collect())
}

/// Imports image archives (OCI or Docker) into the container runtimes of a tenant's workers here; returns the
/// workers' names.
pub async fn load_images(
    place: &Place<'_>,
    cpid: &str,
    archives: &[std::path::PathBuf],
    artifacts: &Artifacts,
) -> Result<Vec<String>, Error> {
    preflight::check_user()?;
    let hierarchies = Hierarchies::observe()?;
    let layout = Layout::new(&std::path::absolute(place.home).map_err(Error::io("find", place.home))?);
    let names = Names::new(place.instance);
    let starter = Starter {
        supervisor: place.supervisor,
        names: &names,
        layout: &layout,
        hierarchies: &hierarchies,
        bin: &artifacts.bin,
    };
    let workers = workers(place.home, cpid)?;
    try_join_all(workers.iter().map(|worker| {
        let machine = names.worker(cpid, worker.index);
        async move {
            let store = ImageStore {
                inside: starter.inside(&machine)?,
                bin: &artifacts.bin,
            };
            for archive in archives {
                store.import(archive).await?;
            }
            Ok::<_, Error>(())
        }
    }))
    .await?;
    Ok(workers.into_iter().map(|worker| worker.name).collect())
}

/// The workers that a tenant has here.
pub fn workers(home: &Path, cpid: &str) -> Result<Vec<Worker>, Error> {
    let layout = Layout::new(home);
    Ok(state::find(&layout, cpid)?
        .map(|tenant| tenant.workers)
        .unwrap_or_default())
}

/// Every tenant with workers here, by cpid.
pub fn tenants(home: &Path) -> Result<Vec<String>, Error> {
    Ok(state::all(&Layout::new(home))?
        .into_iter()
        .map(|tenant| tenant.cpid)
        .collect())
}

/// Removes the machines of these nodes, and the tenant's network with the last of them; what is not there is no
/// failure.
pub async fn remove_workers(place: &Place<'_>, cpid: &str, nodes: &[String]) -> Result<Vec<Worker>, Error> {
    let stand = Stand::open(place).await?;
    let Some(tenant) = state::find(&stand.layout, cpid)? else {
        return Ok(Vec::new());
    };
    remove_from(&stand, &Names::new(place.instance), tenant, nodes).await
}

async fn remove_from(
    stand: &Stand,
    names: &Names,
    mut tenant: TenantState,
    nodes: &[String],
) -> Result<Vec<Worker>, Error> {
    let cpid = tenant.cpid.clone();
    let (gone, kept): (Vec<_>, Vec<_>) = tenant
        .workers
        .iter()
        .cloned()
        .partition(|worker| nodes.contains(&worker.name));
    try_join_all(
        gone.iter()
            .map(|worker| remove_machine(stand, names, &cpid, worker)),
    )
    .await?;
    tenant.workers = kept;
    if tenant.workers.is_empty() {
        remove_netns(&names.router(&cpid)).await?;
        let file = stand.layout.tenant(&cpid);
        std::fs::remove_file(&file).map_err(Error::io("remove", file))?;
    } else {
        tenant.write(&stand.layout)?;
    }
    Ok(gone)
}

/// Ends a machine's processes; its files stay.
async fn stop_machine(hierarchies: &Hierarchies, names: &Names, machine: &str) {
    let init: BTreeSet<_> = process::machine_init(hierarchies, names, machine)
        .into_iter()
        .collect();
    process::signal(&init, Signal::SIGTERM);
    process::wait_gone(&init, STOP_LIMIT).await;
    let mut rest = hierarchies.processes(&names.machine_cgroup(machine));
    rest.extend(process::in_netns(machine));
    process::signal(&rest, Signal::SIGKILL);
    process::wait_gone(&rest, STOP_LIMIT).await;
}

async fn remove_machine(stand: &Stand, names: &Names, cpid: &str, worker: &Worker) -> Result<(), Error> {
    let Stand {
        layout, hierarchies, ..
    } = stand;
    let machine = names.worker(cpid, worker.index);
    stop_machine(hierarchies, names, &machine).await;
    hierarchies.remove(&names.machine_cgroup(&machine)).await?;
    remove_netns(&machine).await?;
    match std::fs::remove_dir_all(layout.machine(&machine).dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", layout.machine(&machine).dir())(error))
        }
        _ => Ok(()),
    }
}

async fn remove_netns(netns: &str) -> Result<(), Error> {
    if interfaces::is_netns(netns) {
        Command::new("ip").args(["netns", "delete", netns]).run().await?;
    }
    Ok(())
}

/// What `up` must keep of tenants: their machines, and their routers.
pub(crate) fn kept(layout: &Layout, names: &Names) -> Result<(Vec<String>, Vec<String>), Error> {
    let all = state::all(layout)?;
    let machines = all.iter().flat_map(|tenant| {
        tenant
            .workers
            .iter()
            .map(|worker| names.worker(&tenant.cpid, worker.index))
    });
    let routers = all.iter().map(|tenant| names.router(&tenant.cpid));
    Ok((machines.collect(), routers.collect()))
}

/// Brings networks and machines of all tenants back; says whether anything was missing.
pub(crate) async fn restore(
    cell: &Cell,
    layout: &Layout,
    hierarchies: &Hierarchies,
    artifacts: &Artifacts,
    supervisor: &[OsString],
) -> Result<bool, Error> {
    let all = state::all(layout)?;
    let site = Site::new(cell, &all, layout, hierarchies, artifacts, supervisor);
    let restored = try_join_all(all.iter().map(|tenant| site.ensure(tenant))).await?;
    Ok(restored.contains(&true))
}
