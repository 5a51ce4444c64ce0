//! `skep down`: stops and removes the local platform, and nothing that is not its own.

use anyhow::{Context, Result};

use skep_provider::local::{forget_cell, further_cells};

use super::cells;
use super::home::{Home, instance};
use super::progress::Display;

/// Options of `skep down`.
#[derive(Debug, Clone, clap::Args)]
pub struct DownArgs {
    /// Keep the data, so that the next `skep up` brings back the same clusters.
    #[arg(long)]
    pub keep: bool,
}

/// Takes the platform of this instance down.
pub async fn down(args: &DownArgs, home: &Home) -> Result<()> {
    let display = Display::new();
    let result = take_down(home, args.keep, &display).await;
    display.clear();
    result?;
    if args.keep {
        return Ok(());
    }
    if home.kubectl_link().exists() {
        let link = std::path::Path::new("/usr/local/bin/kubectl");
        if link.is_symlink() {
            std::fs::remove_file(link).context("cannot remove our /usr/local/bin/kubectl")?;
        }
    }
    for name in ["clusters", "provider", "cells"] {
        let directory = home.path().join(name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
    }
    for file in [
        home.api_url(),
        home.api_token(),
        home.api_ca(),
        home.kubeconfig(),
        home.kubectl_link(),
        home.path().join("cells.lock"),
    ] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Further cells go first: what makes them would make them again.
async fn take_down(home: &Home, keep: bool, display: &Display) -> Result<()> {
    cells::stop(home).await?;
    for further in further_cells(home.path())? {
        skep_provider::down(&further.instance, &further.home, keep, display)
            .await
            .with_context(|| format!("cannot take cell {} down", further.cell))?;
        if !keep {
            forget_cell(home.path(), &further.cell)?;
        }
    }
    skep_provider::down(&instance(), home.path(), keep, display).await?;
    Ok(())
}
