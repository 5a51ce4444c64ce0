//! What must not get into a tenant, or out of it, by way of its nodes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use anyhow::ensure;
use serde_json::{Value, json};
use skep_e2e::platform::{eventually, run};
use skep_e2e::{Namespace, Output, Platform, Tenant};
use tokio::process::Command;

async fn demo() -> (Platform, Tenant) {
    let platform = Platform::connect().unwrap();
    let tenant = Tenant::of(&platform, "demo").await.unwrap();
    (platform, tenant)
}

/// Makes a bootstrap token in a tenant, as `kubeadm token create` does.
async fn make_token(tenant: &Tenant, id: &str, expiration: &str) -> String {
    let secret = "0123456789abcdef";
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "stringData": {
            "token-id": id, "token-secret": secret, "expiration": expiration,
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    });
    let apply = ["apply", "--server-side", "-f", "-"];
    let applied = tenant.kubectl_with(&apply, &object.to_string()).await.unwrap();
    applied.success().unwrap();
    format!("{id}.{secret}")
}

async fn delete_token(tenant: &Tenant, id: &str) {
    let name = format!("bootstrap-token-{id}");
    let delete = [
        "-n",
        "kube-system",
        "delete",
        "secret",
        &name,
        "--ignore-not-found",
    ];
    tenant.kubectl(&delete).await.unwrap().success().unwrap();
}

const READ: [&str; 5] = ["-n", "kube-system", "get", "configmap", "kubeadm-config"];

#[tokio::test]
async fn a_token_that_lets_nobody_in_is_told_before_a_machine_is_made() {
    let (platform, tenant) = demo().await;
    // Other tests make machines for other tenants meanwhile.
    let instance = std::env::var("SKEP_INSTANCE").unwrap();
    let own = format!("{instance}-{}-", platform.cpid("demo").await.unwrap());
    let machines = || {
        let machines = std::fs::read_dir(platform.home.join("machines")).unwrap();
        let names = machines.map(|machine| machine.unwrap().file_name());
        names
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with(&own)))
            .count()
    };
    let before = machines();
    assert_ne!(before, 0, "demo has machines");
    let add = async |token: &str| {
        let output = platform
            .skep(&["node", "add", "demo", "--token", token])
            .await
            .unwrap();
        (output.status, output.stderr)
    };
    for malformed in [
        "nonsense",
        "abcdef.0123",
        "ABCDEF.0123456789abcdef",
        "abcdef:0123456789abcdef",
    ] {
        let (status, said) = add(malformed).await;
        assert!(
            status == 2 && said.contains("bootstrap token"),
            "{malformed}: {status} {said}"
        );
    }
    // Used up, or of another cluster: both are tokens that this one does not know.
    let (status, said) = add("zzzzzz.0123456789abcdef").await;
    assert!(
        status == 5 && said.contains("none of cluster demo"),
        "{status} {said}"
    );
    let refused = tenant.with_token("zzzzzz.0123456789abcdef", &READ).await.unwrap();
    assert!(
        refused.stderr.contains("Unauthorized") || refused.stderr.contains("must be logged in"),
        "{refused:?}"
    );

    let expired = make_token(&tenant, "exp1re", "2020-01-01T00:00:00Z").await;
    let (status, said) = add(&expired).await;
    assert!(status == 5 && said.contains("expired"), "{status} {said}");
    let refused = tenant.with_token(&expired, &READ).await.unwrap();
    assert_ne!(refused.status, 0, "{refused:?}");
    delete_token(&tenant, "exp1re").await;

    let good = make_token(&tenant, "g00dgo", "2099-01-01T00:00:00Z").await;
    eventually("a good token reads what a join reads", || async {
        tenant.with_token(&good, &READ).await?.success()
    })
    .await
    .unwrap();
    let wrong_secret = "g00dgo.fedcba9876543210";
    let (status, said) = add(wrong_secret).await;
    assert!(
        status == 5 && said.contains("none of cluster demo"),
        "{status} {said}"
    );
    delete_token(&tenant, "g00dgo").await;
    assert_eq!(machines(), before, "no machine was made");
}

