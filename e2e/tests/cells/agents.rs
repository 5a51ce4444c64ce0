//! What the agents of two cells see of each other at the hub: nothing.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use skep_e2e::platform::run;
use skep_e2e::{Output, Platform};
use tokio::process::Command;

use super::in_cell;

/// A `kubectl` of the hub with the certificate that the second cell's agent was given.
struct Agent {
    config: tempfile::NamedTempFile,
}

impl Agent {
    async fn of_second(platform: &Platform) -> Result<Self> {
        let get = [
            "get",
            "secret",
            "-n",
            "skep-system",
            "skep-agent-identity",
            "-o",
            "json",
        ];
        let identity = in_cell(platform, &get).await?.json()?;
        let part = |key: &str| {
            identity["data"][key]
                .as_str()
                .map(str::to_owned)
                .context("it has no such key")
        };
        let text = std::fs::read_to_string(platform.home.join("hub.kubeconfig"))?;
        let mut config: Value = serde_saphyr::from_str(&text)?;
        config["users"][0]["user"] = json!({
            "client-certificate-data": part("tls.crt")?,
            "client-key-data": part("tls.key")?,
        });
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), config.to_string())?;
        Ok(Self { config: file })
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.config.path())
            .args(arguments);
        run(&mut command, None).await
    }
}

/// Not one kind of object of a cell's namespace at the hub can be listed or read.
async fn nothing_can_be_read(
    what: &str,
    namespace: &str,
    kubectl: impl AsyncFn(&[&str]) -> Result<Output>,
    kinds: &[String],
) {
    for kind in kinds {
        let listed = kubectl(&["get", kind, "-n", namespace]).await.unwrap();
        assert!(
            listed.status != 0 && listed.stderr.contains("orbidden"),
            "{what} lists {kind} in {namespace}: {listed:?}"
        );
        let read = kubectl(&["get", kind, "-n", namespace, "any"]).await.unwrap();
        assert!(
            read.status != 0 && read.stderr.contains("orbidden"),
            "{what} reads {kind} in {namespace}: {read:?}"
        );
    }
}

pub async fn each_sees_only_its_own(platform: &Platform) {
    let kinds = ["api-resources", "--namespaced", "--verbs=list,get", "-o", "name"];
    let kinds = platform.kubectl(&kinds).await.unwrap().success().unwrap();
    let kinds: Vec<String> = kinds.lines().map(str::to_owned).collect();
    assert!(
        kinds.iter().any(|kind| kind == "deploymentrecords.skep.dev"),
        "{kinds:?}"
    );

    // The first cell's agent keeps its key in its process, so that the API server is asked in its name.
    let first = async |arguments: &[&str]| {
        let as_agent = [
            "--as=skep:cell:local",
            "--as-group=skep:cells",
            "--as-group=system:authenticated",
        ];
        platform.kubectl(&[&as_agent, arguments].concat()).await
    };
    let own = first(&["get", "deploymentrecords", "-n", "skep-cell-local"])
        .await
        .unwrap();
    own.success().unwrap();
    nothing_can_be_read("the first agent", "skep-cell-two", first, &kinds).await;

    let agent = Agent::of_second(platform).await.unwrap();
    let second = async |arguments: &[&str]| agent.kubectl(arguments).await;
    let own = second(&["get", "deploymentrecords", "-n", "skep-cell-two"])
        .await
        .unwrap();
    own.success().unwrap();
    nothing_can_be_read("the second agent", "skep-cell-local", second, &kinds).await;
    for (verb, object) in [
        ("get", "cells/local"),
        ("get", "secrets"),
        ("list", "nodes"),
        ("get", "tenantclusters"),
    ] {
        let can = second(&["auth", "can-i", verb, object, "-A"]).await.unwrap();
        assert_eq!(can.stdout.trim(), "no", "{verb} {object}: {can:?}");
    }
}
