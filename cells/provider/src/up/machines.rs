//! The machines of an instance: started where they do not run, and given their images.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::try_join_all;
use skep_distro::ImageArchive;

use super::{Outcome, Run};
use crate::command::Command;
use crate::error::Error;
use crate::host::process;
use crate::inside::Inside;
use crate::join::wait_until;
use crate::node::RUNTIME_SOCKET;
use crate::node::images::{ImageStore, is_present};
use crate::node::machine::Workshop;
use crate::spec::Node;

/// A machine's process 1 runs in milliseconds; mounting its volumes takes a second or two.
const MACHINE_LIMIT: Duration = Duration::from_mins(1);
/// Images without which the first node's control plane cannot start.
const FIRST_IMAGES: [&str; 3] = ["pause", "etcd", "kubernetes"];

impl Run<'_> {
    pub(super) async fn machines(&self) -> Result<Outcome, Error> {
        let workshop = Workshop {
            cell: self.cell,
            layout: self.layout,
            hierarchies: self.hierarchies,
            artifacts: self.artifacts,
        };
        workshop.prepare_front()?;
        let front = self.cell.names().front();
        let nodes = try_join_all(self.cell.nodes.iter().map(|node| async {
            workshop.prepare_node(node).await?;
            self.ensure_machine(&node.name).await
        }));
        let (front, nodes) = tokio::try_join!(self.ensure_machine(&front), nodes)?;
        let started = front == Outcome::Done || nodes.contains(&Outcome::Done);
        try_join_all(self.cell.nodes.iter().map(|node| self.wait_runtime(node))).await?;
        Ok(if started { Outcome::Done } else { Outcome::Nothing })
    }

    /// Starts a machine that does not run.
    async fn ensure_machine(&self, machine: &str) -> Result<Outcome, Error> {
        let names = self.cell.names();
        if process::machine_init(self.hierarchies, &names, machine).is_some() {
            return Ok(Outcome::Nothing);
        }
        let mut words = self.spec.supervisor.iter();
        let program = words.next().cloned().unwrap_or_default();
        Command::new(program)
            .args(words)
            .arg("--config")
            .arg(self.layout.machine(machine).config())
            .run()
            .await?;
        let log = self.machine_log(machine);
        wait_until(
            &format!("the start of machine {machine}"),
            MACHINE_LIMIT,
            &format!("see {}", log.display()),
            || Ok(process::machine_init(self.hierarchies, &names, machine).is_some()),
        )
        .await?;
        Ok(Outcome::Done)
    }

    /// Waits until a node's container runtime answers.
    async fn wait_runtime(&self, node: &Node) -> Result<(), Error> {
        let log = self.layout.machine(&node.name).log().join("containerd.log");
        let what = format!("the start of the container runtime on {}", node.name);
        wait_until(&what, MACHINE_LIMIT, &format!("see {}", log.display()), || {
            let inside = self.inside(node)?;
            Ok(std::os::unix::net::UnixStream::connect(inside.path(RUNTIME_SOCKET)).is_ok())
        })
        .await
    }

    fn machine_log(&self, machine: &str) -> PathBuf {
        self.layout.machine(machine).log().join("machine.log")
    }

    pub(super) fn inside(&self, node: &Node) -> Result<Inside<'_>, Error> {
        let init = process::machine_init(self.hierarchies, &self.cell.names(), &node.name);
        let ended = || Error::MachineEnded {
            machine: node.name.clone(),
            log: self.machine_log(&node.name),
        };
        Ok(Inside {
            init: init.ok_or_else(ended)?,
            bin: &self.artifacts.bin,
        })
    }

    pub(super) fn first_images(&self) -> Vec<&ImageArchive> {
        self.artifacts
            .images
            .iter()
            .filter(|image| FIRST_IMAGES.contains(&image.name.as_str()))
            .collect()
    }

    /// Imports what is missing, on all these nodes at once.
    pub(super) async fn images(&self, nodes: &[Node], images: &[&ImageArchive]) -> Result<Outcome, Error> {
        let imported = try_join_all(nodes.iter().map(|node| async {
            let store = ImageStore {
                inside: self.inside(node)?,
                bin: &self.artifacts.bin,
            };
            let present = store.present().await?;
            let mut outcome = Outcome::Nothing;
            for image in images.iter().filter(|image| !is_present(image, &present)) {
                store.import(image).await?;
                outcome = Outcome::Done;
            }
            Ok::<_, Error>(outcome)
        }))
        .await?;
        Ok(if imported.contains(&Outcome::Done) {
            Outcome::Done
        } else {
            Outcome::Nothing
        })
    }
}
