//! Runs the controller of cells against the cluster of `KUBECONFIG`, until interrupted.

use skep_runtime::telemetry::{self, LogFormat};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("cells", 1, LogFormat::Text)?;
    let shutdown = skep_runtime::shutdown::on_signal()?;
    let client = skep_runtime::client::own_cluster("cells").await?;
    Ok(skep_cells::run(client, skep_cells::Settings::default(), shutdown).await?)
}
