//! A second tenant with a node of its own: apart from the first, cut off for five minutes, deleted with the node in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use skep_e2e::platform::{eventually, run};
use skep_e2e::{Namespace, Platform, Tenant};
use tokio::process::Command;

const NAME: &str = "apart";
/// As long as an outage must be survived.
const CUT: Duration = Duration::from_mins(5);

/// Rules for the router of a tenant's network.
async fn nft(router: &str, rules: &str) {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{router}"))
        .args(["nft", "-f", "-"]);
    run(&mut command, Some(rules)).await.unwrap().success().unwrap();
}

/// Long, because a node is cut off for five minutes.
#[tokio::test]
async fn a_tenant_apart_survives_an_outage_of_its_node_and_goes_with_it() {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::create(&platform, NAME, &["--availability", "Single"])
        .await
        .unwrap();
    platform
        .skep(&["node", "add", NAME])
        .await
        .unwrap()
        .success()
        .unwrap();
    let cpid = platform.cpid(NAME).await.unwrap();
    let instance = std::env::var("SKEP_INSTANCE").unwrap();
    let (router, node) = (format!("{instance}-{cpid}"), format!("{NAME}-1"));

    names_and_tokens_of_others_mean_nothing(&platform, &tenant).await;

    let space = Namespace::create(&tenant, "outage").await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stays"},
        "spec": {
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "localhost/busybox:1", "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-c", "echo begun; sleep 36000"]}],
        },
    });
    space.apply(&pod.to_string()).await.unwrap();
    let wait = ["wait", "--for=condition=Ready", "pod/stays", "--timeout=120s"];
    space.kubectl(&wait).await.unwrap().success().unwrap();
    let cut_off =
        "table ip cut {\n chain forward {\n type filter hook forward priority -10; policy drop;\n }\n}\n";
    nft(&router, cut_off).await;
    let cut = tokio::time::Instant::now();
    ready_is(&tenant, &node, "Unknown").await;
    tokio::time::sleep_until(cut + CUT).await;
    nft(&router, "delete table ip cut").await;
    ready_is(&tenant, &node, "True").await;
    eventually("logs come again", || async {
        space.kubectl(&["logs", "stays"]).await?.success()
    })
    .await
    .unwrap();
    let path = "jsonpath={.status.containerStatuses[0].restartCount}";
    let restarts = space.kubectl(&["get", "pod", "stays", "-o", path]).await.unwrap();
    assert_eq!(
        restarts.success().unwrap(),
        "0",
        "the pod went on while its node was away"
    );

    drop(space);
    platform
        .skep(&["cluster", "delete", NAME, "--wait", "--timeout", "10m"])
        .await
        .unwrap()
        .success()
        .unwrap();
    eventually("no network or machine of the tenant is left", || async {
        let names = |dir: std::path::PathBuf| -> anyhow::Result<Vec<String>> {
            let all = std::fs::read_dir(dir)?.flatten();
            Ok(all
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| name.contains(&cpid))
                .collect())
        };
        let left = [
            names("/run/netns".into())?,
            names(platform.home.join("machines"))?,
        ]
        .concat();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn ready_is(tenant: &Tenant, node: &str, status: &str) {
    eventually(&format!("node {node} has Ready={status}"), || async {
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let found = tenant
            .kubectl(&["get", "node", node, "-o", path])
            .await?
            .success()?;
        ensure!(found == status, "it has {found}");
        Ok(())
    })
    .await
    .unwrap();
}

/// A name that another tenant's node has is free here; a token of another tenant opens nothing.
async fn names_and_tokens_of_others_mean_nothing(platform: &Platform, tenant: &Tenant) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "demo-1"}}).to_string();
    let create = tenant.kubectl_with(&["create", "-f", "-"], &node).await;
    create.unwrap().success().unwrap();
    tenant
        .kubectl(&["delete", "node", "demo-1"])
        .await
        .unwrap()
        .success()
        .unwrap();

    let demo = Tenant::of(platform, "demo").await.unwrap();
    let token = ["create", "token", "default", "-n", "default"];
    let token = demo.kubectl(&token).await.unwrap().success().unwrap();
    let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
    let known = demo.with_token(token.trim(), &whoami).await.unwrap();
    assert_eq!(known.success().unwrap(), "system:serviceaccount:default:default");
    let foreign = tenant.with_token(token.trim(), &whoami).await.unwrap();
    assert!(
        foreign.status != 0 && foreign.stderr.contains("Unauthorized"),
        "{foreign:?}"
    );
}
