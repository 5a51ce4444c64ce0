//! Brings an instance up: looks what is there, and makes what is missing.

mod machines;
mod members;

use std::time::{Duration, Instant};

use skep_distro::{Artifacts, Progress};

use crate::address::Slot;
use crate::cell::Cell;
use crate::error::{Error, Refusal};
use crate::host::cgroup::Hierarchies;
use crate::host::network::{Station, Topology};
use crate::host::registry::Registry;
use crate::host::{interfaces, preflight, settings};
use crate::layout::Layout;
use crate::leftovers::{self, Keep};
use crate::names::Names;
use crate::spec::{LocalCell, LocalSpec, Node};
use crate::{state, workers};

/// Makes this machine a running local cell, changing nothing that is right.
pub async fn up(
    spec: &LocalSpec,
    artifacts: &Artifacts,
    progress: &dyn Progress,
) -> Result<LocalCell, Error> {
    preflight::check_user()?;
    spec.validate()?;
    preflight::check_machine()?;
    let hierarchies = Hierarchies::observe()?;
    let home = std::path::absolute(&spec.home).map_err(Error::io("find", &spec.home))?;
    let layout = Layout::new(&home);
    let stands = state::read::<Cell>(&layout.cell())?;
    preflight::check_disk(&home, stands.is_some())?;
    let registry = Registry::open();
    let _lock = registry.lock(&spec.instance)?;
    let cell = claim(spec, &registry, &layout, stands.as_ref()).await?;
    let run = Run {
        spec,
        names: cell.names(),
        cell: &cell,
        layout: &layout,
        hierarchies: &hierarchies,
        artifacts,
        progress,
    };
    run.all(&registry).await?;
    Ok(LocalCell {
        kubeconfig: layout.kubeconfig(),
        front_address: cell.slot.front().into(),
        host_address: cell.slot.host().into(),
        nodes: cell.nodes.clone(),
        ranges: cell.slot.ranges(),
    })
}

/// Decides the shape and takes the address slot for it.
async fn claim(
    spec: &LocalSpec,
    registry: &Registry,
    layout: &Layout,
    stands: Option<&Cell>,
) -> Result<Cell, Error> {
    let names = Names::new(&spec.instance);
    let asked = spec.ranges.as_ref().and_then(Slot::of);
    let had = stands.map(|cell| cell.slot).or(asked);
    let slot = registry.peek(&spec.instance, layout.home(), had)?;
    let cell = Cell::shape(spec, slot, stands)?;
    interfaces::check_free(slot, &names.bridge()).await?;
    if registry.claim(&spec.instance, layout.home(), Some(slot))? != slot {
        return Err(Refusal::SlotTaken {
            instance: spec.instance.clone(),
            by: "another instance".into(),
        }
        .into());
    }
    if stands != Some(&cell) {
        state::write(&layout.cell(), &cell)?;
    }
    Ok(cell)
}

/// One run of `up`.
struct Run<'a> {
    spec: &'a LocalSpec,
    names: Names,
    cell: &'a Cell,
    layout: &'a Layout,
    hierarchies: &'a Hierarchies,
    artifacts: &'a Artifacts,
    progress: &'a dyn Progress,
}

/// Whether a step had anything to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Nothing,
}

impl Run<'_> {
    async fn all(&self, registry: &Registry) -> Result<(), Error> {
        self.step(
            "host",
            "settings and leftovers of the host",
            1,
            self.clean(registry),
        )
        .await?;
        self.step("network", "bridge, cables and routes", 1, self.network())
            .await?;
        self.step("machines", "node machines and the front", 4, self.machines())
            .await?;
        let first_images = self.first_images();
        self.step(
            "first-images",
            "images of the control plane",
            5,
            self.images(&self.cell.nodes[..1], &first_images),
        )
        .await?;
        let all: Vec<_> = self.artifacts.images.iter().collect();
        let rest = async {
            tokio::try_join!(
                self.step(
                    "control-plane",
                    "the first control plane",
                    30,
                    self.control_plane()
                ),
                self.step(
                    "images",
                    "images on all nodes",
                    15,
                    self.images(&self.cell.nodes, &all)
                ),
            )
        };
        rest.await?;
        self.step("nodes", "nodes join and become ready", 25, self.nodes())
            .await?;
        self.step("services", "names and volumes of the cluster", 1, self.services())
            .await?;
        self.step("workers", "networks and machines of tenants", 1, self.workers())
            .await
            .map(drop)
    }

    /// Runs a step and tells about it.
    async fn step(
        &self,
        name: &str,
        what: &str,
        usual_seconds: u64,
        work: impl Future<Output = Result<Outcome, Error>>,
    ) -> Result<Outcome, Error> {
        self.progress
            .start(name, what, Some(Duration::from_secs(usual_seconds)));
        let begun = Instant::now();
        let outcome = work.await?;
        self.progress
            .finish(name, begun.elapsed(), outcome == Outcome::Nothing);
        Ok(outcome)
    }

    async fn clean(&self, registry: &Registry) -> Result<Outcome, Error> {
        settings::prepare()?;
        let names = self.cell.names();
        let others = registry.others(&self.cell.instance)?;
        let observed = leftovers::observe(self.hierarchies, &names, &others, self.layout.home());
        let (workers, routers) = workers::kept(self.layout, &names)?;
        let machines = [self.cell.machines(), workers].concat();
        let keep = Keep::Machines {
            machines: &machines,
            routers: &routers,
        };
        let steps = leftovers::plan(&observed, keep, &names);
        leftovers::take(&steps, self.hierarchies, &names).await?;
        Ok(if steps.is_empty() {
            Outcome::Nothing
        } else {
            Outcome::Done
        })
    }

    async fn workers(&self) -> Result<Outcome, Error> {
        let supervisor = &self.spec.supervisor;
        let restored = workers::restore(
            self.cell,
            self.layout,
            self.hierarchies,
            self.artifacts,
            supervisor,
        );
        Ok(if restored.await? {
            Outcome::Done
        } else {
            Outcome::Nothing
        })
    }

    async fn network(&self) -> Result<Outcome, Error> {
        let names = self.cell.names();
        let slot = self.cell.slot;
        let front = Station {
            netns: names.front(),
            address: slot.front(),
            pods: None,
        };
        let node = |node: &Node| Station {
            netns: node.name.clone(),
            address: node.address,
            pods: Some(slot.pods_of(node.index)),
        };
        let stations = std::iter::once(front)
            .chain(self.cell.nodes.iter().map(node))
            .collect();
        let changed = Topology {
            names,
            slot,
            stations,
        }
        .ensure()
        .await?;
        Ok(if changed { Outcome::Done } else { Outcome::Nothing })
    }
}
