//! The one way in which the provider runs programs: argument vectors, a time limit, and errors that
//! say what was run and what it said.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;

use crate::error::Error;

/// How many of a failed program's last lines an error carries.
const ERROR_LINES: usize = 5;
/// How long a program may run where nothing else is said.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);

/// A program with its arguments, yet to be run.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    limit: Duration,
}

impl Command {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            input: Vec::new(),
            limit: DEFAULT_LIMIT,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads from its standard input.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it and returns its standard output.
    pub(crate) async fn run(self) -> Result<String, Error> {
        let shown = self.shown();
        let (program, args) = self
            .argv
            .split_first()
            .map_or((OsStr::new(""), [].as_slice()), |(p, a)| (p.as_os_str(), a));
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn {
                command: shown.clone(),
                source,
            })?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok());
        let stdin = child.stdin.take();
        let input = self.input;
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that ends without reading says why in its exit status.
                let _ = stdin.write_all(&input).await;
            }
        };
        let finish = async { tokio::join!(feed, child.wait_with_output()).1 };
        match tokio::time::timeout(self.limit, finish).await {
            Ok(Ok(output)) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(Ok(output)) => Err(Error::Command {
                command: shown,
                outcome: format!("failed ({})", output.status),
                stderr: last_lines(&output.stderr, &output.stdout),
            }),
            Ok(Err(source)) => Err(Error::Spawn {
                command: shown,
                source,
            }),
            Err(_) => {
                if let Some(group) = group {
                    // It may have ended in this moment.
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                Err(Error::Command {
                    command: shown,
                    outcome: format!("did not end within {} s", self.limit.as_secs()),
                    stderr: "it was stopped".into(),
                })
            }
        }
    }

    /// The command as a person would type it.
    fn shown(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|arg| arg.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// The last lines of what a program wrote to its error output, or else to its output.
fn last_lines(stderr: &[u8], stdout: &[u8]) -> String {
    let pick = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(ERROR_LINES)..].join(" | ")
    };
    let said = pick(stderr);
    if said.is_empty() { pick(stdout) } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn errors_carry_command_status_and_last_lines() {
        let error = Command::new("sh")
            .args(["-c", "echo one; echo two >&2; exit 3"])
            .run()
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.ends_with("two"), "{text}");
    }

    #[tokio::test]
    async fn input_is_fed_and_output_returned() {
        let output = Command::new("cat").input("hello").run().await.unwrap();
        assert_eq!(output, "hello");
    }

    #[tokio::test]
    async fn a_limit_ends_the_whole_group() {
        let error = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .limit(Duration::from_millis(50))
            .run()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("did not end within"));
    }
}
