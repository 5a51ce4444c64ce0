//! The pod of one member.
//!
//! What its etcd does with an empty volume stands in annotations that the container reads as its environment
//! each time it starts: once the member has joined they are changed so that it can never form or join again
//! without its data.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, NodeAffinity,
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, Pod, PodAffinityTerm, PodAntiAffinity, PodSchedulingGate,
    PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use sha2::{Digest, Sha256};
use skep_core::labels;

use super::certificates::{CLIENT_CERT, CLIENT_KEY, secret_name};
use super::recovering::build_recovering;
use super::restoring::build_restoring;

use super::{
    CLIENT_PORT, HTTP_PORT, METRICS_PORT, PEER_PORT, claim, lasting_labels, member_host, member_labels,
    peer_service, peer_url,
};
use crate::observed::Start;
use crate::validate::{Cluster, Resources};
use crate::version::{FlagStyle, Release};

/// The name of the only container.
pub const CONTAINER: &str = "etcd";
/// Annotation: `new` or `existing`, read when the container starts.
pub const START_STATE: &str = "skep.dev/etcd-initial-cluster-state";
/// Annotation: `name=peer URL` of members, read when the container starts.
pub const START_MEMBERS: &str = "skep.dev/etcd-initial-cluster";

/// Annotation: whether the data are made anew first, of what is left of a lost quorum.
pub const START_FORCED: &str = "skep.dev/etcd-force-new-cluster";

/// Annotation: of which revision of the spec the pod was made.
pub const REVISION: &str = "skep.dev/etcd-revision";

/// The gate that holds a new pod back until a second look has found it right.
pub const GATE: &str = "skep.dev/etcd";

/// The user and group that everything runs as.
const NOBODY: i64 = 65532;
/// How long a member may take to start: a large database is read and checked first.
const START_SECONDS: i32 = 600;
pub(super) const DATA: &str = "/var/lib/etcd";
const PEER_CERTIFICATES: &str = "/etc/etcd/peer";
const SERVER_CERTIFICATES: &str = "/etc/etcd/server";

