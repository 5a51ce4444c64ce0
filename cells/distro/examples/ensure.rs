//! Makes the whole distribution ready and prints where it is, as JSON.
//!
//! `ensure [OPERATOR-BINARY]`; `SKEP_CACHE`, `SKEP_PREBUILT` and
//! `SKEP_KUBERNETES` choose the cache, prebuilt binaries and the version.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use skep_distro::{Progress, Request, default_cache, ensure, versions};

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
    let request = Request {
        cache: default_cache(),
        kubernetes: std::env::var("SKEP_KUBERNETES").or_else(|_| versions().map(|v| v.default))?,
        prebuilt: std::env::var_os("SKEP_PREBUILT").map(Into::into),
        operator_binary: std::env::args_os().nth(1).map(Into::into),
    };
    let artifacts = ensure(&request, &Lines)
        .await
        .inspect_err(|error| tell(&error.to_string()))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&artifacts)?)?;
    Ok(())
}
