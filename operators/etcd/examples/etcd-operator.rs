//! Runs the operator against the cluster of `KUBECONFIG`, without an election: for development and for tests
//! that end it. `SKEP_ABORT_AFTER` makes the process die after so many answers of the API server.

use std::sync::atomic::{AtomicI64, Ordering};

use kube::client::ClientBuilder;
use skep_runtime::{install_crypto, shutdown, telemetry};
use tower::util::MapResponseLayer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("etcd", 1, telemetry::LogFormat::Text)?;
    install_crypto();
    let calls = std::env::var("SKEP_ABORT_AFTER")
        .ok()
        .map(|text| text.parse::<i64>())
        .transpose()?;
    let left = std::sync::Arc::new(AtomicI64::new(calls.unwrap_or(i64::MAX)));
    let count = move |answer| {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
        answer
    };
    let config = kube::Config::infer().await?;
    let client = ClientBuilder::try_from(config)?
        .with_layer(&MapResponseLayer::new(count))
        .build();
    skep_etcd::run(client, skep_etcd::Settings::default(), shutdown::on_signal()?).await;
    Ok(())
}
