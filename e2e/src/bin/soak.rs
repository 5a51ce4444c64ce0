//! Runs the soaks that are named, or all; exits with 1 when a fault was found. `SEED` is the one round to run.

use std::process::ExitCode;

use skep_e2e::bench::setting;
use skep_e2e::soak::{NAMES, run};

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    // The soak of etcd runs its operator as a process of its own.
    if names == ["operator"] {
        return be_the_operator();
    }
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        eprintln!("there is no soak {unknown}; there are: {}", NAMES.join(", "));
        return ExitCode::from(2);
    }
    let seed = match setting("SEED", 0_u64) {
        Ok(seed) => (seed > 0).then_some(seed),
        Err(error) => {
            eprintln!("{error:#}; seeds are whole numbers from 1");
            return ExitCode::from(2);
        }
    };
    if names.is_empty() {
        names = NAMES.map(str::to_owned).to_vec();
    }
    let mut status = ExitCode::SUCCESS;
    for name in names {
        match run(&name, seed) {
            Ok(true) => {}
            Ok(false) => status = ExitCode::FAILURE,
            Err(error) => {
                eprintln!("soak {name}: {error:#}");
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

fn be_the_operator() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from);
    match runtime.and_then(|runtime| runtime.block_on(skep_e2e::soak::etcd::operator::be())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
