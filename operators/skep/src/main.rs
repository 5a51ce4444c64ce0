//! The one binary of Skep: every controller and every command.

mod cell;
mod cli;
mod client;
mod drill_member;
mod etcd;
mod input;
mod platform;
mod recover_member;
mod restore_member;
mod run;
mod sim;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use client::output::{Tabular, print_json, print_list};
use client::{Context, Failure};
use serde::Serialize;

use cli::{Cli, Command, MachineCommand};
use platform::doctor::{self, Finding};
use platform::home::Home;
use platform::status::{self, Row};

fn main() -> ExitCode {
    if skep_provider::is_plugin() {
        return skep_provider::run_plugin();
    }
    let cli = Cli::parse();
    if let Command::Machine(MachineCommand::Run { config }) = &cli.command {
        return end(skep_provider::run_machine(config).map_err(Failure::from_error));
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => end(runtime.block_on(dispatch(cli))),
        Err(error) => end(Err(Failure::from_error(error))),
    }
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let context = Context {
        home: Home::from_environment()?,
        global: cli.global,
    };
    match cli.command {
        Command::Up(args) => up(&args, &context).await,
        Command::Down(args) => Ok(platform::down::down(&args, &context.home).await?),
        Command::Status => show_status(&context).await,
        Command::Doctor => examine(&context).await,
        Command::Cluster(args) => client::cluster::run(args, &context).await,
        Command::Kubeconfig(args) => client::kubeconfig::run(args, &context).await,
        Command::Node(args) => platform::node::run(args, &context).await,
        Command::Project(args) => client::project::run(args, &context).await,
        Command::Token(args) => client::token::run(args, &context).await,
        Command::Cell(args) => cell::run(args, &context).await,
        Command::Etcd(args) => etcd::run(args, &context).await,
        Command::Sim(args) => sim::run(args, &context),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "skep", &mut std::io::stdout());
            Ok(())
        }
        Command::Version => version(&context),
        Command::RecoverMember { volume, prepare } => Ok(recover_member::run(&volume, prepare).await?),
        Command::DrillMember { message } => Ok(drill_member::run(&message).await?),
        Command::RestoreMember { volume } => Ok(restore_member::run(&volume).await?),
        Command::ServeCells(args) => {
            Ok(platform::cells::serve(args, &context.home, context.global.verbose).await?)
        }
        Command::Run(args) => Ok(run::run(*args, context.global.verbose).await?),
        // Handled before a runtime is started: a machine's first process has none.
        Command::Machine(_) => Ok(()),
    }
}

async fn up(args: &platform::up::UpArgs, context: &Context) -> Result<(), Failure> {
    let artifacts = platform::up::up(args, &context.home).await?;
    if !args.no_demo {
        platform::demo::create(context, &artifacts).await?;
    }
    print!("{}", platform::demo::next_steps(!args.no_demo));
    Ok(())
}

async fn show_status(context: &Context) -> Result<(), Failure> {
    let client = platform::up::hub_client(&context.home).await?;
    let rows = status::read(&client).await?;
    print_list(context.global.output, &rows)?;
    Ok(())
}

async fn examine(context: &Context) -> Result<(), Failure> {
    let findings = doctor::examine(&context.home).await;
    print_list(context.global.output, &findings)?;
    let ill = findings.iter().filter(|finding| !finding.ok).count();
    if ill == 0 {
        Ok(())
    } else {
        Err(Failure::Refused(format!(
            "{ill} of {} checks found something",
            findings.len()
        )))
    }
}

#[derive(Debug, Serialize)]
struct Versions {
    skep: &'static str,
    kubernetes: Vec<String>,
}

fn version(context: &Context) -> Result<(), Failure> {
    let versions = skep_distro::versions().map_err(Failure::from_error)?;
    let versions = Versions {
        skep: env!("CARGO_PKG_VERSION"),
        kubernetes: versions.supported,
    };
    match context.global.output {
        client::context::Format::Json => print_json(&versions)?,
        _ => println!(
            "skep {}\nkubernetes {}",
            versions.skep,
            versions.kubernetes.join(", ")
        ),
    }
    Ok(())
}

impl Tabular for Row {
    const HEADINGS: &'static [&'static str] = &["KIND", "NAME", "READY", "PLACE", "DETAIL"];
    const NARROW: usize = 5;

    fn cells(&self) -> Vec<String> {
        let ready = if self.ready { "True" } else { "False" };
        vec![
            self.kind.to_owned(),
            self.name.clone(),
            ready.to_owned(),
            self.place.clone(),
            self.detail.clone(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Tabular for Finding {
    const HEADINGS: &'static [&'static str] = &["CHECK", "OK", "FOUND", "DO"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        let ok = if self.ok { "yes" } else { "NO" };
        vec![
            self.check.clone(),
            ok.to_owned(),
            self.found.clone(),
            self.remedy.clone(),
        ]
    }

    fn name(&self) -> String {
        self.check.clone()
    }
}
