//! Runs the hub's controllers of this crate against the cluster of `KUBECONFIG`, until interrupted.

use skep_fleet::{identity, registration, scheduler};
use skep_runtime::telemetry::{self, LogFormat};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::init("fleet", 1, LogFormat::Text)?;
    let shutdown = skep_runtime::shutdown::on_signal()?;
    let client = skep_runtime::client::own_cluster("fleet").await?;
    let scheduler = scheduler::run(client.clone(), scheduler::Settings::default(), shutdown.clone());
    let registration = registration::run(
        client.clone(),
        registration::Settings::default(),
        shutdown.clone(),
    );
    let identity = identity::run(client, identity::Settings::default(), shutdown);
    let (scheduler, registration, identity) = tokio::join!(scheduler, registration, identity);
    scheduler?;
    registration?;
    Ok(identity?)
}
