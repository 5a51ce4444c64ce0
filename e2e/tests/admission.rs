//! The kinds' own rules, at the hub's API server: refused with the field, before any controller sees it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

use skep_e2e::Platform;
use skep_e2e::platform::run;

async fn apply(manifest: &str) -> skep_e2e::Output {
    let platform = Platform::connect().unwrap();
    let mut command = tokio::process::Command::new("kubectl");
    command
        .arg("--kubeconfig")
        .arg(platform.home.join("hub.kubeconfig"));
    command.args(["apply", "--server-side", "--dry-run=server", "-f", "-"]);
    run(&mut command, Some(manifest)).await.unwrap()
}

fn tenant(spec: &str) -> String {
    format!(
        "apiVersion: skep.dev/v1alpha1\nkind: TenantCluster\nmetadata: {{name: probe, namespace: project-default}}\nspec: {spec}\n"
    )
}

fn etcd(spec: &str) -> String {
    let rest = "image: i, storageClass: local, resources: {cpu: 1m, memory: 1Mi, memoryLimit: 1Mi}";
    format!(
        "apiVersion: skep.dev/v1alpha1\nkind: EtcdCluster\nmetadata: {{name: probe, namespace: project-default}}\nspec: {{{rest}, {spec}}}\n"
    )
}

#[tokio::test]
async fn a_tenant_cluster_with_nothing_but_a_name_is_taken() {
    apply(&tenant("{}")).await.success().unwrap();
}

#[tokio::test]
async fn what_no_controller_could_use_is_refused_with_its_field() {
    let sized = |members: &str, quota: &str, size: &str| {
        etcd(&format!(
            "version: 3.7.3, members: {members}, quotaBytes: {quota}, volumeSize: {size}"
        ))
    };
    let backed_up = |store: &str| {
        etcd(&format!(
            "version: 3.7.3, members: 3, quotaBytes: 536870912, volumeSize: 2Gi, snapshots: {{keysSecret: k, store: {store}}}"
        ))
    };
    let restored = "restore: {name: r, owner: u, snapshot: s}, version: 3.7.3, members: 3, quotaBytes: 536870912, volumeSize: 2Gi";
    let cases = [
        (backed_up("{}"), "spec.snapshots.store"),
        (
            backed_up("{directory: relative}"),
            "spec.snapshots.store.directory",
        ),
        (
            backed_up("{directory: /a, s3: {bucket: snapshots}}"),
            "spec.snapshots.store",
        ),
        (backed_up("{s3: {bucket: a}}"), "spec.snapshots.store.s3.bucket"),
        (etcd(restored), "spec.restore"),
        (tenant("{version: latest}"), "spec.version"),
        (tenant("{class: gigantic}"), "spec.class"),
        (tenant("{availability: Never}"), "spec.availability"),
        (tenant("{profile: Not_A_Name}"), "spec.profile"),
        (
            tenant("{network: {pods: 300.0.0.0/8, services: 198.19.128.0/20}}"),
            "spec.network.pods",
        ),
        (
            tenant("{network: {pods: 198.19.0.1/17, services: 198.19.128.0/20}}"),
            "spec.network.pods",
        ),
        (
            tenant("{network: {pods: 198.19.0.0/17, services: 198.19.64.0/20}}"),
            "spec.network",
        ),
        (tenant("{}").replace("probe", &"x".repeat(41)), "metadata.name"),
        (sized("0", "536870912", "1Gi"), "spec.members"),
        (sized("2", "536870912", "1Gi"), "spec.members"),
        (sized("-1", "536870912", "1Gi"), "spec.members"),
        (sized("3", "1048576", "1Gi"), "spec.quotaBytes"),
        (sized("3", "536870912", "plenty"), "spec.volumeSize"),
    ];
    for (manifest, field) in cases {
        let output = apply(&manifest).await;
        assert_ne!(output.status, 0, "taken: {manifest}");
        assert!(
            output.stderr.contains(field),
            "{field} is not named: {}",
            output.stderr
        );
    }
}

#[tokio::test]
async fn what_was_fixed_at_birth_cannot_be_changed() {
    let platform = Platform::connect().unwrap();
    let cases = [
        ("availability", r#"{"spec":{"availability":"Single"}}"#),
        ("profile", r#"{"spec":{"profile":"other"}}"#),
        (
            "network",
            r#"{"spec":{"network":{"pods":"198.19.0.0/17","services":"198.19.128.0/20"}}}"#,
        ),
    ];
    for (field, patch) in cases {
        let arguments = [
            "-n",
            "project-default",
            "patch",
            "tenantcluster",
            "demo",
            "--type=merge",
            "-p",
            patch,
        ];
        let output = platform.kubectl(&arguments).await.unwrap();
        assert_ne!(output.status, 0, "{field} was changed");
        assert!(
            output.stderr.contains(&format!("{field} is immutable")),
            "{}",
            output.stderr
        );
    }
}

#[tokio::test]
async fn a_version_of_etcd_that_skips_a_minor_one_is_refused() {
    let platform = Platform::connect().unwrap();
    let namespace = format!("cp-{}", platform.cpid("demo").await.unwrap());
    let patch = |version: &str| {
        let spec = serde_json::json!({"spec": {"version": version}}).to_string();
        let arguments = [
            "-n",
            &namespace,
            "patch",
            "etcdcluster",
            "etcd",
            "--type=merge",
            "--dry-run=server",
            "-p",
        ];
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).chain([spec]).collect();
        let platform = &platform;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            platform.kubectl(&arguments).await.unwrap()
        }
    };
    patch("3.7.4").await.success().unwrap();
    patch("3.8.0").await.success().unwrap();
    for skipped in ["3.9.0", "4.0.0"] {
        let output = patch(skipped).await;
        assert_ne!(output.status, 0, "{skipped} was taken");
        assert!(
            output.stderr.contains("one minor version at a time"),
            "{}",
            output.stderr
        );
    }
}
