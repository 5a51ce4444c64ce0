//! The arguments that a profile or class may set. Everything else is the platform's own choice.
//!
//! An allow-list with a kind for each value: no path, no free text and no credential can be passed, and so
//! nothing that a shell, a newline or the kubelet's `$(VAR)` could turn into something else.

use std::collections::BTreeMap;

use super::{InvalidSpec, Program};

/// What a value must look like.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A whole number within bounds.
    Count(u64, u64),
    /// A duration in Go's notation, such as `1h30m`.
    Duration,
    /// A decimal between 0 and 0.02, as `--goaway-chance` takes it.
    Chance,
    /// `true` or `false`.
    Switch,
}

const API_SERVER: &[(&str, Kind)] = &[
    ("default-not-ready-toleration-seconds", Kind::Count(1, 3600)),
    ("default-unreachable-toleration-seconds", Kind::Count(1, 3600)),
    ("default-watch-cache-size", Kind::Count(1, 100_000)),
    ("delete-collection-workers", Kind::Count(1, 64)),
    ("etcd-compaction-interval", Kind::Duration),
    ("event-ttl", Kind::Duration),
    ("goaway-chance", Kind::Chance),
    ("max-mutating-requests-inflight", Kind::Count(1, 10_000)),
    ("max-requests-inflight", Kind::Count(1, 10_000)),
    ("min-request-timeout", Kind::Count(60, 7200)),
    ("request-timeout", Kind::Duration),
    ("shutdown-delay-duration", Kind::Duration),
    ("v", Kind::Count(0, 4)),
];

const CONTROLLER_MANAGER: &[(&str, Kind)] = &[
    ("cluster-signing-duration", Kind::Duration),
    ("concurrent-cron-job-syncs", Kind::Count(1, 100)),
    ("concurrent-daemonset-syncs", Kind::Count(1, 100)),
    ("concurrent-deployment-syncs", Kind::Count(1, 100)),
    ("concurrent-endpoint-syncs", Kind::Count(1, 100)),
    ("concurrent-gc-syncs", Kind::Count(1, 200)),
    ("concurrent-job-syncs", Kind::Count(1, 100)),
    ("concurrent-namespace-syncs", Kind::Count(1, 100)),
    ("concurrent-replicaset-syncs", Kind::Count(1, 100)),
    ("concurrent-service-endpoint-syncs", Kind::Count(1, 100)),
    ("concurrent-statefulset-syncs", Kind::Count(1, 100)),
    ("horizontal-pod-autoscaler-sync-period", Kind::Duration),
    ("kube-api-burst", Kind::Count(1, 1000)),
    ("kube-api-qps", Kind::Count(1, 1000)),
    ("node-monitor-grace-period", Kind::Duration),
    ("node-monitor-period", Kind::Duration),
    ("terminated-pod-gc-threshold", Kind::Count(1, 12_500)),
    ("v", Kind::Count(0, 4)),
];

const SCHEDULER: &[(&str, Kind)] = &[
    ("contention-profiling", Kind::Switch),
    ("kube-api-burst", Kind::Count(1, 1000)),
    ("kube-api-qps", Kind::Count(1, 1000)),
    ("v", Kind::Count(0, 4)),
];

fn allowed(program: Program) -> &'static [(&'static str, Kind)] {
    match program {
        Program::ApiServer => API_SERVER,
        Program::ControllerManager => CONTROLLER_MANAGER,
        Program::Scheduler => SCHEDULER,
    }
}

/// Checks every argument against the program's allow-list and its kind.
pub(super) fn check_arguments(
    program: Program,
    field: &str,
    arguments: &BTreeMap<String, String>,
) -> Result<BTreeMap<&'static str, String>, InvalidSpec> {
    let known = allowed(program);
    let mut checked = BTreeMap::new();
    for (name, value) in arguments {
        let path = format!("{field}[{}]", printable(name));
        let Some((name, kind)) = known.iter().find(|(known, _)| known == name) else {
            let problem = format!("{} may not be set to this argument", program.name());
            return Err(InvalidSpec::new(path, problem));
        };
        if let Some(problem) = problem_of(*kind, value) {
            return Err(InvalidSpec::new(path, problem));
        }
        checked.insert(*name, value.clone());
    }
    Ok(checked)
}

