//! Runs the commands of a runbook as they stand in the docs.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::Platform;
use crate::platform::run;

/// Runs what is quoted in the steps of a runbook of docs/etcd.md and begins with `kubectl`; `names` says what stands for
/// the words in capitals. Returns what the commands said.
///
/// # Errors
/// Where there is no such step or no command in it, or one fails.
pub async fn follow(
    platform: &Platform,
    runbook: &str,
    steps: std::ops::RangeInclusive<usize>,
    names: &[(&str, &str)],
) -> Result<String> {
    let text = include_str!("../../docs/etcd.md");
    let from = text
        .split(&format!("### Runbook: {runbook}\n"))
        .nth(1)
        .context("no such runbook")?;
    let section = from.split("\n#").next().unwrap_or_default().replace("\n   ", " ");
    let mut said = String::new();
    let mut followed = 0;
    for step in steps {
        let line = section
            .lines()
            .find(|line| line.starts_with(&format!("{step}. ")));
        let line = line.with_context(|| format!("no step {step} in runbook {runbook}"))?;
        let quoted = line.split('`').skip(1).step_by(2);
        for command in quoted.filter(|quoted| quoted.starts_with("kubectl ")) {
            let filled = names.iter().fold(command.to_owned(), |command, (word, name)| {
                command.replace(word, name)
            });
            let mut bash = Command::new("bash");
            bash.args(["-euc", &filled])
                .env("KUBECONFIG", platform.home.join("hub.kubeconfig"));
            said += &run(&mut bash, None)
                .await?
                .success()
                .with_context(|| filled.clone())?;
            followed += 1;
        }
    }
    ensure!(followed > 0, "no command in runbook {runbook}");
    Ok(said)
}
