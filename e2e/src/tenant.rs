//! One tenant cluster of a test's own, and what its user can do with it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::platform::{Output, Platform, run};

/// A tenant cluster and the kubeconfig that its user was given.
#[derive(Debug)]
pub struct Tenant {
    /// The cluster's name in project `default`.
    pub name: String,
    kubeconfig: PathBuf,
}

impl Tenant {
    /// Asks for a kubeconfig of a cluster that is there.
    pub async fn of(platform: &Platform, name: &str) -> Result<Self> {
        let text = platform.skep(&["kubeconfig", name]).await?.success()?;
        let directory = platform.home.join("e2e");
        std::fs::create_dir_all(&directory)?;
        let kubeconfig = directory.join(format!("{name}-{:016x}.kubeconfig", rand::random::<u64>()));
        std::fs::write(&kubeconfig, text)
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        Ok(Self {
            name: name.to_owned(),
            kubeconfig,
        })
    }

    /// Creates a cluster with `skep cluster create --wait`.
    pub async fn create(platform: &Platform, name: &str, further: &[&str]) -> Result<Self> {
        let mut arguments = vec!["cluster", "create", name, "--wait", "--timeout", "10m"];
        arguments.extend(further);
        platform.skep(&arguments).await?.success()?;
        Self::of(platform, name).await
    }

    /// Runs `kubectl` as the tenant's user.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        run(
            Command::new("kubectl")
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .args(arguments),
            None,
        )
        .await
    }

    /// Runs `kubectl` as the tenant's user with a manifest on its standard input.
    pub async fn kubectl_with(&self, arguments: &[&str], manifest: &str) -> Result<Output> {
        let mut command = Command::new("kubectl");
        run(
            command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments),
            Some(manifest),
        )
        .await
    }

    /// The kubeconfig's text.
    pub fn kubeconfig(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.kubeconfig)?)
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // The file holds a key; a test that failed leaves none behind either.
        drop(std::fs::remove_file(&self.kubeconfig));
    }
}
