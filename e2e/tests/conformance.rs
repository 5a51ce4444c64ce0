//! Programs that others wrote against Kubernetes, used on a tenant: its own conformance suite, and Helm.
//!
//! `SKEP_TEST_PROGRAMS` is the JSON that the distribution's example `ensure` prints with the programs for tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use skep_e2e::platform::{run, run_within};
use skep_e2e::{Namespace, Platform, Tenant};
use tokio::process::Command;

/// Names of upstream tests, sorted.
const LIST: &str = include_str!("../fixtures/conformance.txt");
/// How many of them are run; `make conformance` sets `CONFORMANCE_TESTS` to run more.
const RUN: usize = 25;
/// How long the suite may take for that many, and for all.
const LIMIT: Duration = Duration::from_mins(20);
const LONG_LIMIT: Duration = Duration::from_hours(6);

fn programs() -> Value {
    let file = std::env::var("SKEP_TEST_PROGRAMS").expect("e2e/run sets SKEP_TEST_PROGRAMS");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn program(all: &Value, name: &str) -> PathBuf {
    PathBuf::from(all["tests"]["programs"][name].as_str().unwrap())
}

/// Brings the images that upstream's tests want onto demo's nodes.
async fn load_images(platform: &Platform, all: &Value) {
    let archives = all["tests"]["images"].as_array().unwrap();
    let paths: Vec<&str> = archives
        .iter()
        .map(|image| image["path"].as_str().unwrap())
        .collect();
    let load = [&["node", "load", "demo"], &paths[..]].concat();
    platform.skep(&load).await.unwrap().success().unwrap();
}

/// A regular expression of ginkgo's that these names alone match.
fn focus(names: &[&str]) -> String {
    let quote = |name: &&str| {
        name.chars()
            .flat_map(|c| {
                if c.is_alphanumeric() || c == ' ' {
                    vec![c]
                } else {
                    vec!['\\', c]
                }
            })
            .collect::<String>()
    };
    names.iter().map(quote).collect::<Vec<_>>().join("|")
}

/// Writes a kubeconfig that calls the server by its name, and the file of hosts that knows it: upstream's suite takes
/// the address from the kubeconfig and drops the name for TLS beside it.
fn name_server(text: &str, kubeconfig: &Path, hosts: &Path) {
    let field = |key: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(key));
        line.unwrap()[key.len()..].trim().to_owned()
    };
    let (server, name) = (field("server:"), field("tls-server-name:"));
    let address = server.trim_start_matches("https://");
    let (ip, port) = address.rsplit_once(':').unwrap();
    std::fs::write(
        kubeconfig,
        text.replace(&server, &format!("https://{name}:{port}")),
    )
    .unwrap();
    std::fs::write(hosts, format!("127.0.0.1 localhost\n{ip} {name}\n")).unwrap();
}

