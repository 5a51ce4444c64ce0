//! The one binary of Skep: every controller and every command.

mod cli;
mod client;
mod platform;
mod run;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command, MachineCommand};
use client::{Context, Failure};
use platform::home::Home;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Machine(MachineCommand::Run { config }) = &cli.command {
        return end(skep_provider::run_machine(config).map_err(Failure::from_error));
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::from_error(error))),
    };
    end(runtime.block_on(dispatch(cli)))
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
