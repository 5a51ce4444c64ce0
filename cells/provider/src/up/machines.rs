//! The machines of an instance: started where they do not run, and given their images.

use std::path::Path;

use futures::future::try_join_all;
use skep_distro::ImageArchive;

use super::{Outcome, Run};
use crate::error::Error;
use crate::host::process;
use crate::inside::Inside;
use crate::interface::Place;
use crate::node::images::{ImageStore, import_missing};
use crate::node::machine::Workshop;
use crate::node::machine::layout::Interfaces;
use crate::spec::Node;
use crate::start::Starter;
use crate::state::Written;

/// Images without which the first node's control plane cannot start.
const FIRST_IMAGES: [&str; 3] = ["pause", "etcd", "kubernetes"];

impl Run<'_> {
    pub(super) async fn machines(&self) -> Result<Outcome, Error> {
        let place = Place {
            instance: self.cell.instance.clone(),
            slot: self.cell.slot,
        };
        let program = self.spec.supervisor.first().map(Path::new);
        let workshop = Workshop {
            cell: self.cell,
            layout: self.layout,
            hierarchies: self.hierarchies,
            artifacts: self.artifacts,
            interfaces: program.map(|program| Interfaces {
                place: &place,
                program,
            }),
        };
        workshop.prepare_front()?;
        let (front, starter) = (self.names.front(), self.starter());
        let nodes = try_join_all(self.cell.nodes.iter().map(|node| async {
            let runtime = workshop.prepare_node(node).await?;
            let has_started = starter.ensure(&node.name).await?;
            if runtime == Written::Changed && !has_started {
                // Containers go on running; the supervisor starts their runtime again.
                process::end_service(self.hierarchies, &self.names, &node.name, "containerd").await;
            }
            Ok(has_started)
        }));
        let (front, nodes) = tokio::try_join!(starter.ensure(&front), nodes)?;
        let has_started = front || nodes.contains(&true);
        try_join_all(
            self.cell
                .nodes
                .iter()
                .map(|node| starter.wait_runtime(&node.name)),
        )
        .await?;
        Ok(if has_started {
            Outcome::Done
        } else {
            Outcome::Nothing
        })
    }

    fn starter(&self) -> Starter<'_> {
        Starter {
            supervisor: &self.spec.supervisor,
            names: &self.names,
            layout: self.layout,
            hierarchies: self.hierarchies,
            bin: &self.artifacts.bin,
        }
    }

    pub(super) fn inside(&self, node: &Node) -> Result<Inside<'_>, Error> {
        self.starter().inside(&node.name)
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
            import_missing(&store, images).await
        }))
        .await?;
        Ok(if imported.contains(&true) {
            Outcome::Done
        } else {
            Outcome::Nothing
        })
    }
}
