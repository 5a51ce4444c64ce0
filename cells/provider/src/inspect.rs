//! What of an instance runs, for `skep status` and `skep doctor`; changes nothing.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cell::Cell;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::host::cgroup::Hierarchies;
use crate::host::process;
use crate::host::registry::Registry;
use crate::layout::Layout;
use crate::leftovers::{self, Keep, Step};
use crate::names::Names;
use crate::spec::{Node, Ranges};
use crate::{state, workers};

/// What there is of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The instance's name.
    pub instance: String,
    /// Its address ranges, if it was ever up and its data is there.
    pub ranges: Option<Ranges>,
    /// Its machines, the front's first.
    pub machines: Vec<Machine>,
    /// Whether the cell's API answers.
    pub api: Api,
    /// What is on the host and belongs to no running machine: what `up` or `down` would take away.
    pub leftovers: Vec<Step>,
}

/// A machine of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its node, if it is one.
    pub node: Option<Node>,
    /// Its process 1 on the host, while it runs.
    pub init: Option<i32>,
    /// The supervised programs that run.
    pub services: Vec<String>,
    /// All its processes, those in containers too.
    pub processes: usize,
    /// Whether its node is ready, as the API says; absent where that is not known.
    pub ready: Option<bool>,
    /// Where it logs.
    pub log: PathBuf,
}

/// Whether the cell's API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// It does.
    Serving,
    /// It does not.
    Unreachable,
    /// There are no credentials to ask with.
    Unknown,
}

/// Reads what there is of an instance.
pub async fn inspect(instance: &str, home: &Path) -> Result<Inspection, Error> {
    let hierarchies = Hierarchies::observe()?;
    let home = std::path::absolute(home).map_err(Error::io("find", home))?;
    let layout = Layout::new(&home);
    let names = Names::new(instance);
    let cell = state::read::<Cell>(&layout.cell())?.filter(|cell| cell.instance == instance);
    let wanted = cell.as_ref().map(Cell::machines).unwrap_or_default();
    let (workers, routers) = workers::kept(&layout, &names)?;
    let kept = [wanted.clone(), workers].concat();
    let others = Registry::open().others(instance)?;
    let observed = leftovers::observe(&hierarchies, &names, &others, &home);
    let leftovers = leftovers::plan(
        &observed,
        Keep::Machines {
            machines: &kept,
            routers: &routers,
        },
        &names,
    );
    let (api, ready) = ask(&layout).await;
    let machines = wanted
        .iter()
        .map(|name| Machine {
            name: name.clone(),
            node: cell
                .as_ref()
                .and_then(|cell| cell.nodes.iter().find(|node| node.name == *name))
                .cloned(),
            init: process::machine_init(&hierarchies, &names, name),
            services: services(&hierarchies, &names, name),
            processes: hierarchies.processes(&names.machine_cgroup(name)).len(),
            ready: ready.get(name).copied(),
            log: layout.machine(name).log().to_owned(),
        })
        .collect();
    let ranges = cell.map(|cell| cell.slot.ranges());
    Ok(Inspection {
        instance: instance.to_owned(),
        ranges,
        machines,
        api,
        leftovers,
    })
}

/// Asks the API for its nodes.
async fn ask(layout: &Layout) -> (Api, std::collections::BTreeMap<String, bool>) {
    let nothing = std::collections::BTreeMap::new();
    let Ok(cluster) = Cluster::open(&layout.kubeconfig()).await else {
        return (Api::Unknown, nothing);
    };
    if !cluster.is_ready().await {
        return (Api::Unreachable, nothing);
    }
    (Api::Serving, cluster.node_states().await.unwrap_or(nothing))
}

/// The programs that a machine's supervisor runs.
fn services(hierarchies: &Hierarchies, names: &Names, machine: &str) -> Vec<String> {
    const SERVICES: [&str; 3] = ["containerd", "kubelet", "envoy"];
    let cgroup = format!("{}/system", names.machine_cgroup(machine));
    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let running = hierarchies.processes(&cgroup).into_iter().filter_map(name);
    let mut found: Vec<_> = running
        .map(|name| name.trim().to_owned())
        .filter(|name| SERVICES.contains(&name.as_str()))
        .collect();
    found.sort();
    found.dedup();
    found
}
