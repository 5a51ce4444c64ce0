//! A worker gets the programs and images of another distribution, and its kubelet's configuration anew.
//!
//! Its pods are the caller's business: it drains the node before, and looks at it after.

use std::time::Duration;

use skep_distro::Artifacts;

use super::machine::Machine;
use super::{Place, Site, state, stop_machine};
use crate::cell::Cell;
use crate::error::{Error, Refusal};
use crate::host::cgroup::Hierarchies;
use crate::host::preflight;
use crate::host::registry::Registry;
use crate::layout::Layout;

/// `kubeadm upgrade node` reads one `ConfigMap` and writes one file.
const UPGRADE_LIMIT: Duration = Duration::from_mins(2);

/// Upgrades the machine of one node of a tenant; a node that has no machine here is refused.
pub async fn upgrade_worker(
    place: &Place<'_>,
    cpid: &str,
    node: &str,
    artifacts: &Artifacts,
) -> Result<(), Error> {
    preflight::check_user()?;
    let hierarchies = Hierarchies::observe()?;
    let layout = Layout::new(&std::path::absolute(place.home).map_err(Error::io("find", place.home))?);
    let registry = Registry::open();
    let _lock = registry.lock(place.instance)?;
    let cell = crate::state::read::<Cell>(&layout.cell())?
        .ok_or_else(|| Refusal::NotUp(place.instance.to_owned()))?;
    let all = state::all(&layout)?;
    let machines = cell.nodes.len() + all.iter().map(|tenant| tenant.workers.len()).sum::<usize>();
    let found = all.iter().find(|tenant| tenant.cpid == cpid).and_then(|tenant| {
        let worker = tenant.workers.iter().find(|worker| worker.name == node)?;
        Some((tenant, worker))
    });
    let (tenant, worker) = found.ok_or_else(|| Refusal::NoMachine(node.to_owned()))?;
    let site = Site {
        names: cell.names(),
        slot: cell.slot,
        layout: &layout,
        hierarchies: &hierarchies,
        artifacts,
        supervisor: place.supervisor,
        machines,
    };
    let machine = Machine {
        site: &site,
        tenant,
        worker,
    };
    let (starter, name) = (site.starter(), machine.name());
    // kubeadm first, as its own guide has it: with the new program, on the machine that still runs the old ones.
    starter
        .inside(&name)?
        .command(&artifacts.bin.join("kubeadm"))
        .args(["upgrade", "node", "--ignore-preflight-errors=all", "--patches"])
        .arg(layout.machine(&name).kubeadm_patches())
        .limit(UPGRADE_LIMIT)
        .run()
        .await?;
    stop_machine(&hierarchies, &site.names, &name).await;
    // Cables may have gone with the machine.
    site.ensure(tenant).await?;
    starter.wait_runtime(&name).await?;
    site.import(starter.inside(&name)?).await
}
