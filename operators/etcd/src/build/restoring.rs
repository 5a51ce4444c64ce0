//! What makes the first member's data from a snapshot, before its etcd starts.
//!
//! The container is of the operators' own image, which holds `etcdutl`; it does nothing where data are there.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, HostPathVolumeSource, SecretKeySelector, SecretVolumeSource, Volume,
};

use super::peer_url;
use super::pod::{DATA, mount, resources, restricted};
use crate::restore::{Job, Member};
use crate::snapshots::{ACCESS_KEY, KEYS, Policy, SECRET_KEY};
use crate::validate::Cluster;

/// The name of the container.
pub const CONTAINER: &str = "restore";
/// The environment variable with the job, in JSON.
pub const JOB: &str = "SKEP_RESTORE";
/// The environment variables of whom the store knows.
pub const CREDENTIALS: [(&str, &str); 2] = [
    ("SKEP_STORE_ACCESS_KEY", ACCESS_KEY),
    ("SKEP_STORE_SECRET_KEY", SECRET_KEY),
];
/// Where the keys are mounted.
pub const KEYS_DIRECTORY: &str = "/etc/skep/snapshot-keys";

const KEYS_VOLUME: &str = "snapshot-keys";
const STORE_VOLUME: &str = "snapshot-store";

/// The container that makes the data of the first member `name`, and the volumes that it needs beside the data; none
/// where nothing is restored.
pub fn build_restoring(cluster: &Cluster, name: &str) -> Option<(Container, Vec<Volume>)> {
    let source = cluster.forming_from.clone()?;
    let (owner, snapshot) = source.owner.zip(source.snapshot)?;
    let policy = cluster.snapshots.as_ref()?;
    let image = cluster.operator_image.as_ref()?;
    let job = Job {
        store: policy.store.clone(),
        owner,
        snapshot,
        keeps_revisions: false,
        member: Member {
            name: name.to_owned(),
            peer_url: peer_url(cluster, name),
            token: cluster.token(),
        },
    };
    Some(build_job(cluster, policy, image, &job))
}

/// The container that does a job on the volume `data`, and the volumes that it needs beside that.
pub(super) fn build_job(
    cluster: &Cluster,
    policy: &Policy,
    image: &str,
    job: &Job,
) -> (Container, Vec<Volume>) {
    let mut environment = vec![EnvVar {
        name: JOB.to_owned(),
        value: serde_json::to_string(job).ok(),
        ..EnvVar::default()
    }];
    environment.extend(credentials(policy));
    let mut mounts = vec![
        mount("data", DATA, false),
        mount(KEYS_VOLUME, KEYS_DIRECTORY, true),
    ];
    let mut volumes = vec![Volume {
        name: KEYS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(policy.keys_secret.clone()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }];
    if let Some(directory) = &policy.store.directory {
        mounts.push(mount(STORE_VOLUME, directory, true));
        volumes.push(Volume {
            name: STORE_VOLUME.to_owned(),
            host_path: Some(HostPathVolumeSource {
                path: directory.clone(),
                type_: Some("Directory".to_owned()),
            }),
            ..Volume::default()
        });
    }
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["restore-member".to_owned()]),
        env: Some(environment),
        resources: Some(resources(cluster)),
        volume_mounts: Some(mounts),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(restricted()),
        ..Container::default()
    };
    (container, volumes)
}

fn credentials(policy: &Policy) -> Vec<EnvVar> {
    let secret = policy
        .store
        .s3
        .as_ref()
        .and_then(|s3| s3.credentials_secret.clone());
    let Some(secret) = secret else {
        return Vec::new();
    };
    let variable = |(name, key): (&str, &str)| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.clone(),
                key: key.to_owned(),
                optional: Some(false),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    CREDENTIALS.map(variable).to_vec()
}

/// The file that holds the keys.
pub fn keys_file() -> std::path::PathBuf {
    std::path::Path::new(KEYS_DIRECTORY).join(KEYS)
}
