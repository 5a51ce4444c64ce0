//! A worker gets the programs and images of another distribution, and its kubelet's configuration anew.
//!
//! Its pods are the caller's business: it drains the node before, and looks at it after.

use std::time::Duration;

use skep_distro::Artifacts;

use super::machine::Machine;
use super::stand::Stand;
use super::{Place, state, stop_machine};
use crate::error::{Error, Refusal};

/// `kubeadm upgrade node` reads one `ConfigMap` and writes one file.
const UPGRADE_LIMIT: Duration = Duration::from_mins(2);

/// Upgrades the machine of one node of a tenant; a node that has no machine here is refused.
pub async fn upgrade_worker(
    place: &Place<'_>,
    cpid: &str,
    node: &str,
    artifacts: &Artifacts,
) -> Result<(), Error> {
    let stand = Stand::open(place).await?;
    let site = stand.site(&stand.cell(place)?, place, artifacts)?;
    let no_machine = || Refusal::NoMachine(node.to_owned());
    let tenant = state::find(&stand.layout, cpid)?.ok_or_else(no_machine)?;
    let worker = tenant.workers.iter().find(|worker| worker.name == node);
    let machine = Machine {
        site: &site,
        tenant: &tenant,
        worker: worker.ok_or_else(no_machine)?,
    };
    let (starter, name) = (site.starter(), machine.name());
    // kubeadm first, as its own guide has it: with the new program, on the machine that still runs the old ones.
    starter
        .inside(&name)?
        .command(&artifacts.bin.join("kubeadm"))
        .args(["upgrade", "node", "--ignore-preflight-errors=all", "--patches"])
        .arg(stand.layout.machine(&name).kubeadm_patches())
        .limit(UPGRADE_LIMIT)
        .run()
        .await?;
    stop_machine(&stand.hierarchies, &site.names, &name).await;
    // Cables may have gone with the machine.
    site.ensure(&tenant).await?;
    starter.wait_runtime(&name).await?;
    site.import(starter.inside(&name)?).await
}
