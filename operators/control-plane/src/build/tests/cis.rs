//! The rendered arguments against the control-plane items of the CIS Kubernetes Benchmark v1.11
//! (sections 1.2 API server, 1.3 controller manager, 1.4 scheduler). Numbers shift between editions; the
//! names of the items do not.
//!
//! Exceptions, each with its reason:
//! - 1.2.1 `--anonymous-auth=false`: anonymous requests reach the three health paths alone
//!   (`AuthenticationConfiguration`), which the kubelet's probes need.
//! - 1.2.5 `--kubelet-certificate-authority`: not set until kubelets' serving certificates are signed and
//!   approved by the platform; with it, logs and exec of nodes with self-signed certificates would fail.
//! - 1.2.11 `AlwaysPullImages`: a tenant's own choice; it would make every restart depend on a registry.
//! - 1.2.15 `--service-account-lookup` and 1.2.12, 1.2.13, 1.3.6: on by default since long, left unset.
//! - 1.3.7, 1.4.2 `--bind-address=127.0.0.1`: each component is alone in its pod's network, and the kubelet
//!   probes it there; both serve TLS only and authenticate everything but their health paths.

use std::collections::BTreeMap;

use crate::build::{api_server, configuration, controller_manager, flags::Flags, scheduler};
use crate::fixtures::tenant;

fn rendered(flags: &Flags) -> BTreeMap<String, String> {
    let split = |argument: &String| {
        let (name, value) = argument.strip_prefix("--").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    flags.render().iter().map(split).collect()
}

fn api() -> BTreeMap<String, String> {
    rendered(&api_server::build_flags(&tenant()))
}

fn list<'a>(flags: &'a BTreeMap<String, String>, name: &str) -> Vec<&'a str> {
    flags
        .get(name)
        .map(|value| value.split(',').collect())
        .unwrap_or_default()
}

fn number(flags: &BTreeMap<String, String>, name: &str) -> u32 {
    flags[name].parse().unwrap()
}

#[test]
fn api_server_authentication_and_authorization() {
    let flags = api();
    // 1.2.1, the exception's bounds.
    assert!(!flags.contains_key("anonymous-auth"));
    let map = configuration::build_config_map(&tenant()).data.unwrap();
    let paths: Vec<&str> = map[configuration::AUTHENTICATION]
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- path: "))
        .collect();
    let join = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    assert_eq!(paths, ["/livez", "/readyz", "/healthz", join]);
    // 1.2.2 no static tokens.
    assert!(!flags.contains_key("token-auth-file"));
    // 1.2.4 TLS towards kubelets.
    assert!(flags["kubelet-client-certificate"].ends_with("tls.crt"));
    assert!(flags["kubelet-client-key"].ends_with("tls.key"));
    // 1.2.6 to 1.2.8.
    assert_eq!(list(&flags, "authorization-mode"), ["Node", "RBAC"]);
}

#[test]
fn api_server_admission() {
    let flags = api();
    let plugins = list(&flags, "enable-admission-plugins");
    // 1.2.3, 1.2.9, 1.2.14.
    for plugin in ["DenyServiceExternalIPs", "EventRateLimit", "NodeRestriction"] {
        assert!(plugins.contains(&plugin), "{plugin}");
    }
    // 1.2.10.
    assert!(!plugins.contains(&"AlwaysAdmit"));
    // 1.2.12, 1.2.13: ServiceAccount and NamespaceLifecycle are on unless they are switched off.
    assert!(!flags.contains_key("disable-admission-plugins"));
}

#[test]
fn api_server_profiling_and_audit() {
    let flags = api();
    assert_eq!(flags["profiling"], "false");
    assert!(!flags["audit-log-path"].is_empty());
    assert!(number(&flags, "audit-log-maxage") >= 30);
    assert!(number(&flags, "audit-log-maxbackup") >= 10);
    assert!(number(&flags, "audit-log-maxsize") >= 100);
    // 3.2.1, 3.2.2: there is a policy, and it covers Secrets and exec.
    let map = configuration::build_config_map(&tenant()).data.unwrap();
    let policy = &map[configuration::AUDIT];
    assert!(flags["audit-policy-file"].ends_with(configuration::AUDIT));
    assert!(policy.contains("secrets") && policy.contains("pods/exec"));
}

#[test]
fn api_server_keys_and_tls() {
    let flags = api();
    for name in [
        "service-account-key-file",
        "etcd-certfile",
        "etcd-keyfile",
        "etcd-cafile",
        "tls-cert-file",
        "tls-private-key-file",
        "client-ca-file",
        "encryption-provider-config",
    ] {
        assert!(flags[name].starts_with("/etc/kubernetes/pki/"), "{name}");
    }
    assert!(flags["etcd-servers"].starts_with("https://"));
    // 1.2.15: not switched off.
    assert!(!flags.contains_key("service-account-lookup"));
    assert_eq!(flags["service-account-extend-token-expiration"], "false");
    check_tls(&flags);
}

fn check_tls(flags: &BTreeMap<String, String>) {
    assert_eq!(flags["tls-min-version"], "VersionTLS12");
    let suites = list(flags, "tls-cipher-suites");
    assert!(!suites.is_empty());
    for suite in suites {
        let is_strong = suite.starts_with("TLS_ECDHE_")
            && (suite.contains("_GCM_") || suite.contains("_CHACHA20_POLY1305_"));
        assert!(is_strong, "{suite}");
    }
}

#[test]
fn controller_manager() {
    let flags = rendered(&controller_manager::build_flags(&tenant()));
    assert!(number(&flags, "terminated-pod-gc-threshold") > 0);
    assert_eq!(flags["profiling"], "false");
    assert_eq!(flags["use-service-account-credentials"], "true");
    assert!(flags["service-account-private-key-file"].starts_with("/etc/kubernetes/pki/"));
    assert!(flags["root-ca-file"].starts_with("/etc/kubernetes/pki/"));
    // 1.3.6: RotateKubeletServerCertificate is not switched off.
    assert!(!flags.contains_key("feature-gates"));
    check_tls(&flags);
}

#[test]
fn scheduler() {
    let flags = rendered(&scheduler::build_flags(&tenant()));
    assert_eq!(flags["profiling"], "false");
    check_tls(&flags);
}
