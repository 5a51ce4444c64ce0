//! The machines of an instance: started where they do not run, and given their images.

use futures::future::try_join_all;
use skep_distro::ImageArchive;

use super::{Outcome, Run};
use crate::error::Error;
use crate::inside::Inside;
use crate::node::images::{ImageStore, import_missing};
use crate::node::machine::Workshop;
use crate::spec::Node;
use crate::start::Starter;

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
        let (front, starter) = (self.names.front(), self.starter());
        let nodes = try_join_all(self.cell.nodes.iter().map(|node| async {
            workshop.prepare_node(node).await?;
            starter.ensure(&node.name).await
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
