//! Drives the provider by hand, with artefacts described by a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use skep_provider::LocalSpec;

#[derive(Parser)]
struct Cli {
    #[arg(long, env = "SKEP_INSTANCE", default_value = "skep", global = true)]
    instance: String,
    #[arg(long, env = "SKEP_HOME", default_value = ".skep", global = true)]
    home: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    Up {
        #[arg(long, default_value = "/tmp/distro-artifacts.json")]
        artifacts: PathBuf,
        #[arg(long, default_value = "a,b,c", value_delimiter = ',')]
        zones: Vec<String>,
        #[arg(long, default_value_t = 1)]
        nodes_per_zone: u8,
        #[arg(long, default_value_t = 1)]
        control_planes: u8,
    },
    Down {
        #[arg(long)]
        keep: bool,
    },
    Inspect,
    Volumes {
        #[arg(long)]
        node: String,
        #[arg(long, default_value = "/var/lib/skep/volumes")]
        root: PathBuf,
        #[arg(long)]
        kubeconfig: PathBuf,
    },
    Machine {
        #[arg(long)]
        config: PathBuf,
    },
}

struct Lines;

impl skep_distro::Progress for Lines {
    fn start(&self, name: &str, what: &str, _usual: Option<Duration>) {
        eprintln!("{name}: {what}");
    }
    fn line(&self, name: &str, detail: &str) {
        eprintln!("{name}: {detail}");
    }
    fn finish(&self, name: &str, took: Duration, cached: bool) {
        eprintln!(
            "{name}: {} {:.1} s",
            if cached { "unchanged" } else { "done" },
            took.as_secs_f64()
        );
    }
}

fn main() -> anyhow::Result<ExitCode> {
    if skep_provider::is_plugin() {
        return Ok(skep_provider::run_plugin());
    }
    let cli = Cli::parse();
    if let Action::Machine { config } = &cli.command {
        skep_provider::run_machine(config)?;
    } else {
        tokio::runtime::Runtime::new()?.block_on(run(cli))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Action::Up {
            artifacts,
            zones,
            nodes_per_zone,
            control_planes,
        } => {
            let text = std::fs::read(&artifacts).with_context(|| artifacts.display().to_string())?;
            let spec = LocalSpec {
                instance: cli.instance,
                home: cli.home,
                region: "local".into(),
                zones,
                nodes_per_zone,
                control_planes,
                volumes_per_node: 24,
                ranges: None,
                volume_bytes: 2 << 30,
                supervisor: vec![std::env::current_exe()?.into(), "machine".into()],
            };
            let cell = skep_provider::up(&spec, &serde_json::from_slice(&text)?, &Lines).await?;
            println!("{}", serde_json::to_string_pretty(&cell)?);
        }
        Action::Down { keep } => {
            let report = skep_provider::down(&cli.instance, &cli.home, keep, &Lines).await?;
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Action::Inspect => {
            let found = skep_provider::inspect(&cli.instance, &cli.home).await?;
            println!("{}", serde_json::to_string_pretty(&found)?);
        }
        Action::Volumes {
            node,
            root,
            kubeconfig,
        } => {
            tracing_subscriber::fmt().with_env_filter("info").init();
            let text = kube::config::Kubeconfig::read_from(kubeconfig)?;
            let config =
                kube::Config::from_custom_kubeconfig(text, &kube::config::KubeConfigOptions::default())
                    .await?;
            let client = kube::Client::try_from(config)?;
            skep_provider::volumes::run(client, skep_provider::volumes::VolumesConfig { node, root }).await;
        }
        Action::Machine { .. } => anyhow::bail!("handled above"),
    }
    Ok(())
}
