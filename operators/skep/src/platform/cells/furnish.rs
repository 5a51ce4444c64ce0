//! What makes a new cluster on this machine a cell of the hub.

use std::time::Instant;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use skep_builder::Order;
use skep_distro::{Artifacts, Progress};
use skep_provider::LocalCell;
use skep_provider::local::Furnish;
use skep_runtime::client::{ClientUse, from_kubeconfig};

use crate::platform::install::{Site, install_cell};
use crate::platform::up::operators_ready;

/// Installs a cell's definitions and operators, and waits until these run.
pub(super) struct Furnisher {
    pub artifacts: Artifacts,
}

#[async_trait]
impl Furnish for Furnisher {
    async fn furnish(
        &self,
        cell: &LocalCell,
        order: &Order,
        progress: &dyn Progress,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let begun = Instant::now();
        progress.start("operators", "the cell's operators start", None);
        let done = self.install(cell, order).await;
        progress.finish("operators", begun.elapsed(), false);
        Ok(done?)
    }
}

impl Furnisher {
    async fn install(&self, cell: &LocalCell, order: &Order) -> Result<()> {
        let path = &cell.kubeconfig;
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let client = from_kubeconfig(&bytes, "installer", ClientUse::OwnCluster)
            .await
            .context("cannot use the cell's kubeconfig")?;
        let site = Site {
            region: order.region.to_string(),
            domain: order.domain.to_string(),
            cell: order.cell.to_string(),
            zones: order.zones.iter().map(ToString::to_string).collect(),
        };
        install_cell(client.clone(), &site, cell, &order.registration, &self.artifacts).await?;
        operators_ready(&client).await
    }
}
