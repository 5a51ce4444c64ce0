//! Images for local nodes, where no registry is: from archives into their container runtimes.

use std::path::PathBuf;
use std::time::Duration;

use skep_provider::workers;

use super::session::Session;
use crate::client::{Context, Failure};
use crate::platform::progress::Display;

/// Imports archives into every local node of a cluster.
pub(super) async fn load(cluster: &str, archives: &[PathBuf], context: &Context) -> Result<(), Failure> {
    let mut files = Vec::new();
    for archive in archives {
        let file = archive.canonicalize().map_err(|error| {
            Failure::NotFound(format!(
                "archive {} cannot be read: {error}; make one with `docker save` or `ctr images export`",
                archive.display()
            ))
        })?;
        files.push(file);
    }
    let session = Session::open(cluster, context).await?;
    let display = Display::brief();
    let artifacts = session.artifacts(&display).await?;
    let place = session.ground.place();
    let loading = async {
        workers::load_images(&place, &session.tenant.cpid, &files, &artifacts)
            .await
            .map_err(Failure::from_error)
    };
    let loaded = display
        .step(
            "load",
            "images are imported",
            Some(Duration::from_secs(5)),
            loading,
        )
        .await;
    display.clear();
    let nodes = loaded?;
    if nodes.is_empty() {
        return Err(Failure::NotFound(format!(
            "cluster {cluster} has no local node; add one with `skep node add {cluster}`"
        )));
    }
    println!("{} hold the images now", nodes.join(", "));
    Ok(())
}
