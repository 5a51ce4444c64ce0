//! Runs the agent against the cluster of `KUBECONFIG` as cell and `HUB_KUBECONFIG` (or the same) as hub: for
//! trying things out, without leader election.

use anyhow::Context;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use skep_agent::{HubAccess, Settings, run};
use skep_runtime::{client, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("agent", 1, telemetry::LogFormat::Text)?;
    skep_runtime::install_crypto();
    let cell = client::own_cluster("agent").await?;
    let hub = match std::env::var_os("HUB_KUBECONFIG") {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    let name = std::env::var("SKEP_CELL").unwrap_or_else(|_| "local".to_owned());
    let settings = Settings {
        cell: name.parse().context("SKEP_CELL")?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: None,
    };
    let hub = HubAccess::Account(Box::new(hub));
    Ok(run(cell, hub, settings, shutdown::on_signal()?).await?)
}
