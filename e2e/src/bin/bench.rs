//! Runs the benchmarks that are named, or all; exits with 1 when a gate does not hold or one failed.

use std::process::ExitCode;

use skep_e2e::bench::{NAMES, run};

#[tokio::main]
async fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    // The benchmark of etcd runs the operator of its one cluster as a process of its own.
    if names == ["operator"] {
        return match skep_e2e::soak::etcd::operator::be().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("operator: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        eprintln!("there is no benchmark {unknown}; there are: {}", NAMES.join(", "));
        return ExitCode::from(2);
    }
    if names.is_empty() {
        names = NAMES.map(str::to_owned).to_vec();
    }
    let mut status = ExitCode::SUCCESS;
    for name in names {
        match run(&name).await {
            Ok(true) => {}
            Ok(false) => status = ExitCode::FAILURE,
            Err(error) => {
                eprintln!("bench {name}: {error:#}");
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}
