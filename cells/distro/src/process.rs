//! Runs build programs with their output in a log file.
//!
//! Must not write to this process's own output: callers show progress.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::Error;

/// How many lines of a failed program's output an error shows.
const TAIL_LINES: usize = 15;

/// Runs a program to its end; every line of its output goes to the log and to `line`.
pub(crate) async fn run(
    mut command: Command,
    what: &str,
    log: &Path,
    line: impl Fn(&str),
) -> Result<(), Error> {
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Error::io("open the log", log))?;
    let output = file.try_clone().map_err(Error::io("open the log", log))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(what, &format!("could not be started: {e}"), log))?;
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(text) = lines
            .next_line()
            .await
            .map_err(Error::io("read the output for", log))?
        {
            writeln!(file, "{text}").map_err(Error::io("write", log))?;
            line(&text);
        }
    }
    let status = child
        .wait()
        .await
        .map_err(Error::io("wait for the program that writes", log))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(what, &status.to_string(), log))
    }
}

fn failed(what: &str, status: &str, log: &Path) -> Error {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    Error::Command {
        what: what.to_owned(),
        status: status.to_owned(),
        log: log.to_owned(),
        tail,
    }
}

/// The standard output of a part of a build, trimmed; its failure is an error with the log's end.
pub(crate) async fn answer(mut command: Command, what: &str, log: &Path) -> Result<String, Error> {
    let done = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| failed(what, &format!("could not be started: {e}"), log))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned());
    }
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Error::io("open the log", log))?;
    file.write_all(&done.stderr).map_err(Error::io("write", log))?;
    Err(failed(what, &done.status.to_string(), log))
}

/// A program's standard output, trimmed; none if it cannot be run or fails.
pub(crate) async fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program)
        .args(arguments)
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    done.status
        .success()
        .then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
