//! `skep down`: stops and removes the local platform, and nothing that is not its own.

use anyhow::{Context, Result};

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
    let result = skep_provider::down(&instance(), home.path(), args.keep, &display).await;
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
    let clusters = home.path().join("clusters");
    if clusters.exists() {
        std::fs::remove_dir_all(&clusters)
            .with_context(|| format!("cannot remove {}", clusters.display()))?;
    }
    for file in [
        home.api_url(),
        home.api_token(),
        home.api_ca(),
        home.kubeconfig(),
        home.kubectl_link(),
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
