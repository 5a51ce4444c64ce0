//! Installs the Debian packages that the local platform needs and that are missing.
//!
//! It never upgrades or removes a package.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The packages out of `wanted` that are not installed; all of them where there is no dpkg.
pub async fn missing(wanted: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(wanted);
    let listed = query
        .output()
        .await
        .map(|output| output.stdout)
        .unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let installed: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    wanted
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect()
}

/// Installs what is missing with apt-get.
pub async fn install(missing: &BTreeSet<&'static str>) -> Result<()> {
    let names = missing.iter().copied().collect::<Vec<_>>().join(" ");
    let update = apt(&["update", "-q"]).await;
    let arguments: Vec<&str> = ["install", "-y", "-q", "--no-install-recommends"]
        .into_iter()
        .chain(missing.iter().copied())
        .collect();
    match apt(&arguments).await {
        Ok(()) => Ok(()),
        Err(error) => {
            update.context("the package lists could not be refreshed either")?;
            Err(error).with_context(|| format!("these packages are missing; install them by hand: {names}"))
        }
    }
}

async fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .context("cannot start apt-get")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = stderr.lines().rev().take(3).collect();
        bail!("`apt-get {}` failed: {}", arguments.join(" "), last.join(" | "));
    }
    Ok(())
}
