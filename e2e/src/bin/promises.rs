//! Checks `docs/promises.md`: every row names a test that exists and is switched on.
//!
//! Prints `promises N/N`; exits with 1 when a row has no such test.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = match std::fs::read_to_string(root.join("docs/promises.md")) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("docs/promises.md cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    };
    let rows = skep_e2e::promises::rows(&text);
    let mut kept = 0;
    for row in &rows {
        match skep_e2e::promises::missing_test(row, |path| std::fs::read_to_string(root.join(path)).ok()) {
            None => kept += 1,
            Some(why) => eprintln!("promise {:?}: {why}", row.promise),
        }
    }
    println!("promises {kept}/{}", rows.len());
    if kept == rows.len() && !rows.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
