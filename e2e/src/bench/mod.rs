//! Benchmarks: figures that are measured against references of the same run, and the bounds that they are
//! held to.
//!
//! Each benchmark prints its tables and writes `target/bench/NAME.json`. The parts here know nothing of what is
//! measured; a benchmark has a module of its own.

pub mod create;
pub mod etcd;
pub mod figure;
pub mod load;
pub mod memory;
pub mod planner;
pub mod report;
pub mod site;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub use figure::{Bound, Figure, Spread};
pub use report::Report;

/// The benchmarks that there are, in the order in which all of them are run.
pub const NAMES: [&str; 3] = ["create", "planner", "etcd"];

/// Runs one benchmark and says whether its gates hold.
pub async fn run(name: &str) -> Result<bool> {
    match name {
        "create" => create::run().await,
        "planner" => planner::run().await,
        "etcd" => etcd::run().await,
        _ => bail!("there is no benchmark {name}; there are: {}", NAMES.join(", ")),
    }
}

/// Where benchmarks keep their files: `bench` in the target directory that this program was built into.
pub fn directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let target = program.parent().and_then(std::path::Path::parent);
    Ok(target
        .context("this program is not in a target directory")?
        .join("bench"))
}

/// A number from the environment, or what is usual.
pub fn setting<T>(variable: &str, usual: T) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .with_context(|| format!("{variable}={text} is no number")),
        _ => Ok(usual),
    }
}
