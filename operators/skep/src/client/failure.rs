//! How a command fails: one line for people and an exit status for programs.

use std::process::ExitCode;

use skep_provision::problem::Problem;

/// A command that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server refused the request.
    #[error("{}", tell(.0))]
    Problem(Box<Problem>),
    /// Something that was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was given is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Something did not happen in time.
    #[error("{0}")]
    TimedOut(String),
    /// A check said no.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// A failure from an error of another crate, with its causes on one line.
    pub fn from_error(error: impl Into<anyhow::Error>) -> Self {
        let error: anyhow::Error = error.into();
        let mut parts: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string();
            // Some errors repeat their source's text in their own.
            if !parts.iter().any(|part| part.contains(&text)) {
                parts.push(text);
            }
        }
        Self::Other(parts.join(": "))
    }

    /// The exit status: 1 failed, 2 wrong usage, 3 not found, 4 timed out, 5 refused by a check.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Problem(problem) => match problem.status {
                404 => 3,
                504 => 4,
                400 | 422 => 2,
                409 => 5,
                _ => 1,
            },
            Self::Invalid(_) => 2,
            Self::NotFound(_) => 3,
            Self::TimedOut(_) => 4,
            Self::Refused(_) => 5,
            Self::Other(_) => 1,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::from_error(error)
    }
}

fn tell(problem: &Problem) -> String {
    let fields: Vec<String> = problem
        .errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.message))
        .collect();
    if fields.is_empty() {
        problem.detail.clone()
    } else {
        format!("{}: {}", problem.detail, fields.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_provision::problem::{FieldError, Kind};

    #[test]
    fn every_wrong_field_is_told_on_one_line() {
        let errors = vec![
            FieldError::new("version", "is not offered"),
            FieldError::new("region", "is unknown"),
        ];
        let failure = Failure::Problem(Box::new(Problem::invalid("cluster", errors)));
        let expected = "2 fields of the cluster are invalid: version: is not offered; region: is unknown";
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn exit_statuses_are_those_of_the_contract() {
        let code = |kind: Kind| format!("{:?}", Failure::Problem(Box::new(kind.because("x"))).exit_code());
        assert_eq!(code(Kind::NotFound), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(Kind::TimedOut), format!("{:?}", ExitCode::from(4)));
        assert_eq!(code(Kind::Conflict), format!("{:?}", ExitCode::from(5)));
        assert_eq!(code(Kind::Invalid), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(Kind::Internal), format!("{:?}", ExitCode::from(1)));
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(Failure::from_error(error).to_string(), "outer: inner");
    }
}
