//! The platform that `e2e/run` brought up, as its users reach it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use serde_json::Value;
use skep_runtime::client::ClientUse;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long anything may take that a test waits for; ten control planes may start at once on two cores.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// A finished command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit status; -1 after a signal.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Output {
    /// Standard output, or an error with everything that the command said.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status == 0,
            "exit status {}: {}{}",
            self.status,
            self.stderr,
            self.stdout
        );
        Ok(self.stdout)
    }

    /// Standard output as JSON.
    pub fn json(self) -> Result<Value> {
        let text = self.success()?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }
}

/// The running platform.
#[derive(Debug, Clone)]
pub struct Platform {
    /// `$SKEP_HOME`.
    pub home: PathBuf,
    skep: PathBuf,
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Platform {
    /// The platform that the environment names: `SKEP` is the command, `SKEP_HOME` its state.
    pub fn connect() -> Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| format!("{name} is not set: these tests are run by e2e/run"))
        };
        let home = PathBuf::from(variable("SKEP_HOME")?);
        let read = |name: &str| {
            let path = home.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        skep_runtime::install_crypto();
        let ca = reqwest::Certificate::from_pem(read("api.ca")?.as_bytes())?;
        let http = reqwest::Client::builder()
            .tls_certs_only([ca])
            .timeout(Duration::from_mins(1))
            .build()?;
        let url = read("api.url")?.trim().to_owned();
        let token = read("api.token")?.trim().to_owned();
        Ok(Self {
            skep: PathBuf::from(variable("SKEP")?),
            home,
            http,
            url,
            token,
        })
    }

    /// Runs the `skep` command.
    pub async fn skep(&self, arguments: &[&str]) -> Result<Output> {
        run(Command::new(&self.skep).args(arguments), None).await
    }

    /// Runs `kubectl` as the platform's operator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("kubectl");
        run(
            command
                .arg("--kubeconfig")
                .arg(self.home.join("hub.kubeconfig"))
                .args(arguments),
            None,
        )
        .await
    }

    /// A client of the hub with the operator's rights.
    pub async fn hub(&self) -> Result<Client> {
        let bytes = std::fs::read(self.home.join("hub.kubeconfig"))?;
        Ok(skep_runtime::client::from_kubeconfig(&bytes, "e2e", ClientUse::OwnCluster).await?)
    }

    /// The identity of a cluster's control plane; the cluster is of the project `default`.
    pub async fn cpid(&self, cluster: &str) -> Result<String> {
        let path = "jsonpath={.status.cpid}";
        let get = [
            "-n",
            "project-default",
            "get",
            "tenantcluster",
            cluster,
            "-o",
            path,
        ];
        let cpid = self.kubectl(&get).await?.success()?;
        anyhow::ensure!(!cpid.is_empty(), "cluster {cluster} has no control plane yet");
        Ok(cpid)
    }

    /// A request to the provisioning API with the administrator's token; `path` begins with `/`.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// A request to the provisioning API with no token.
    pub fn anonymous(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }
}

/// Runs a command to its end, with text on its standard input.
pub async fn run(command: &mut Command, input: Option<&str>) -> Result<Output> {
    run_within(PATIENCE * 2, command, input).await
}

/// The same for a command that may take that long.
pub async fn run_within(limit: Duration, command: &mut Command, input: Option<&str>) -> Result<Output> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).await?;
    }
    let Ok(output) = tokio::time::timeout(limit, child.wait_with_output()).await else {
        bail!("{shown} did not end within {} s", limit.as_secs());
    };
    let output = output?;
    Ok(Output {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Tries until it goes well, every 250 ms for as long as `PATIENCE`; the last error is returned.
pub async fn eventually<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("waited {} s until {what}", PATIENCE.as_secs()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}
