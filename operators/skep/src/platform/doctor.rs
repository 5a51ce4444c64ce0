//! `skep doctor`: looks for what is wrong with this machine and this platform, and says what to do.
//!
//! It reads and changes nothing.

use std::collections::BTreeSet;

use serde::Serialize;

use super::home::{Home, instance};
use super::packages;
use super::status;
use super::up::hub_client;

/// The outcome of one look.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do; empty where all is well.
    pub remedy: String,
}

impl Finding {
    fn new(check: &str, ok: bool, found: impl Into<String>, remedy: &str) -> Self {
        let remedy = if ok { String::new() } else { remedy.to_owned() };
        Self {
            check: check.to_owned(),
            ok,
            found: found.into(),
            remedy,
        }
    }
}

/// Looks at everything; the order is that of `skep up`'s steps.
pub async fn examine(home: &Home) -> Vec<Finding> {
    let mut findings = vec![root(), disk(home), system_packages().await, toolchain("go").await];
    findings.extend(machines(home).await);
    match hub_client(home).await {
        Err(error) => findings.push(Finding::new("hub", false, format!("{error:#}"), "run `skep up`")),
        Ok(client) => match status::read(&client).await {
            Err(error) => {
                let remedy = "see the logs below $SKEP_HOME/log, then run `skep up`";
                findings.push(Finding::new("hub", false, format!("{error:#}"), remedy));
            }
            Ok(rows) => findings.extend(rows.into_iter().map(|row| {
                let check = format!("{} {}", row.kind, row.name);
                Finding::new(&check, row.ready, row.detail, remedy_of(row.kind))
            })),
        },
    }
    findings
}

fn remedy_of(kind: &str) -> &'static str {
    match kind {
        "zone" => "see kubelet.log and containerd.log of the node below $SKEP_HOME/log, then run `skep up`",
        "operator" => "see `kubectl -n skep-system describe pods` and the pod's log",
        "cluster" => "see `skep cluster get NAME` for the condition that is not true",
        _ => "run `skep up`; it repairs what is missing",
    }
}

fn root() -> Finding {
    let user = nix::unistd::geteuid();
    Finding::new(
        "root",
        user.is_root(),
        format!("uid {user}"),
        "run skep with sudo",
    )
}

fn disk(home: &Home) -> Finding {
    let existing = home
        .path()
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(home.path());
    let Ok(stat) = nix::sys::statvfs::statvfs(existing) else {
        return Finding::new(
            "disk",
            false,
            format!("{} cannot be examined", existing.display()),
            "check the disk",
        );
    };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size()) >> 30;
    let found = format!("{free} GiB free below {}", existing.display());
    Finding::new(
        "disk",
        free >= 5,
        found,
        "free some space; images and datastores need 5 GiB to go on",
    )
}

async fn system_packages() -> Finding {
    let wanted: BTreeSet<&'static str> = skep_distro::SYSTEM_PACKAGES
        .iter()
        .chain(skep_provider::SYSTEM_PACKAGES)
        .copied()
        .collect();
    let missing = packages::missing(&wanted)
        .await
        .into_iter()
        .collect::<Vec<_>>()
        .join(" ");
    let found = if missing.is_empty() {
        "all there".to_owned()
    } else {
        format!("missing: {missing}")
    };
    Finding::new(
        "packages",
        missing.is_empty(),
        found,
        "run `skep up`, which installs them",
    )
}

async fn toolchain(program: &str) -> Finding {
    let output = tokio::process::Command::new(program)
        .arg("version")
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => {
            let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Finding::new(program, true, found, "")
        }
        _ => Finding::new(
            program,
            false,
            "not found",
            "install Go, or give prebuilt binaries to `skep up --prebuilt`",
        ),
    }
}

async fn machines(home: &Home) -> Vec<Finding> {
    match skep_provider::inspect(&instance(), home.path()).await {
        Err(error) => vec![Finding::new(
            "machines",
            false,
            error.to_string(),
            "run `skep up`",
        )],
        Ok(inspection) => inspection
            .machines
            .iter()
            .map(|machine| {
                let found = match machine.init {
                    Some(pid) => format!("runs as process {pid}, {}", machine.services.join(" and ")),
                    None => "does not run".to_owned(),
                };
                let remedy = "run `skep up`; the machine's log is below $SKEP_HOME/log";
                Finding::new(
                    &format!("machine {}", machine.name),
                    machine.init.is_some(),
                    found,
                    remedy,
                )
            })
            .chain(leftovers(&inspection))
            .collect(),
    }
}

fn leftovers(inspection: &skep_provider::Inspection) -> Option<Finding> {
    let count = inspection.leftovers.len();
    let remedy = "run `skep up` to repair or `skep down` to remove";
    (count > 0).then(|| Finding::new("leftovers", false, format!("{count} of a killed run"), remedy))
}