fn problem_of(kind: Kind, value: &str) -> Option<String> {
    let is_right = match kind {
        Kind::Count(least, most) => {
            is_digits(value)
                && value
                    .parse::<u64>()
                    .is_ok_and(|count| (least..=most).contains(&count))
        }
        Kind::Duration => is_duration(value),
        Kind::Chance => is_decimal(value) && value.parse::<f64>().is_ok_and(|chance| chance <= 0.02),
        Kind::Switch => matches!(value, "true" | "false"),
    };
    let wanted = match kind {
        Kind::Count(least, most) => format!("must be a whole number between {least} and {most}"),
        Kind::Duration => "must be a duration such as 90s or 1h30m".to_owned(),
        Kind::Chance => "must be a decimal between 0 and 0.02".to_owned(),
        Kind::Switch => "must be true or false".to_owned(),
    };
    (!is_right).then_some(wanted)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_decimal(text: &str) -> bool {
    let mut parts = text.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(whole), None, None) => is_digits(whole),
        (Some(whole), Some(fraction), None) => is_digits(whole) && is_digits(fraction),
        _ => false,
    }
}

/// One or more of a number with `h`, `m` or `s`, as Go prints them; zero is refused.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        if !is_digits(number) || !unit.starts_with(['h', 'm', 's']) {
            return false;
        }
        total = total.saturating_add(number.parse().unwrap_or(0));
        rest = &unit[1..];
    }
    total > 0
}

/// The name as it may stand in a message: one line, no control characters, at most 60 characters.
fn printable(name: &str) -> String {
    name.chars()
        .take(60)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: Program, name: &str, value: &str) -> Result<(), InvalidSpec> {
        let arguments = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        check_arguments(program, "spec.x.arguments", &arguments).map(drop)
    }

    #[test]
    fn what_a_class_sets_is_taken() {
        check(Program::ApiServer, "max-requests-inflight", "400").unwrap();
        check(Program::ApiServer, "event-ttl", "1h30m").unwrap();
        check(Program::ApiServer, "goaway-chance", "0.001").unwrap();
        check(Program::ControllerManager, "kube-api-qps", "50").unwrap();
        check(Program::Scheduler, "v", "2").unwrap();
    }

    #[test]
    fn what_could_weaken_or_redirect_is_refused_by_field() {
        let cases = [
            "token-auth-file",
            "authorization-mode",
            "anonymous-auth",
            "etcd-servers",
            "profiling",
            "audit-policy-file",
            "enable-admission-plugins",
            "disable-admission-plugins",
            "feature-gates",
            "client-ca-file",
            "insecure-port",
            "service-account-issuer",
            "oidc-issuer-url",
            "",
            "--v",
            "V",
            "max-requests-inflight ",
            "v\n--token-auth-file",
        ];
        for name in cases {
            let error = check(Program::ApiServer, name, "1").unwrap_err();
            assert!(error.field.starts_with("spec.x.arguments["), "{error}");
            assert!(!error.field.contains('\n'), "{error}");
        }
        assert!(check(Program::Scheduler, "max-requests-inflight", "400").is_err());
    }

    #[test]
    fn values_have_one_kind() {
        let cases = [
            ("max-requests-inflight", "0"),
            ("max-requests-inflight", "-1"),
            ("max-requests-inflight", "400\n--token-auth-file=/x"),
            ("max-requests-inflight", " 400"),
            ("max-requests-inflight", "$(POD_IP)"),
            ("max-requests-inflight", "99999999999999999999"),
            ("event-ttl", "1 h"),
            ("event-ttl", "h"),
            ("event-ttl", "0s"),
            ("event-ttl", "1d"),
            ("goaway-chance", "0.5"),
            ("goaway-chance", "nan"),
            ("goaway-chance", ".01"),
            ("v", "10"),
        ];
        for (name, value) in cases {
            assert!(
                check(Program::ApiServer, name, value).is_err(),
                "{name}={value:?}"
            );
        }
    }

    #[test]
    fn lists_are_sorted_and_without_doubles() {
        for list in [API_SERVER, CONTROLLER_MANAGER, SCHEDULER] {
            assert!(list.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