/// Builds the pod `name`; `start` says what it does with an empty volume.
pub fn build_pod(cluster: &Cluster, name: &str, start: &Start) -> Pod {
    let restoring = build_restoring(cluster, name).filter(|_| *start == Start::Seed);
    let restoring = restoring.map(|(container, volumes)| (vec![container], volumes));
    let recovering = build_recovering(cluster, name).filter(|_| *start == Start::Force);
    let recovering = recovering.map(|(containers, volume)| (containers, vec![volume]));
    let (first, more_volumes) = restoring.or(recovering).unzip();
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(lasting_labels(cluster)),

            annotations: Some(annotations(cluster, name, start)),
            owner_references: Some(vec![cluster.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            scheduling_gates: Some(vec![PodSchedulingGate {
                name: GATE.to_owned(),
            }]),
            hostname: Some(name.to_owned()),
            subdomain: Some(peer_service(&cluster.name)),
            init_containers: first,
            containers: vec![build_container(cluster, name)],
            volumes: Some([volumes(cluster, name), more_volumes.unwrap_or_default()].concat()),
            affinity: affinity(cluster, start),
            topology_spread_constraints: is_spread(cluster).then(|| vec![one_in_each_zone(cluster)]),
            priority_class_name: cluster.priority_class.clone(),
            restart_policy: Some("Always".to_owned()),
            termination_grace_period_seconds: Some(30),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(unprivileged()),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn annotations(cluster: &Cluster, name: &str, start: &Start) -> BTreeMap<String, String> {
    let mut annotations = start_annotations(cluster, name, start);
    annotations.insert(REVISION.to_owned(), revision(cluster));
    annotations
}

/// Tells pods apart that were made of different specs; a newer operator alone makes no other.
pub fn revision(cluster: &Cluster) -> String {
    let Release { version, image } = &cluster.release;
    let Resources {
        cpu,
        memory,
        memory_limit,
        go_memory_limit,
    } = &cluster.resources;
    let mut made_of = json!({
        "version": version.to_string(),
        "image": image,
        "quota": cluster.quota_bytes,
        "cpu": cpu.to_string(),
        "memory": [memory.to_string(), memory_limit.to_string(), go_memory_limit],
        "priorityClass": cluster.priority_class,
    });
    // Authorities are read when a member starts; who has never changed any is not made anew for this line.
    if let Some(trust) = &cluster.trust {
        made_of["trust"] = trust.as_str().into();
    }
    hex::encode(&Sha256::digest(made_of.to_string().as_bytes())[..5])
}

/// The annotations that say what a member does with an empty volume.
pub fn start_annotations(cluster: &Cluster, name: &str, start: &Start) -> BTreeMap<String, String> {
    let own = || vec![(name.to_owned(), peer_url(cluster, name))];
    let (state, members) = match start {
        Start::Seed => ("new", own()),
        Start::Join(members) => ("existing", members.clone()),
        // Without another member to ask, etcd ends when its volume is empty.
        Start::Rejoin | Start::Force => ("existing", own()),
    };
    let members: Vec<String> = members
        .iter()
        .map(|(name, url)| format!("{name}={url}"))
        .collect();
    BTreeMap::from([
        (START_STATE.to_owned(), state.to_owned()),
        (START_MEMBERS.to_owned(), members.join(",")),
        (START_FORCED.to_owned(), (*start == Start::Force).to_string()),
    ])
}

/// Reads back what [`start_annotations`] wrote.
pub fn read_start(name: &str, annotations: &BTreeMap<String, String>) -> Option<Start> {
    let members = annotations
        .get(START_MEMBERS)?
        .split(',')
        .map(|entry| entry.split_once('='));
    let members: Option<Vec<(String, String)>> = members
        .map(|entry| entry.map(|(name, url)| (name.to_owned(), url.to_owned())))
        .collect();
    let members = members?;
    match annotations.get(START_STATE)?.as_str() {
        "new" => Some(Start::Seed),
        _ if annotations
            .get(START_FORCED)
            .is_some_and(|forced| forced == "true") =>
        {
            Some(Start::Force)
        }
        _ if members.len() == 1 && members[0].0 == name => Some(Start::Rejoin),
        _ => Some(Start::Join(members)),
    }
}

fn build_container(cluster: &Cluster, name: &str) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(cluster.release.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["etcd".to_owned()]),
        args: Some(arguments(cluster, name)),
        env: Some(vec![
            annotation_variable("ETCD_INITIAL_CLUSTER_STATE", START_STATE),
            annotation_variable("ETCD_INITIAL_CLUSTER", START_MEMBERS),
            EnvVar {
                name: "GOMEMLIMIT".to_owned(),
                value: Some(cluster.resources.go_memory_limit.clone()),
                ..EnvVar::default()
            },
        ]),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("metrics", METRICS_PORT),
        ]),
        resources: Some(resources(cluster)),
        volume_mounts: Some(vec![
            mount("data", DATA, false),
            mount("peer-certificates", PEER_CERTIFICATES, true),
            mount("server-certificates", SERVER_CERTIFICATES, true),
        ]),
        startup_probe: Some(probe(
            "/livez",
            &Timing {
                period: 1,
                timeout: 1,
                failures: START_SECONDS,
            },
        )),
        // Never /health: it fails a full member too, and a restart would not help it.
        liveness_probe: Some(probe(
            "/livez",
            &Timing {
                period: 10,
                timeout: 5,
                failures: 6,
            },
        )),
        readiness_probe: Some(probe(
            "/readyz",
            &Timing {
                period: 2,
                timeout: 2,
                failures: 2,
            },
        )),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

/// As whom all containers of a pod run.
pub(super) fn unprivileged() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// What no container of a member needs more than.
pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

fn arguments(cluster: &Cluster, name: &str) -> Vec<String> {
    let host = member_host(cluster, name);
    let mut arguments = vec![
        format!("--name={name}"),
        format!("--data-dir={DATA}/data"),
        format!("--listen-client-urls=https://0.0.0.0:{CLIENT_PORT}"),
        // Nothing else is served on the clients' port: one that serves HTTP too ends by breaking calls off, not by letting
        // them finish.
        format!("--listen-client-http-urls=https://127.0.0.1:{HTTP_PORT}"),
        format!("--advertise-client-urls=https://{host}:{CLIENT_PORT}"),
        format!("--listen-peer-urls=https://0.0.0.0:{PEER_PORT}"),
        format!("--initial-advertise-peer-urls={}", peer_url(cluster, name)),
        format!("--listen-metrics-urls=http://0.0.0.0:{METRICS_PORT}"),
        format!("--initial-cluster-token={}", cluster.token()),
        format!("--cert-file={SERVER_CERTIFICATES}/tls.crt"),
        format!("--key-file={SERVER_CERTIFICATES}/tls.key"),
        format!("--trusted-ca-file={SERVER_CERTIFICATES}/ca.crt"),
        "--client-cert-auth=true".to_owned(),
        format!("--peer-cert-file={PEER_CERTIFICATES}/tls.crt"),
        format!("--peer-key-file={PEER_CERTIFICATES}/tls.key"),
        // A client certificate with names is checked against reverse DNS; this one has none.
        format!("--peer-client-cert-file={PEER_CERTIFICATES}/{CLIENT_CERT}"),
        format!("--peer-client-key-file={PEER_CERTIFICATES}/{CLIENT_KEY}"),
        format!("--peer-trusted-ca-file={PEER_CERTIFICATES}/ca.crt"),
        "--peer-client-cert-auth=true".to_owned(),
        "--tls-min-version=TLS1.2".to_owned(),
        format!("--quota-backend-bytes={}", cluster.quota_bytes),
        "--snapshot-count=10000".to_owned(),
        // The apiserver compacts.
        "--auto-compaction-retention=0".to_owned(),
        "--enable-grpc-gateway=false".to_owned(),
        "--strict-reconfig-check=true".to_owned(),
        "--pre-vote=true".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let by_version: &[&str] = match cluster.release.version.flag_style() {
        FlagStyle::FeatureGates => &[
            "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
            "--compact-hash-check-time=1m",
            "--corrupt-check-time=4h",
            "--watch-progress-notify-interval=5s",
        ],
        FlagStyle::Experimental => &[
            "--experimental-initial-corrupt-check=true",
            "--experimental-compact-hash-check-enabled=true",
            "--experimental-compact-hash-check-time=1m",
            "--experimental-corrupt-check-time=4h",
            "--experimental-watch-progress-notify-interval=5s",
        ],
    };
    arguments.extend(by_version.iter().map(|&argument| argument.to_owned()));
    arguments
}

fn annotation_variable(name: &str, annotation: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.annotations['{annotation}']"),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        ..ContainerPort::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

pub(super) fn resources(cluster: &Cluster) -> ResourceRequirements {
    let quantity = |name: &str, text: String| (name.to_owned(), Quantity(text));
    let asked = &cluster.resources;
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            quantity("cpu", asked.cpu.to_string()),
            quantity("memory", asked.memory.to_string()),
        ])),
        limits: Some(BTreeMap::from([quantity(
            "memory",
            asked.memory_limit.to_string(),
        )])),
        ..ResourceRequirements::default()
    }
}

