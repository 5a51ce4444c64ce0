//! Makes the whole distribution ready and prints where it is, as JSON.
//!
//! `ensure [--tests] [OPERATOR-BINARY]`; `SKEP_CACHE`, `SKEP_PREBUILT` and
//! `SKEP_KUBERNETES` choose the cache, prebuilt binaries and the version. With
//! `--tests`, what only tests want is made too, and is in the JSON as `tests`.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use skep_distro::{Progress, Request, default_cache, ensure, ensure_tests, versions};

struct Lines;

impl Progress for Lines {
    fn start(&self, name: &str, what: &str, usual: Option<Duration>) {
        let usual = usual
            .map(|usual| format!(", usually {} min", usual.as_secs() / 60))
            .unwrap_or_default();
        tell(&format!("{name}: {what}{usual}"));
    }

    fn line(&self, name: &str, detail: &str) {
        if !detail.contains('/') {
            tell(&format!("{name}: {detail}"));
        }
    }

    fn finish(&self, name: &str, took: Duration, cached: bool) {
        tell(&format!(
            "{name}: {} after {:.1} s",
            if cached { "cached" } else { "made" },
            took.as_secs_f64()
        ));
    }
}

fn tell(text: &str) {
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let given = arguments.len();
    arguments.retain(|argument| argument != "--tests");
    let with_tests = arguments.len() < given;
    let request = Request {
        cache: default_cache(),
        kubernetes: std::env::var("SKEP_KUBERNETES").or_else(|_| versions().map(|v| v.default))?,
        prebuilt: std::env::var_os("SKEP_PREBUILT").map(Into::into),
        operator_binary: arguments.pop().map(Into::into),
    };
    let artifacts = ensure(&request, &Lines)
        .await
        .inspect_err(|error| tell(&error.to_string()))?;
    let mut made = serde_json::to_value(&artifacts)?;
    if with_tests {
        let tests = ensure_tests(&request, &Lines)
            .await
            .inspect_err(|error| tell(&error.to_string()))?;
        made["tests"] = serde_json::to_value(&tests)?;
    }
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&made)?)?;
    Ok(())
}
