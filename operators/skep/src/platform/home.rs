//! Where the local platform keeps its state: `$SKEP_HOME`, by default `~/.skep`.
//!
//! Only names and files; nothing here talks to a cluster.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The state directory of one platform.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// `$SKEP_HOME`, or `.skep` in the user's home directory.
    pub fn from_environment() -> Result<Self> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        set("SKEP_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".skep")))
            .map(Self)
            .context(
                "neither SKEP_HOME nor HOME is set; set SKEP_HOME to a directory for the platform's state",
            )
    }

    /// The same at a given place.
    #[cfg(test)]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The administrator's kubeconfig of the hub.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("hub.kubeconfig")
    }

    /// The address of the provisioning API.
    pub fn api_url(&self) -> PathBuf {
        self.0.join("api.url")
    }

    /// The bearer token for the provisioning API.
    pub fn api_token(&self) -> PathBuf {
        self.0.join("api.token")
    }

    /// The CA that the provisioning API's certificate is checked against.
    pub fn api_ca(&self) -> PathBuf {
        self.0.join("api.ca")
    }

    /// The mark that says that we put a `kubectl` on PATH, and where.
    pub fn kubectl_link(&self) -> PathBuf {
        self.0.join("kubectl.link")
    }

    /// Writes a file that only the owner may read, whole or not at all, and only if it differs.
    pub fn write(&self, path: &Path, content: &str) -> Result<()> {
        if fs::read_to_string(path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot protect {}", self.0.display()))?;
        let partial = path.with_extension("partial");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        file.write_all(content.as_bytes())
            .with_context(|| format!("cannot write {}", partial.display()))?;
        fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The instance's name: `$SKEP_INSTANCE`, by default `skep`.
pub fn instance() -> String {
    std::env::var("SKEP_INSTANCE")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "skep".to_owned())
}
