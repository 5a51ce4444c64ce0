//! Runs the gateway's controller alone as that of the cell `local`, against the cluster of `KUBECONFIG`, until it is
//! interrupted.

use skep_gateway::{CONTROLLER, Settings};
use skep_runtime::telemetry::{self, LogFormat};
use skep_runtime::{client, shutdown};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _telemetry = telemetry::init(CONTROLLER, 1, LogFormat::Text)?;
    let shutdown = shutdown::on_signal()?;
    let client = client::own_cluster(CONTROLLER).await?;
    skep_gateway::run(client, Settings::new("local".parse()?), shutdown).await?;
    Ok(())
}