/// Long, because upstream's tests are: webhooks, aggregated APIs and definitions, each with pods of its own.
#[tokio::test]
async fn the_first_conformance_tests_pass() {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::of(&platform, "demo").await.unwrap();
    let all = programs();
    load_images(&platform, &all).await;
    let chosen = std::env::var("CONFORMANCE_TESTS").ok();
    let count = chosen.map_or(RUN, |text| text.parse().expect("CONFORMANCE_TESTS is a number"));
    let limit = if count > RUN { LONG_LIMIT } else { LIMIT };
    let names: Vec<&str> = LIST.lines().filter(|line| !line.is_empty()).take(count).collect();
    assert!(names.len() >= RUN.min(count), "{} names", names.len());
    assert!(names.is_sorted(), "the list is sorted by name");
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let hosts = directory.path().join("hosts");
    name_server(&tenant.kubeconfig().unwrap(), &kubeconfig, &hosts);
    let repositories = directory.path().join("repositories.yaml");
    let registries: Value = ["promoterE2eRegistry", "gcRegistry", "gcEtcdRegistry"]
        .map(|key| (key.to_owned(), json!("localhost")))
        .into_iter()
        .collect::<serde_json::Map<_, _>>()
        .into();
    std::fs::write(&repositories, registries.to_string()).unwrap();
    let report = directory.path().join("report.json");
    let log = platform.home.join("log").join("conformance.log");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    // A namespace of mounts in which the tenant's name leads to the gateway.
    let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let mut suite = Command::new("unshare");
    suite
        .args(["--mount", "/bin/sh", "-c", &script, "suite"])
        .arg(program(&all, "e2e.test"))
        .current_dir(directory.path())
        .env("KUBE_TEST_REPO_LIST", &repositories)
        .args(["--provider=skeleton", "--ginkgo.no-color"])
        .arg(format!("--ginkgo.timeout={}s", limit.as_secs()))
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--ginkgo.focus={}", focus(&names)))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .args(["--minStartupPods=0", "--allowed-not-ready-nodes=0"]);
    let output = run_within(limit + Duration::from_mins(5), &mut suite, None)
        .await
        .unwrap();
    std::fs::write(&log, format!("{}{}", output.stdout, output.stderr)).unwrap();
    let (passed, other) = results(&report, &names);
    assert!(
        other.is_empty(),
        "{} passed; not these, see {}: {other:#?}",
        passed.len(),
        log.display()
    );
    assert_eq!(passed.len(), names.len());
    println!("conformance {}/{}", passed.len(), names.len());
}

/// Names that passed, and of the others each with what became of it.
fn results(report: &Path, names: &[&str]) -> (Vec<String>, Vec<String>) {
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    let specs = report[0]["SpecReports"].as_array().unwrap();
    let mut passed = Vec::new();
    let mut other = Vec::new();
    for name in names {
        let of_name = |spec: &&Value| {
            let texts = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
            let mut whole: Vec<&str> = texts.filter_map(Value::as_str).collect();
            whole.extend(spec["LeafNodeText"].as_str());
            whole.join(" ") == **name
        };
        match specs.iter().find(of_name) {
            Some(spec) if spec["State"] == "passed" => passed.push((*name).to_owned()),
            Some(spec) => {
                other.push(format!(
                    "{name}: {} {}",
                    spec["State"], spec["Failure"]["Message"]
                ));
            }
            None => other.push(format!("{name}: not found in the suite")),
        }
    }
    (passed, other)
}

#[tokio::test]
async fn helm_installs_a_chart() {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::of(&platform, "demo").await.unwrap();
    let space = Namespace::create(&tenant, "helm").await.unwrap();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/chart");
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, tenant.kubeconfig().unwrap()).unwrap();
    let all = programs();
    let helm = async |arguments: &[&str]| {
        let mut command = Command::new(program(&all, "helm"));
        command
            .env("KUBECONFIG", &kubeconfig)
            .env("HELM_CACHE_HOME", directory.path())
            .env("HELM_CONFIG_HOME", directory.path())
            .env("HELM_DATA_HOME", directory.path())
            .args(["--namespace", &space.name])
            .args(arguments);
        run(&mut command, None).await.unwrap().success().unwrap()
    };
    helm(&[
        "install",
        "hello",
        chart,
        "--set",
        "greeting=from Helm",
        "--wait",
        "--timeout",
        "3m",
    ])
    .await;
    let listed: Value = serde_json::from_str(&helm(&["list", "-o", "json"]).await).unwrap();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["status"]),
        (&json!("hello"), &json!("deployed"))
    );
    let ask = [
        "exec",
        "deployment/hello",
        "--",
        "wget",
        "-q",
        "-O",
        "-",
        "http://hello/",
    ];
    let answer = space.kubectl(&ask).await.unwrap().success().unwrap();
    assert_eq!(answer.trim(), "from Helm");
    helm(&["uninstall", "hello", "--wait"]).await;
    let left = space
        .kubectl(&["get", "deployments,services", "-o", "name"])
        .await
        .unwrap();
    assert_eq!(left.success().unwrap(), "");
}
