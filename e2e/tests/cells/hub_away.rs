//! Minutes without a process of the hub.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use skep_e2e::containers::{kill_container, processes, running};
use skep_e2e::platform::eventually;
use skep_e2e::worker::work;
use skep_e2e::{Platform, Tenant};
use tokio_util::sync::CancellationToken;

use super::{CELL, cordon, placed};

/// How long the hub is away.
const AWAY: Duration = Duration::from_mins(5);
/// A tenant of the hub's own cell that nothing happens to.
pub const CALM: &str = "calm";

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
pub async fn both_cells_go_on(platform: &Platform, second: &Tenant) {
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
