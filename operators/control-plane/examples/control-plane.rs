//! Runs both controllers against the cluster of `KUBECONFIG`, without leader election: for trying things out.

use skep_control_plane::{Settings, run, run_signer};
use skep_runtime::{client, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("control-plane", 1, telemetry::LogFormat::Text)?;
    let client = client::own_cluster("control-plane").await?;
    let token = shutdown::on_signal()?;
    tokio::join!(
        run(client.clone(), Settings::default(), token.clone()),
        run_signer(client, Settings::default(), token),
    );
    Ok(())
}
