//! Pods of the cell that are to be in a tenant's network and were there before it: each machine of the cell keeps
//! records of them.

use std::path::{Path, PathBuf};

use futures::future::try_join_all;

use super::Site;
use super::state::TenantState;
use crate::cell::Cell;
use crate::error::Error;
use crate::host::interfaces::is_netns_at;
use crate::host::process;
use crate::inside::Inside;
use crate::interface::{Cable, RECORDS, Record};
use crate::names::netns_path;
use crate::state;

impl Site<'_> {
    /// Plugs in those pods of a tenant that are not; says whether there were any.
    pub(super) async fn plug_in(&self, tenant: &TenantState) -> Result<bool, Error> {
        let Some(cell) = state::read::<Cell>(&self.layout.cell())? else {
            return Ok(false);
        };
        let router = netns_path(&self.names.router(&tenant.cpid));
        let init = |name: &str| process::machine_init(self.hierarchies, &self.names, name);
        let pods = cell
            .nodes
            .iter()
            .filter_map(|node| init(&node.name))
            .flat_map(|init| {
                let bin = self.artifacts.bin.as_path();
                pods_of(&Inside { init, bin }, &tenant.cpid)
            });
        let plugged = try_join_all(pods.map(|pod| plug(pod, &router))).await?;
        Ok(plugged.contains(&true))
    }
}

/// A pod, as the host sees it.
struct Pod {
    record: PathBuf,
    netns: PathBuf,
}

/// Pods of a tenant on one machine; a record that vanishes or that is being written is another's business.
fn pods_of(inside: &Inside<'_>, cpid: &str) -> Vec<Pod> {
    let files = std::fs::read_dir(inside.path(RECORDS))
        .into_iter()
        .flatten()
        .flatten();
    files
        .map(|file| file.path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|file| Some((state::read::<Record>(&file).ok()??, file)))
        .filter(|(record, _)| record.cpid.as_str() == cpid)
        .map(|(record, file)| Pod {
            record: file,
            netns: inside.path(&record.netns.to_string_lossy()),
        })
        .filter(|pod| is_netns_at(&pod.netns))
        .collect()
}

async fn plug(pod: Pod, router: &Path) -> Result<bool, Error> {
    let Pod { record, netns } = pod;
    let file = record.clone();
    // The plugin holds it for a moment only, and that moment must not stop this thread.
    let locked = tokio::task::spawn_blocking(move || Record::lock(&file)).await;
    let plugged = match locked.map_err(Error::Task)? {
        Ok(_lock) => Cable { pod: &netns, router }.ensure().await,
        Err(error) => Err(error),
    };
    match plugged {
        // It ended meanwhile, and what follows it is plugged in when it starts.
        Err(_) if !record.exists() || !is_netns_at(&netns) => Ok(false),
        result => result,
    }
}