#[tokio::test]
async fn a_node_whose_name_is_taken_is_refused() {
    let (platform, tenant) = demo().await;
    let token = make_token(&tenant, "nametk", "2099-01-01T00:00:00Z").await;
    let cpid = platform.cpid("demo").await.unwrap();
    let instance = std::env::var("SKEP_INSTANCE").unwrap();
    let machine = format!("{instance}-{cpid}-1");
    let hosts = platform.home.join("machines").join(&machine).join("hosts");
    let host = std::fs::read_to_string(&hosts).unwrap();
    let host = host
        .split_whitespace()
        .find(|word| word.starts_with("node."))
        .unwrap()
        .to_owned();
    // Everything that kubeadm would write on a machine is on file systems that end with the command.
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs none /etc/kubernetes && mount -t tmpfs none /var/lib/kubelet && \
         mount --bind {} /etc/hosts && exec kubeadm join {host}:443 --token {token} --node-name demo-1 \
         --discovery-token-unsafe-skip-ca-verification --ignore-preflight-errors=all",
        hosts.display()
    );
    let bin = std::env::var("SKEP_TEST_BIN").expect("e2e/run sets SKEP_TEST_BIN");
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let mut join = Command::new("nsenter");
    join.arg(format!("--net=/run/netns/{machine}"))
        .args(["unshare", "--mount", "/bin/sh", "-c", &script])
        .env("PATH", path);
    let output = run(&mut join, None).await.unwrap();
    delete_token(&tenant, "nametk").await;
    assert_ne!(output.status, 0);
    assert!(
        output.stderr.contains("already exists in the cluster"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_node_of_a_foreign_version_is_refused() {
    let (_, tenant) = demo().await;
    let create = async |version: &str| {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "version-guard"},
            "status": {"nodeInfo": {
                "kubeletVersion": version, "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "linux",
                "osImage": "", "systemUUID": "",
            }},
        });
        tenant
            .kubectl_with(&["create", "-f", "-"], &node.to_string())
            .await
            .unwrap()
    };
    for version in ["v1.38.0", "v1.32.9", "v2.36.0", "v1.36"] {
        let refused = create(version).await;
        assert!(
            refused.status != 0
                && refused.stderr.contains("kubeletVersion")
                && refused.stderr.contains("between 1.33 and 1.36"),
            "{version}: {refused:?}"
        );
    }
    create("v1.33.0").await.success().unwrap();
    let delete = tenant
        .kubectl(&["delete", "node", "version-guard"])
        .await
        .unwrap();
    delete.success().unwrap();
}

/// A signing request as node `demo-1`, for this signer.
async fn request(
    tenant: &Tenant,
    name: &str,
    signer: &str,
    usage: &str,
    common_name: &str,
    sans: &[&str],
) -> Output {
    let key = rcgen::KeyPair::generate().unwrap();
    let sans: Vec<String> = sans.iter().map(|san| (*san).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(sans).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    let text = params.serialize_request(&key).unwrap().pem().unwrap();
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": data_encoding::BASE64.encode(text.as_bytes()),
            "signerName": signer, "usages": ["digital signature", usage],
        },
    });
    let as_node = [
        "--as",
        "system:node:demo-1",
        "--as-group",
        "system:nodes",
        "--as-group",
        "system:authenticated",
    ];
    let create = [&as_node[..], &["create", "-f", "-"]].concat();
    tenant.kubectl_with(&create, &object.to_string()).await.unwrap()
}

