//! A second real meta cluster: made by `skep cell create`, registered by token, used by a tenant, and given back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use skep_e2e::containers::{kill_container, processes, running};
use skep_e2e::platform::{eventually, run};
use skep_e2e::worker::work;
use skep_e2e::{Namespace, Output, Platform, Tenant};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const CELL: &str = "two";
const TENANT: &str = "second";

/// Runs `kubectl` in the second cell with its administrator's rights.
async fn in_cell(platform: &Platform, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("kubectl");
    let kubeconfig = platform.home.join("cells").join(CELL).join("hub.kubeconfig");
    run(command.arg("--kubeconfig").arg(kubeconfig).args(arguments), None).await
}

async fn cordon(platform: &Platform, cell: &str, is_cordoned: bool) {
    let patch = json!({"spec": {"cordoned": is_cordoned}}).to_string();
    let arguments = ["patch", "cell", cell, "--type=merge", "-p", &patch];
    platform.kubectl(&arguments).await.unwrap().success().unwrap();
}

/// A `kubectl` of the hub with the certificate that the second cell's agent was given.
struct Agent {
    config: tempfile::NamedTempFile,
}

impl Agent {
    async fn of_second(platform: &Platform) -> Result<Self> {
        let get = [
            "get",
            "secret",
            "-n",
            "skep-system",
            "skep-agent-identity",
            "-o",
            "json",
        ];
        let identity = in_cell(platform, &get).await?.json()?;
        let part = |key: &str| {
            identity["data"][key]
                .as_str()
                .map(str::to_owned)
                .context("it has no such key")
        };
        let text = std::fs::read_to_string(platform.home.join("hub.kubeconfig"))?;
        let mut config: Value = serde_saphyr::from_str(&text)?;
        config["users"][0]["user"] = json!({
            "client-certificate-data": part("tls.crt")?,
            "client-key-data": part("tls.key")?,
        });
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), config.to_string())?;
        Ok(Self { config: file })
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.config.path())
            .args(arguments);
        run(&mut command, None).await
    }
}

/// Not one kind of object of a cell's namespace at the hub can be listed or read.
async fn nothing_can_be_read(
    what: &str,
    namespace: &str,
    kubectl: impl AsyncFn(&[&str]) -> Result<Output>,
    kinds: &[String],
) {
    for kind in kinds {
        let listed = kubectl(&["get", kind, "-n", namespace]).await.unwrap();
        assert!(
            listed.status != 0 && listed.stderr.contains("orbidden"),
            "{what} lists {kind} in {namespace}: {listed:?}"
        );
        let read = kubectl(&["get", kind, "-n", namespace, "any"]).await.unwrap();
        assert!(
            read.status != 0 && read.stderr.contains("orbidden"),
            "{what} reads {kind} in {namespace}: {read:?}"
        );
    }
}

async fn each_agent_sees_only_its_own(platform: &Platform) {
    let kinds = ["api-resources", "--namespaced", "--verbs=list,get", "-o", "name"];
    let kinds = platform.kubectl(&kinds).await.unwrap().success().unwrap();
    let kinds: Vec<String> = kinds.lines().map(str::to_owned).collect();
    assert!(
        kinds.iter().any(|kind| kind == "deploymentrecords.skep.dev"),
        "{kinds:?}"
    );

    // The first cell's agent keeps its key in its process, so that the API server is asked in its name.
    let first = async |arguments: &[&str]| {
        let as_agent = [
            "--as=skep:cell:local",
            "--as-group=skep:cells",
            "--as-group=system:authenticated",
        ];
        platform.kubectl(&[&as_agent, arguments].concat()).await
    };
    let own = first(&["get", "deploymentrecords", "-n", "skep-cell-local"])
        .await
        .unwrap();
    own.success().unwrap();
    nothing_can_be_read("the first agent", "skep-cell-two", first, &kinds).await;

    let agent = Agent::of_second(platform).await.unwrap();
    let second = async |arguments: &[&str]| agent.kubectl(arguments).await;
    let own = second(&["get", "deploymentrecords", "-n", "skep-cell-two"])
        .await
        .unwrap();
    own.success().unwrap();
    nothing_can_be_read("the second agent", "skep-cell-local", second, &kinds).await;
    for (verb, object) in [
        ("get", "cells/local"),
        ("get", "secrets"),
        ("list", "nodes"),
        ("get", "tenantclusters"),
    ] {
        let can = second(&["auth", "can-i", verb, object, "-A"]).await.unwrap();
        assert_eq!(can.stdout.trim(), "no", "{verb} {object}: {can:?}");
    }
}

