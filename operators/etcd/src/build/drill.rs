//! The pod of a drill: it makes data from a snapshot on a volume of its own, starts an etcd from them, and compares.
//!
//! Nothing outside of the pod reaches its etcd, and no selector of the cluster's members finds it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, Pod, PodSpec, ResourceRequirements, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use skep_core::labels;
use skep_snapshots::Manifest;

use super::pod::{DATA, mount, resources, restricted, unprivileged};
use super::restoring::build_job;
use super::{CLIENT_PORT, PEER_PORT};
use crate::drill::Expected;
use crate::restore::{Job, Member};
use crate::validate::Cluster;

/// The value of the label that says what a pod of a drill is.
pub const NAME: &str = "etcd-drill";
/// The name of the container that compares.
pub const COMPARE: &str = "compare";
/// The environment variable with what is expected, in JSON.
pub const EXPECTED: &str = "SKEP_DRILL";

/// The longest that a drill may take, in seconds; its etcd ends then, whatever became of the drill.
const LONGEST: i64 = 3600;

/// What selects the pods of all drills.
pub fn selector_of_all() -> String {
    format!("{}={NAME}", labels::APP_NAME)
}

/// Builds the pod of the drill `name`; nothing without a store and the operators' image.
pub fn build_drill(cluster: &Cluster, name: &str, owner: OwnerReference, manifest: &Manifest) -> Option<Pod> {
    let policy = cluster.snapshots.as_ref()?;
    let image = cluster.operator_image.as_ref()?;
    let job = Job {
        store: policy.store.clone(),
        owner: manifest.owner.to_string(),
        snapshot: manifest.about.id().to_string(),
        keeps_revisions: true,
        member: Member {
            name: NAME.to_owned(),
            peer_url: url(PEER_PORT),
            token: owner.uid.clone(),
        },
    };
    let (restore, mut volumes) = build_job(cluster, policy, image, &job);
    volumes.push(Volume {
        name: "data".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(cluster.volume_size.to_string())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    });
    Some(Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(pod_labels(cluster)),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            init_containers: Some(vec![restore]),
            containers: vec![etcd(cluster, &job), compare(image, &Expected::of(manifest))],
            volumes: Some(volumes),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(LONGEST),
            termination_grace_period_seconds: Some(1),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(unprivileged()),
            ..PodSpec::default()
        }),
        ..Pod::default()
    })
}

fn pod_labels(cluster: &Cluster) -> BTreeMap<String, String> {
    BTreeMap::from([
        (labels::APP_NAME.to_owned(), NAME.to_owned()),
        (labels::APP_INSTANCE.to_owned(), cluster.name.clone()),
        (labels::APP_PART_OF.to_owned(), "skep".to_owned()),
    ])
}

fn url(port: i32) -> String {
    format!("http://127.0.0.1:{port}")
}

fn etcd(cluster: &Cluster, job: &Job) -> Container {
    let (clients, peers) = (url(CLIENT_PORT), url(PEER_PORT));
    Container {
        name: super::pod::CONTAINER.to_owned(),
        image: Some(cluster.release.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["etcd".to_owned()]),
        args: Some(vec![
            format!("--name={}", job.member.name),
            format!("--data-dir={DATA}/data"),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster={}={peers}", job.member.name),
            format!("--initial-cluster-token={}", job.member.token),
            format!("--quota-backend-bytes={}", cluster.quota_bytes),
            "--log-level=warn".to_owned(),
        ]),
        resources: Some(resources(cluster)),
        volume_mounts: Some(vec![mount("data", DATA, false)]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

fn compare(image: &str, expected: &Expected) -> Container {
    let quantity = |name: &str, text: &str| (name.to_owned(), Quantity(text.to_owned()));
    Container {
        name: COMPARE.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["drill-member".to_owned()]),
        env: Some(vec![EnvVar {
            name: EXPECTED.to_owned(),
            value: serde_json::to_string(expected).ok(),
            ..EnvVar::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                quantity("cpu", "10m"),
                quantity("memory", "16Mi"),
            ])),
            limits: Some(BTreeMap::from([quantity("memory", "128Mi")])),
            ..ResourceRequirements::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(restricted()),
        ..Container::default()
    }
}