/// The rhythm of a probe, in seconds and tries.
struct Timing {
    period: i32,
    timeout: i32,
    failures: i32,
}

fn probe(path: &str, timing: &Timing) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(METRICS_PORT),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(timing.period),
        timeout_seconds: Some(timing.timeout),
        failure_threshold: Some(timing.failures),
        ..Probe::default()
    }
}

fn volumes(cluster: &Cluster, name: &str) -> Vec<Volume> {
    let secret = |volume: &str, secret: String| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![
        Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim::name(name),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        },
        secret("peer-certificates", secret_name(&cluster.name, "peer")),
        secret("server-certificates", secret_name(&cluster.name, "server")),
    ]
}

fn is_spread(cluster: &Cluster) -> bool {
    cluster.members > 1
}

fn members_selector(cluster: &Cluster) -> LabelSelector {
    LabelSelector {
        match_labels: Some(member_labels(cluster)),
        ..LabelSelector::default()
    }
}

fn one_in_each_zone(cluster: &Cluster) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: labels::TOPOLOGY_ZONE.to_owned(),
        when_unsatisfiable: "DoNotSchedule".to_owned(),
        label_selector: Some(members_selector(cluster)),
        // The default, said for what it does: members on nodes that this one avoids do not count, as if they were gone.
        node_affinity_policy: Some("Honor".to_owned()),
        ..TopologySpreadConstraint::default()
    }
}

fn affinity(cluster: &Cluster, start: &Start) -> Option<Affinity> {
    // A member that has a volume goes where that is, until its successor has joined.
    let avoids = !cluster.avoided_nodes.is_empty() && matches!(start, Start::Join(_) | Start::Seed);
    (is_spread(cluster) || avoids).then(|| Affinity {
        node_affinity: avoids.then(|| away_from(&cluster.avoided_nodes)),
        pod_anti_affinity: is_spread(cluster).then(|| apart_from_other_members(cluster)),
        ..Affinity::default()
    })
}

fn away_from(nodes: &BTreeSet<String>) -> NodeAffinity {
    let other = |node: &String| NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        // The API takes one value for each.
        values: Some(vec![node.clone()]),
    };
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_fields: Some(nodes.iter().map(other).collect()),
                ..NodeSelectorTerm::default()
            }],
        }),
        ..NodeAffinity::default()
    }
}

fn apart_from_other_members(cluster: &Cluster) -> PodAntiAffinity {
    PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
            label_selector: Some(members_selector(cluster)),
            topology_key: "kubernetes.io/hostname".to_owned(),
            ..PodAffinityTerm::default()
        }]),
        ..PodAntiAffinity::default()
    }
}
