//! Further cells of a local platform. The hub's builder decides, in a pod; a process on this machine makes and removes their
//! machines when it asks, as a cloud's API does.

mod access;
mod daemon;
mod furnish;
mod ground;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use skep_distro::{Artifacts, Silent};
use skep_pki::San;
use skep_provider::local::{LocalProvider, Settings};
use skep_remote::Identity;
use skep_runtime::shutdown;
use skep_runtime::telemetry::{self, LogFormat};

pub use access::Access;
pub use daemon::{address, ensure, stop};
pub use ground::{Ground, of_cell, standing};

use super::home::{Home, instance};
use furnish::Furnisher;

/// The value of `spec.provider` of cells that are made here.
pub const PROVIDER: &str = "local";
/// Volumes for datastores that each node of a further cell prepares.
const VOLUMES: u16 = 12;

/// Options of the process that makes further cells' machines.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where it listens.
    #[arg(long)]
    address: SocketAddr,
    /// The Kubernetes version of the cells.
    #[arg(long)]
    kubernetes: String,
}

/// Makes and removes machines of further cells as it is asked, until a signal; one process at a time does it.
pub async fn serve(args: ServeArgs, home: &Home, verbosity: u8) -> Result<()> {
    let _telemetry = telemetry::init("local-provider", verbosity, LogFormat::Json)?;
    skep_runtime::install_crypto();
    let shutdown = shutdown::on_signal()?;
    let _held = daemon::hold(home)?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let request = skep_distro::Request {
        cache: skep_distro::default_cache(),
        kubernetes: args.kubernetes,
        prebuilt: std::env::var_os("SKEP_PREBUILT").map(PathBuf::from),
        operator_binary: Some(program.clone()),
    };
    let artifacts = skep_distro::ensure(&request, &Silent).await?;
    let access = Access::ensure(home)?;
    let identity = Identity {
        authority: access.authority,
        names: vec![San::Ip(args.address.ip())],
        token: access.token,
    };
    let provider = provider(home, program, artifacts);
    Ok(skep_remote::serve(Arc::new(provider), args.address, identity, shutdown).await?)
}

fn provider(home: &Home, program: PathBuf, artifacts: Artifacts) -> LocalProvider {
    let furnisher = Furnisher {
        artifacts: artifacts.clone(),
    };
    let settings = Settings {
        instance: instance(),
        home: home.path().to_owned(),
        artifacts,
        supervisor: vec![
            program.into_os_string(),
            OsString::from("machine"),
            OsString::from("run"),
        ],
        volumes_per_node: VOLUMES,
        volume_bytes: 2 << 30,
    };
    LocalProvider::new(settings, Box::new(furnisher))
}
