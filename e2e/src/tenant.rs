//! One tenant cluster of a test's own, and what its user can do with it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::platform::{Output, Platform, eventually, run};

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

    /// A cluster that was created without waiting, once it is ready; a cell may have to be made for it first.
    pub async fn of_waiting(platform: &Platform, name: &str) -> Result<Self> {
        let wait = [
            "-n",
            "project-default",
            "wait",
            "--for=condition=Ready",
            "--timeout=540s",
        ];
        let object = format!("tenantcluster/{name}");
        let wait = [&wait[..], &[object.as_str()]].concat();
        platform.kubectl(&wait).await?.success()?;
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

    /// Runs `kubectl` with a bearer token in place of the user's certificate.
    pub async fn with_token(&self, token: &str, arguments: &[&str]) -> Result<Output> {
        let mut config: serde_json::Value = serde_saphyr::from_str(&self.kubeconfig()?)?;
        config["users"][0]["user"] = serde_json::json!({"token": token});
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), config.to_string())?;
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(file.path()).args(arguments);
        run(&mut command, None).await
    }

    /// A `kubectl` of the tenant's user that is not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    /// The kubeconfig's text.
    pub fn kubeconfig(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.kubeconfig)?)
    }
}

/// A namespace of a tenant's for one test, deleted with the value.
#[derive(Debug)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: String,
    tenant: &'a Tenant,
}

impl<'a> Namespace<'a> {
    /// Makes a namespace whose name begins with `prefix`, and waits until pods can be made in it.
    pub async fn create(tenant: &'a Tenant, prefix: &str) -> Result<Self> {
        let name = format!("{prefix}-{:08x}", rand::random::<u32>());
        tenant.kubectl(&["create", "namespace", &name]).await?.success()?;
        let space = Self { name, tenant };
        eventually("the default service account is there", || async {
            let found = space.kubectl(&["get", "serviceaccount", "default"]).await?;
            found.success()
        })
        .await?;
        Ok(space)
    }

    /// Runs `kubectl` as the tenant's user in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        run(&mut self.command(arguments), None).await
    }

    /// A `kubectl` in this namespace that is not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.tenant.command(&["--namespace", &self.name]);
        command.args(arguments);
        command
    }

    /// Applies a manifest in this namespace.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        let mut command = self.command(&["apply", "--server-side", "-f", "-"]);
        run(&mut command, Some(manifest)).await?.success()
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // Not waited for: other tests go on meanwhile.
        let mut command = std::process::Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.tenant.kubeconfig);
        let deleting = command.args(["delete", "namespace", &self.name, "--wait=false"]);
        drop(deleting.stdout(Stdio::null()).status());
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // The file holds a key; a test that failed leaves none behind either.
        drop(std::fs::remove_file(&self.kubeconfig));
    }
}
