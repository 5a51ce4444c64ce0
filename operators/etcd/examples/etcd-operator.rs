//! Runs the operator against the cluster of `KUBECONFIG`, without a leader election: for development.

use skep_runtime::{client, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("etcd", 1, telemetry::LogFormat::Text)?;
    let client = client::own_cluster("etcd").await?;
    skep_etcd::run(client, skep_etcd::Settings::default(), shutdown::on_signal()?).await;
    Ok(())
}
