//! What makes the data of the member that is left of a lost quorum, before its etcd starts.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, Volume};

use super::peer_url;
use super::pod::{DATA, mount, resources, restricted};
use crate::recover::{Job, opened};
use crate::restore::Member;
use crate::validate::Cluster;

/// The environment variable with the job, in JSON.
pub const JOB: &str = "SKEP_RECOVER";
/// Where the database is written meanwhile.
pub const SCRATCH: &str = "/var/lib/skep-recover";

/// The ports of the etcd that opens the data, on the pod's own loopback; the member's own etcd has others.
const CLIENT_PORT: u16 = 23_790;
const PEER_PORT: u16 = 23_800;
const SCRATCH_VOLUME: &str = "recover-scratch";

/// The containers in their order, and the volume that they need beside the data; none where nothing is recovered.
pub fn build_recovering(cluster: &Cluster, name: &str) -> Option<(Vec<Container>, Volume)> {
    let source = cluster
        .forming_from
        .as_ref()
        .filter(|source| source.member.is_some())?;
    let image = cluster.operator_image.as_ref()?;
    let job = Job {
        name: source.name.clone(),
        member: Member {
            name: name.to_owned(),
            peer_url: peer_url(cluster, name),
            token: cluster.token(),
        },
        port: CLIENT_PORT,
    };
    let volume = Volume {
        name: SCRATCH_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let prepare = step(
        cluster,
        image,
        &job,
        "prepare-recovery",
        &["recover-member", "--prepare"],
    );
    let recover = step(cluster, image, &job, "recover", &["recover-member"]);
    Some((vec![prepare, opening(cluster, name, &job.name), recover], volume))
}

fn step(cluster: &Cluster, image: &str, job: &Job, name: &str, arguments: &[&str]) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(arguments.iter().map(|&argument| argument.to_owned()).collect()),
        env: Some(vec![EnvVar {
            name: JOB.to_owned(),
            value: serde_json::to_string(job).ok(),
            ..EnvVar::default()
        }]),
        resources: Some(resources(cluster)),
        volume_mounts: Some(vec![
            mount("data", DATA, false),
            mount(SCRATCH_VOLUME, SCRATCH, false),
        ]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

/// An etcd that goes on beside the next steps: it applies what the log holds, whatever members the data speak of.
fn opening(cluster: &Cluster, name: &str, recovery: &str) -> Container {
    let (clients, peers) = (
        format!("http://127.0.0.1:{CLIENT_PORT}"),
        format!("http://127.0.0.1:{PEER_PORT}"),
    );
    Container {
        name: "open-data".to_owned(),
        restart_policy: Some("Always".to_owned()),
        image: Some(cluster.release.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["etcd".to_owned()]),
        args: Some(vec![
            format!("--name={name}"),
            format!("--data-dir={DATA}/{}", opened(recovery)),
            "--force-new-cluster".to_owned(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster={name}={peers}"),
            format!("--quota-backend-bytes={}", cluster.quota_bytes),
            "--log-level=warn".to_owned(),
        ]),
        resources: Some(resources(cluster)),
        volume_mounts: Some(vec![mount("data", DATA, false)]),
        security_context: Some(restricted()),
        ..Container::default()
    }
}
