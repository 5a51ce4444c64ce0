//! The options that every command takes, and what they mean for one call.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use super::api::Api;
use crate::platform::home::Home;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
    /// The project that clusters and tokens belong to.
    #[arg(long, global = true, default_value = "default", env = "SKEP_PROJECT")]
    pub project: String,
    /// How long to wait, such as 90s, 10m or 1h.
    #[arg(long, global = true, default_value = "15m", value_parser = duration)]
    pub timeout: Duration,
    /// Say more; twice and thrice for yet more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table with what one looks for.
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, as the API gives it.
    Json,
    /// YAML of the same.
    Yaml,
    /// Names alone, one a line.
    Name,
}

/// One call: its options, and where the platform is.
#[derive(Debug, Clone)]
pub struct Context {
    /// The options.
    pub global: GlobalArgs,
    /// The state directory.
    pub home: Home,
}

impl Context {
    /// The provisioning API that the state directory or the environment names.
    pub fn api(&self) -> Result<Api, Failure> {
        Api::connect(&self.home)
    }

    /// The same call in another project.
    #[must_use]
    pub fn in_project(&self, project: &str) -> Self {
        let mut other = self.clone();
        project.clone_into(&mut other.global.project);
        other
    }
}

/// Parses a positive duration in the friendly format: `90s`, `10m`, `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{text:?} is no duration; write 90s, 10m or 1h"))?;
    let duration = Duration::try_from(span).map_err(|_| "a duration must be positive".to_owned())?;
    if duration.is_zero() {
        Err("a duration must be positive".to_owned())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_friendly_and_positive() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_mins(90));
        for bad in ["", "soon", "-5m", "0s", "10"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