async fn serves(tenant: &Tenant) {
    let space = Namespace::create(tenant, "cells").await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "speaks"},
        "spec": {"containers": [{"name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-c", "echo begun; sleep 36000"]}]},
    });
    space.apply(&pod.to_string()).await.unwrap();
    let wait = ["wait", "--for=condition=Ready", "pod/speaks", "--timeout=180s"];
    space.kubectl(&wait).await.unwrap().success().unwrap();
    // Logs and commands take the way back from the apiserver to the node.
    eventually("the pod's log is read", || async {
        let log = space.kubectl(&["logs", "speaks"]).await?.success()?;
        ensure!(log.trim() == "begun", "{log}");
        Ok(())
    })
    .await
    .unwrap();
    let echo = ["exec", "speaks", "--", "echo", "heard"];
    assert_eq!(
        space.kubectl(&echo).await.unwrap().success().unwrap().trim(),
        "heard"
    );
}

async fn nothing_is_left(platform: &Platform, cell: &str) {
    let instance = std::env::var("SKEP_INSTANCE").unwrap();
    let prefix = format!("{instance}--{cell}");
    eventually("nothing of the cell is left", || async {
        let mut left: Vec<PathBuf> = Vec::new();
        for dir in [
            "/run/netns",
            "/run/skep/instances",
            "/sys/fs/cgroup/skep",
            "/sys/fs/cgroup/cpu/skep",
        ] {
            let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
            left.extend(names.map(|entry| entry.path()).filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix) && !name.ends_with(".lock")
            }));
        }
        left.extend(Some(platform.home.join("cells").join(cell)).filter(|path| path.exists()));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(left.is_empty() && !mounts.contains(&prefix), "{left:?}");
        let get = [
            "get",
            "cells,clusterregistrations,registrationtokens,namespaces",
            "-o",
            "name",
        ];
        let objects = platform.kubectl(&get).await?.success()?;
        let of_cell = |line: &&str| {
            {
                line.contains("registration")
                    || line.ends_with(&format!("/{cell}"))
                    || line.ends_with(&format!("/skep-cell-{cell}"))
            }
        };
        let objects: Vec<&str> = objects.lines().filter(of_cell).collect();
        ensure!(objects.is_empty(), "{objects:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// How long the hub is away.
const AWAY: Duration = Duration::from_mins(5);
/// A tenant of the hub's own cell that nothing happens to.
const CALM: &str = "calm";

async fn scale_hub(platform: &Platform, replicas: u32) {
    let replicas = format!("--replicas={replicas}");
    let scale = [
        "-n",
        "skep-system",
        "scale",
        "deployment",
        "skep-hub",
        "skep-builder",
        &replicas,
    ];
    platform.kubectl(&scale).await.unwrap().success().unwrap();
}

/// Removes all that a member of a datastore has stored, and kills it; says which it was.
async fn wipe_a_member(platform: &Platform, namespace: &str) -> Result<String> {
    let get = [
        "-n",
        namespace,
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=etcd",
        "-o",
        "json",
    ];
    let pods = running(&platform.kubectl(&get).await?.json()?);
    let member = pods
        .iter()
        .find(|container| container.name.ends_with("/etcd"))
        .context("no member runs")?;
    let process = *processes(member)?.first().context("it has no process here")?;
    for entry in std::fs::read_dir(format!("/proc/{process}/root/var/lib/etcd"))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    kill_container(member)?;
    let pod = member.name.split('/').nth(1).context("its name")?;
    Ok(pod.to_owned())
}

async fn is_healed(platform: &Platform, namespace: &str, lost: &str) -> Result<()> {
    let get = ["-n", namespace, "get", "etcdcluster", "etcd", "-o", "json"];
    let status = platform.kubectl(&get).await?.json()?["status"].clone();
    let members = status["members"].as_array().context("no members")?;
    ensure!(
        members.iter().all(|member| member["pod"] != lost),
        "{lost} is still a member"
    );
    ensure!(status["readyMembers"] == 3 && members.len() == 3, "{status}");
    Ok(())
}

/// With no process of the hub for minutes every tenant of both cells is served, and what is lost in a cell heals there.
async fn both_cells_go_on_without_the_hub(platform: &Platform, second: &Tenant) {
    cordon(platform, CELL, true).await;
    let calm = Tenant::create(platform, CALM, &["--availability", "Single"]).await;
    cordon(platform, CELL, false).await;
    let calm = calm.unwrap();
    assert_eq!(placed(platform, CALM).await.unwrap(), Ok("local".to_owned()));
    let namespace = format!("cp-{}", platform.cpid("demo").await.unwrap());
    scale_hub(platform, 0).await;
    let stop = CancellationToken::new();
    let begun = tokio::time::Instant::now();
    let meanwhile = async {
        let healed = async {
            let lost = wipe_a_member(platform, &namespace).await?;
            eventually("the wiped member is replaced", || {
                is_healed(platform, &namespace, &lost)
            })
            .await
        };
        let healed = healed.await;
        println!("{:?} until a wiped member was replaced", begun.elapsed());
        tokio::time::sleep_until(begun + AWAY).await;
        stop.cancel();
        healed
    };
    let (here, there, healed) = tokio::join!(work(&calm, &stop), work(second, &stop), meanwhile);
    scale_hub(platform, 1).await;
    healed.unwrap();
    for (cell, worked) in [("local", here.unwrap()), (CELL, there.unwrap())] {
        println!(
            "{cell}: {} writes and reads, the slowest took {:?}",
            worked.answered, worked.slowest
        );
        assert!(worked.failed.is_empty(), "in {cell}: {:#?}", worked.failed);
        assert!(worked.answered > 100, "in {cell}: {}", worked.answered);
    }
    let rollout = [
        "-n",
        "skep-system",
        "rollout",
        "status",
        "deployment/skep-hub",
        "--timeout=120s",
    ];
    platform.kubectl(&rollout).await.unwrap().success().unwrap();
    eventually("the API answers again", || async {
        platform
            .skep(&["cluster", "delete", CALM, "--wait"])
            .await?
            .success()
    })
    .await
    .unwrap();
}

/// A cluster of nodes is made, registers, holds a tenant with a node, and is removed: minutes.
#[tokio::test]
async fn a_second_meta_cluster_is_made_holds_a_tenant_and_goes_without_a_trace() {
    let platform = Platform::connect().unwrap();
    clean(&platform).await;
    let create = ["cell", "create", CELL, "--timeout", "8m"];
    platform.skep(&create).await.unwrap().success().unwrap();
    let again = platform.skep(&create).await.unwrap();
    assert!(again.status == 5 && again.stderr.contains("already"), "{again:?}");
    let get = [
        "get",
        "clusterregistrations",
        "-o",
        "jsonpath={.items[*].spec.cell}",
    ];
    assert_eq!(platform.kubectl(&get).await.unwrap().success().unwrap(), CELL);

    cordon(&platform, "local", true).await;
    let tenant = Tenant::create(&platform, TENANT, &["--availability", "Single"]).await;
    cordon(&platform, "local", false).await;
    let tenant = tenant.unwrap();
    assert_eq!(placed(&platform, TENANT).await.unwrap(), Ok(CELL.to_owned()));
    let cpid = platform.cpid(TENANT).await.unwrap();
    let planes = ["get", "controlplanes", "-A", "-o", "name"];
    let here = platform.kubectl(&planes).await.unwrap().success().unwrap();
    let there = in_cell(&platform, &planes).await.unwrap().success().unwrap();
    assert!(
        !here.contains(&cpid) && there.contains(&cpid),
        "here {here}, there {there}"
    );

    // The kubeconfig names the region's one front.
    let server: Value = serde_saphyr::from_str(&tenant.kubeconfig().unwrap()).unwrap();
    let demo: Value =
        serde_saphyr::from_str(&Tenant::of(&platform, "demo").await.unwrap().kubeconfig().unwrap()).unwrap();
    let address = |config: &Value| config["clusters"][0]["cluster"]["server"].clone();
    assert_eq!(address(&server), address(&demo), "the region has one front");

    platform
        .skep(&["node", "add", TENANT])
        .await
        .unwrap()
        .success()
        .unwrap();
    serves(&tenant).await;
    each_agent_sees_only_its_own(&platform).await;
    both_cells_go_on_without_the_hub(&platform, &tenant).await;

    let refused = platform.skep(&["cell", "delete", CELL]).await.unwrap();
    assert!(
        refused.status == 5 && refused.stderr.contains(&format!("default/{TENANT}")),
        "{refused:?}"
    );
    let delete = ["cluster", "delete", TENANT, "--wait", "--timeout", "10m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    let delete = ["cell", "delete", CELL, "--wait", "--timeout", "5m"];
    platform.skep(&delete).await.unwrap().success().unwrap();
    nothing_is_left(&platform, CELL).await;
}

/// The cell that the planner orders.
const ORDERED: &str = "local-2";
/// More tenants than the first cell may promise room for, without overcommitment.
const MOST: u32 = 6;

/// Removes what a run that was cut off left.
async fn clean(platform: &Platform) {
    let fills = (1..=MOST).map(|number| format!("fill-{number}"));
    for name in fills.chain([TENANT.to_owned(), CALM.to_owned()]) {
        drop(platform.skep(&["cluster", "delete", &name, "--wait"]).await);
    }
    for cell in [CELL, ORDERED] {
        drop(platform.skep(&["cell", "delete", cell, "--wait"]).await);
    }
}

async fn set_pool(platform: &Platform, spec: Value) {
    let patch = json!({"spec": spec}).to_string();
    let arguments = ["patch", "cellpool", "local", "--type=merge", "-p", &patch];
    platform.kubectl(&arguments).await.unwrap().success().unwrap();
}

async fn cluster(platform: &Platform, name: &str) -> Result<Value> {
    let get = [
        "-n",
        "project-default",
        "get",
        "tenantcluster",
        name,
        "-o",
        "json",
    ];
    platform.kubectl(&get).await?.json()
}

/// The cell that a cluster was given, or why it has none.
async fn placed(platform: &Platform, name: &str) -> Result<std::result::Result<String, String>> {
    let found = cluster(platform, name).await?;
    if let Some(cell) = found["status"]["cell"].as_str() {
        return Ok(Ok(cell.to_owned()));
    }
    let conditions = found["status"]["conditions"]
        .as_array()
        .context("nothing is said of it")?;
    let scheduled = conditions
        .iter()
        .find(|told| told["type"] == "Scheduled")
        .context("it was not looked at")?;
    ensure!(scheduled["reason"] == "NoCell", "{scheduled}");
    Ok(Err(scheduled["message"].as_str().unwrap_or_default().to_owned()))
}

/// Makes clusters until one finds no room; returns them all, that one last, with what it is told.
async fn fill(platform: &Platform) -> (Vec<String>, String) {
    let mut made = Vec::new();
    for number in 1..=MOST {
        let name = format!("fill-{number}");
        platform
            .skep(&["cluster", "create", &name])
            .await
            .unwrap()
            .success()
            .unwrap();
        made.push(name.clone());
        let found = eventually("the cluster is looked at", || placed(platform, &name))
            .await
            .unwrap();
        match found {
            Ok(cell) => assert_eq!(cell, "local", "{name}"),
            Err(why) => return (made, why),
        }
    }
    panic!("{MOST} clusters found room in the first cell");
}

/// The pool's limits are set low; from there on nobody does anything but make clusters and delete them. Minutes: a meta cluster of
/// three nodes is made.
#[tokio::test]
async fn the_planner_orders_a_cell_where_tenants_find_no_room_and_gives_it_back() {
    let platform = Platform::connect().unwrap();
    clean(&platform).await;
    let order = json!({"mode": "Automatic", "idleSeconds": 20});
    let low = json!({"maxCells": 2, "overcommitPercent": null, "order": order});
    set_pool(&platform, low).await;
    let (clusters, why) = fill(&platform).await;
    println!(
        "{} of {} wait: {why}",
        clusters[clusters.len() - 1],
        clusters.len()
    );
    assert!(
        ["cpu", "memory", "pods", "volumes", "datastore"]
            .iter()
            .any(|resource| why.contains(&format!("{resource} of zone"))),
        "{why}"
    );
    let last = clusters.last().unwrap();
    let explained = platform
        .skep(&["cell", "plan", "--explain"])
        .await
        .unwrap()
        .success()
        .unwrap();
    println!("{explained}");
    assert!(
        explained.contains("pool local") && explained.contains("binds"),
        "{explained}"
    );

    // The cell comes, and the cluster with it.
    let tenant = Tenant::of_waiting(&platform, last).await.unwrap();
    assert_eq!(placed(&platform, last).await.unwrap(), Ok(ORDERED.to_owned()));
    tenant
        .kubectl(&["get", "namespaces"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let server: Value = serde_saphyr::from_str(&tenant.kubeconfig().unwrap()).unwrap();
    let demo: Value =
        serde_saphyr::from_str(&Tenant::of(&platform, "demo").await.unwrap().kubeconfig().unwrap()).unwrap();
    let address = |config: &Value| config["clusters"][0]["cluster"]["server"].clone();
    assert_eq!(address(&server), address(&demo), "the region has one front");
    platform
        .skep(&["node", "add", last])
        .await
        .unwrap()
        .success()
        .unwrap();
    serves(&tenant).await;
    let events = [
        "get",
        "events.events.k8s.io",
        "-A",
        "-o",
        "jsonpath={.items[*].reason}",
    ];
    let events = platform.kubectl(&events).await.unwrap().success().unwrap();
    assert!(events.contains("CellOrdered"), "{events}");

    for name in &clusters {
        platform
            .skep(&["cluster", "delete", name])
            .await
            .unwrap()
            .success()
            .unwrap();
    }
    eventually("the cell is given back", || async {
        let cells = platform
            .kubectl(&["get", "cells", "-o", "name"])
            .await?
            .success()?;
        ensure!(!cells.contains(ORDERED), "{cells}");
        Ok(())
    })
    .await
    .unwrap();
    nothing_is_left(&platform, ORDERED).await;
    let as_before = json!({"maxCells": null, "order": {"mode": null, "idleSeconds": null},
        "overcommitPercent": {"cpu": 1000, "memory": 400, "pods": 200, "volumes": 200, "datastore": 200}});
    set_pool(&platform, as_before).await;
}
