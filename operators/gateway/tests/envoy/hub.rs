//! The whole gateway of a hub's own cell: a real API server with the shipped rights, the controller, and an Envoy.

use std::net::SocketAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::DeleteParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use skep_api::{ControlPlane, DeploymentRecord};
use skep_gateway::{Settings, certificates};
use skep_runtime::CancellationToken;
use skep_testing::{Cluster, Options, until};
use tokio::task::JoinHandle;

use crate::far::{assert_reached, front};
use crate::fixture::Gateway;
use crate::process::{Envoy, free_address};
use crate::tenants::{Tenant, connect, eventually};

const TOKEN: &str = "token-of-the-gateway";
const RIGHTS: &str = include_str!("../../../../manifests/rbac/gateway.yaml");

struct Controller {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Controller {
    fn start(client: Client, listen: SocketAddr) -> Self {
        let settings = Settings {
            listen,
            ..Settings::new("hub".parse().unwrap())
        };
        let shutdown = CancellationToken::new();
        let running = skep_gateway::run(client, settings, shutdown.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });
        Self { shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn cell(name: &str, address: &str) -> Value {
    let network = json!({"nodes": "10.9.0.0/24", "pods": "10.10.0.0/16", "services": "10.11.0.0/16"});
    json!({
        "apiVersion": "skep.dev/v1alpha1", "kind": "Cell", "metadata": {"name": name},
        "spec": {
            "region": "local", "domain": "skep.internal", "zones": ["a"], "network": network,
            "gateway": {"address": address},
        },
    })
}

fn control_plane() -> Value {
    let resources = json!({"cpu": "1", "memory": "1Gi", "memoryLimit": "1Gi"});
    let component = json!({"image": "i", "replicas": 1, "resources": resources});
    json!({
        "tenant": {"project": "p", "name": "n", "uid": "u"}, "version": "1.36.3", "profile": "p",
        "class": "small", "region": "local", "domain": "skep.internal", "availability": "Single",
        "network": {"pods": "198.19.0.0/17", "services": "198.19.128.0/20"},
        "etcd": {
            "version": "3.7.3", "image": "i", "members": 3, "volumeSize": "1Gi", "storageClass": "local",
            "quotaBytes": 67_108_864, "resources": resources,
        },
        "apiServer": component, "controllerManager": component, "scheduler": component,
    })
}

fn record(namespace: &str, cpid: &str) -> Value {
    json!({
        "apiVersion": "skep.dev/v1alpha1", "kind": "DeploymentRecord",
        "metadata": {"name": cpid, "namespace": namespace},
        "spec": {
            "tenant": control_plane()["tenant"], "cpid": cpid, "revision": "0123456789abcdef",
            "controlPlane": control_plane(),
        },
    })
}

/// A hub with the controller's role bound to the user `gateway`.
async fn hub() -> Cluster {
    let options = Options {
        users: vec![(TOKEN, "gateway")],
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await;
    for name in ["skep-system", "skep-cell-hub", "skep-cell-eu-1"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.apply(namespace).await;
    }
    cluster.apply_manifest(RIGHTS).await;
    let group = "rbac.authorization.k8s.io";
    let subjects = json!([{"kind": "User", "name": "gateway", "apiGroup": group}]);
    for (kind, of, namespace) in [
        ("ClusterRoleBinding", "ClusterRole", None),
        ("RoleBinding", "Role", Some("skep-system")),
    ] {
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": kind,
            "metadata": {"name": "gateway-of-this-test", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": of, "name": "skep:gateway"}, "subjects": subjects,
        });
        cluster.apply(binding).await;
    }
    cluster
}

async fn start_envoy(directory: &Path, client: Client, xds: SocketAddr) -> Envoy {
    let secrets: Api<Secret> = Api::namespaced(client, "skep-system");
    let files = until("the Envoys have a certificate", || async {
        secrets.get(certificates::CLIENT).await.ok()?.data
    })
    .await;
    let mounted = directory.join("tls");
    std::fs::create_dir(&mounted).unwrap();
    for (name, content) in files {
        std::fs::write(mounted.join(name), content.0).unwrap();
    }
    let envoy = Envoy::start(directory, &mounted, xds);
    eventually("Envoy is ready", async || envoy.admin("/ready").await.is_some()).await;
    envoy
}

async fn route_ready(planes: &Api<ControlPlane>, cpid: &str) -> Option<String> {
    let status = planes.get(cpid).await.ok()?.status?;
    let condition = status
        .conditions
        .into_iter()
        .find(|known| known.type_ == "RouteReady")?;
    Some(condition.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_routes_to_tenants_of_other_cells_by_their_records() {
    let cluster = hub().await;
    let is_local = |definition: &CustomResourceDefinition| definition.spec.names.plural == "controlplanes";
    for definition in skep_api::definitions().into_iter().filter(is_local) {
        cluster.apply(serde_json::to_value(definition).unwrap()).await;
    }
    let xds = free_address();
    let early = Controller::start(cluster.client(TOKEN), xds);
    let directory = tempfile::tempdir().unwrap();
    let envoy = start_envoy(directory.path(), cluster.admin.clone(), xds).await;
    let there = Gateway::start().await;
    let far = Tenant::start("cbbbbbbbbb").await;
    there.publish(&[&far]);
    let host = &far.hosts()[0];
    // Where the cluster knows neither kind yet, the controller serves all the same.
    eventually("Envoy asks the controller", async || {
        let stats = envoy.admin("/stats?filter=control_plane.connected_state").await;
        stats.is_some_and(|text| text.contains("connected_state: 1"))
    })
    .await;
    early.stop().await;

    cluster.install_definitions().await;
    let controller = Controller::start(cluster.client(TOKEN), xds);
    let address = front("127.0.77.3", &there).await.to_string();
    cluster.apply(cell("hub", "127.0.77.4:443")).await;
    cluster.apply(cell("eu-1", &address)).await;
    cluster.apply(record("skep-cell-eu-1", far.cpid())).await;
    eventually("the record is a route", async || {
        connect(envoy.tenants, host, &far).await.is_ok()
    })
    .await;
    assert_reached(envoy.tenants, envoy.tunnels, &far).await;
    let mut open = connect(envoy.tenants, host, &far).await.unwrap();
    assert_eq!(open.echo("1").await.unwrap(), "cbbbbbbbbb 1");

    // A controller that starts again tells no world without them.
    controller.stop().await;
    let controller = Controller::start(cluster.client(TOKEN), xds);
    let near = json!({
        "apiVersion": "skep.dev/v1alpha1", "kind": "ControlPlane", "metadata": {"name": "caaaaaaaaa"},
        "spec": control_plane(),
    });
    cluster.apply(near).await;
    let planes: Api<ControlPlane> = Api::all(cluster.admin.clone());
    let status = until("the status of the one in this cell", || {
        route_ready(&planes, "caaaaaaaaa")
    })
    .await;
    assert_eq!(status, "False", "it has no apiserver");
    assert_eq!(open.echo("2").await.unwrap(), "cbbbbbbbbb 2");
    assert_reached(envoy.tenants, envoy.tunnels, &far).await;

    let moved = far.move_to_new_address().await;
    cluster.apply(cell("eu-1", &moved.address.to_string())).await;
    eventually("the cell's new address serves", async || {
        let mut next = connect(envoy.tenants, host, &far).await.unwrap();
        next.echo("3").await.unwrap() == "cbbbbbbbbb-moved 3"
    })
    .await;
    // That came from the controller that started again, and it had taken nothing away before.
    for name in ["cluster_removed", "cluster_modified"] {
        let name = format!("cluster_manager.{name}: 0");
        let counts = envoy.admin("/stats?filter=cluster_manager").await.unwrap();
        assert!(counts.contains(&name), "{name}: {counts}");
    }

    let records: Api<DeploymentRecord> = Api::namespaced(cluster.admin.clone(), "skep-cell-eu-1");
    records
        .delete(far.cpid(), &DeleteParams::default())
        .await
        .unwrap();
    eventually("the route goes with the record", async || {
        connect(envoy.tenants, host, &far).await.is_err()
    })
    .await;
    assert_eq!(route_ready(&planes, far.cpid()).await, None);
    controller.stop().await;
}