async fn conditions(tenant: &Tenant, name: &str) -> anyhow::Result<Vec<Value>> {
    let found = tenant
        .kubectl(&["get", "csr", name, "-o", "json"])
        .await?
        .json()?;
    Ok(found["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default())
}

#[tokio::test]
async fn a_node_gets_no_certificate_but_its_own() {
    const SERVING: &str = "kubernetes.io/kubelet-serving";
    const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    let (_, tenant) = demo().await;
    let suffix = format!("{:08x}", rand::random::<u32>());
    let name = |what: &str| format!("{what}-{suffix}");
    let own = "system:node:demo-1";
    for (what, sans) in [
        ("foreign-address", &["demo-1", "203.0.113.7"][..]),
        ("foreign-host", &["kubernetes.default.svc"]),
    ] {
        let asked = request(&tenant, &name(what), SERVING, "server auth", own, sans).await;
        asked.success().unwrap();
    }
    // For another node's name it may not even ask.
    for (signer, usage, sans) in [
        (SERVING, "server auth", &["demo-2"][..]),
        (CLIENT, "client auth", &[]),
    ] {
        let other = "system:node:demo-2";
        let refused = request(&tenant, &name("other"), signer, usage, other, sans).await;
        assert!(
            refused.status != 0
                && refused
                    .stderr
                    .contains("can only create a node CSR with CN=system:node:demo-1"),
            "{refused:?}"
        );
    }
    for (what, why) in [
        ("foreign-address", "203.0.113.7"),
        ("foreign-host", "kubernetes.default.svc"),
    ] {
        eventually(&format!("{what} is denied"), || async {
            let known = conditions(&tenant, &name(what)).await?;
            let denied = known.iter().find(|known| known["type"] == "Denied");
            ensure!(
                denied.is_some_and(|denied| denied["message"].as_str().unwrap().contains(why)),
                "{known:?}"
            );
            Ok(())
        })
        .await
        .unwrap();
    }
    let asked = request(&tenant, &name("own-client"), CLIENT, "client auth", own, &[]).await;
    asked.success().unwrap();
    let asked = request(&tenant, &name("own"), SERVING, "server auth", own, &["demo-1"]).await;
    asked.success().unwrap();
    for what in ["own-client", "own"] {
        eventually(&format!("{what} is approved"), || async {
            let known = conditions(&tenant, &name(what)).await?;
            ensure!(known.iter().any(|known| known["type"] == "Approved"), "{known:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
    for what in ["foreign-address", "foreign-host", "own-client", "own"] {
        tenant
            .kubectl(&["delete", "csr", &name(what)])
            .await
            .unwrap()
            .success()
            .unwrap();
    }
}

#[tokio::test]
async fn a_webhook_by_url_reaches_nothing_of_the_cell() {
    let (platform, tenant) = demo().await;
    let space = Namespace::create(&tenant, "urls").await.unwrap();
    let get = ["get", "cell", "local", "-o", "jsonpath={.spec.gateway.address}"];
    let gateway = platform.kubectl(&get).await.unwrap().success().unwrap();
    let front = gateway.split(':').next().unwrap().to_owned();
    let get = [
        "-n",
        "default",
        "get",
        "service",
        "kubernetes",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ];
    let service = platform.kubectl(&get).await.unwrap().success().unwrap();
    let get = [
        "get",
        "nodes",
        "-o",
        "jsonpath={.items[0].status.addresses[0].address}",
    ];
    let node = platform.kubectl(&get).await.unwrap().success().unwrap();
    let urls = [
        format!("https://{front}:6443/"),
        format!("https://{service}:443/"),
        format!("https://{node}:10250/"),
        "https://169.254.169.254/".to_owned(),
        "https://127.0.0.1:6443/".to_owned(),
    ];
    for (index, url) in urls.iter().enumerate() {
        let name = format!("{}-{index}", space.name);
        let hook = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "url.skep.dev", "clientConfig": {"url": url}, "failurePolicy": "Fail", "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            }],
        });
        tenant
            .kubectl_with(&["create", "-f", "-"], &hook.to_string())
            .await
            .unwrap()
            .success()
            .unwrap();
        // An apiserver takes a moment to learn of a webhook.
        let said = eventually("the webhook is called", || async {
            let created = space.kubectl(&["create", "configmap", "never"]).await?;
            if created.status == 0 {
                space
                    .kubectl(&["delete", "configmap", "never"])
                    .await?
                    .success()?;
            }
            ensure!(created.status != 0, "it was created");
            Ok(created.stderr)
        })
        .await
        .unwrap();
        tenant
            .kubectl(&["delete", "validatingwebhookconfiguration", &name])
            .await
            .unwrap()
            .success()
            .unwrap();
        assert!(said.contains("failed calling webhook"), "{url}: {said}");
        // Whoever was reached would have shown a certificate.
        assert!(!said.contains("x509") && !said.contains("tls:"), "{url}: {said}");
    }
}
