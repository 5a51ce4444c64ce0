//! The Deployment of one component: everything that the three have in common.
//!
//! Restricted by Pod Security: no root, no capability, read-only root file system, no service-account token.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, KeyToPath,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skep_api::Availability;
use skep_api::control_plane::ComponentResources;
use skep_core::labels;

use super::flags::Flags;
use super::labels::{build_metadata, build_pod_labels, build_selector};
use crate::validate::{Component, Program, Tenant};

/// The priority class of every pod of a tenant's control plane.
pub const PRIORITY_CLASS: &str = "skep-tenant";
/// The user and group that every component runs as.
const USER: i64 = 65532;
/// Where keys and certificates are mounted.
pub const PKI: &str = "/etc/kubernetes/pki";

/// What is particular to one component.
pub struct Workload<'a> {
    /// Which program.
    pub program: Program,
    /// Its template.
    pub component: &'a Component,
    /// How many pods run now.
    pub replicas: i32,
    /// Its flags.
    pub flags: Flags,
    /// Annotations of the pods; a change replaces them.
    pub annotations: BTreeMap<String, String>,
    /// Environment beyond `GOMEMLIMIT`.
    pub environment: Vec<EnvVar>,
    /// The port that serves API and probes.
    pub port: i32,
    /// The three probes.
    pub probes: Probes,
    /// Secret files below [`PKI`].
    pub keys: Vec<VolumeProjection>,
    /// Further volumes and where they are mounted.
    pub volumes: Vec<(Volume, VolumeMount)>,
    /// Containers beside it.
    pub sidecars: Vec<Container>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: i64,
}

/// The probes of a component.
pub struct Probes {
    /// Until this one succeeds the others wait; its patience is minutes, because many tenants may start at once.
    pub startup: Probe,
    /// Whether requests may be sent.
    pub readiness: Option<Probe>,
    /// Whether the process must be replaced.
    pub liveness: Probe,
}

/// Builds the Deployment of one component.
pub fn build_deployment(tenant: &Tenant, workload: Workload<'_>) -> Deployment {
    let name = workload.program.name();
    let (replicas, annotations) = (workload.replicas, workload.annotations.clone());
    Deployment {
        metadata: build_metadata(tenant, name, name),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(2),
            selector: build_selector(tenant, name),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(build_pod_labels(tenant, name)),
                    annotations: (!annotations.is_empty()).then_some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(build_pod(tenant, workload)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn build_pod(tenant: &Tenant, mut workload: Workload<'_>) -> PodSpec {
    let name = workload.program.name();
    let is_spread = tenant.availability == Availability::ZoneRedundant;
    let grace_seconds = workload.grace_seconds;
    let mut volumes = vec![
        projected("pki", workload.keys.clone()),
        Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..named("tmp")
        },
    ];
    volumes.extend(workload.volumes.iter().map(|(volume, _)| volume.clone()));
    let sidecars = std::mem::take(&mut workload.sidecars);
    PodSpec {
        affinity: is_spread.then(|| build_anti_affinity(tenant, name)),
        automount_service_account_token: Some(false),
        containers: std::iter::once(build_container(workload))
            .chain(sidecars)
            .collect(),
        enable_service_links: Some(false),
        priority_class_name: Some(PRIORITY_CLASS.to_owned()),
        security_context: Some(PodSecurityContext {
            fs_group: Some(USER),
            run_as_group: Some(USER),
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(grace_seconds),
        topology_spread_constraints: is_spread.then(|| vec![build_spread(tenant, name)]),
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn build_container(workload: Workload<'_>) -> Container {
    let Workload {
        program,
        component,
        flags,
        mut environment,
        port,
        probes,
        volumes,
        ..
    } = workload;
    let resources = &component.resources;
    if let Some(limit) = &resources.go_memory_limit {
        environment.push(variable("GOMEMLIMIT", limit));
    }
    let mut mounts = vec![mount("pki", PKI, true), mount("tmp", "/tmp", false)];
    mounts.extend(volumes.into_iter().map(|(_, mount)| mount));
    Container {
        name: program.name().to_owned(),
        image: Some(component.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![program.name().to_owned()]),
        args: Some(flags.render()),
        env: (!environment.is_empty()).then_some(environment),
        ports: Some(vec![ContainerPort {
            name: Some("https".to_owned()),
            container_port: port,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        startup_probe: Some(probes.startup),
        readiness_probe: probes.readiness,
        liveness_probe: Some(probes.liveness),
        resources: Some(build_resources(resources)),
        security_context: Some(build_security()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// What a container asks for and may take.
pub fn build_resources(resources: &ComponentResources) -> ResourceRequirements {
    let amount = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some(
            [("cpu", &resources.cpu), ("memory", &resources.memory)]
                .map(|(name, text)| (name.to_owned(), amount(text)))
                .into(),
        ),
        // No CPU limit: throttling turns a busy apiserver into a dead one.
        limits: Some([("memory".to_owned(), amount(&resources.memory_limit))].into()),
        ..ResourceRequirements::default()
    }
}

/// No right but that to run.
pub fn build_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// One pod more in a zone than in any other at most. A zone whose nodes are tainted counts as absent, so
/// that its replicas come back elsewhere; each revision is spread by itself, so that a surge finds room.
fn build_spread(tenant: &Tenant, name: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: Some(build_selector(tenant, name)),
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        max_skew: 1,
        node_taints_policy: Some("Honor".to_owned()),
        topology_key: labels::TOPOLOGY_ZONE.to_owned(),
        when_unsatisfiable: "DoNotSchedule".to_owned(),
        ..TopologySpreadConstraint::default()
    }
}

/// Prefers nodes without a pod of the same component; required would leave no room for a surge.
fn build_anti_affinity(tenant: &Tenant, name: &str) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(build_selector(tenant, name)),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// An HTTPS probe of the port named `https`.
pub fn probe(path: &str, period_seconds: i32, failures: i32, timeout_seconds: i32) -> Probe {
    let port = IntOrString::String("https".to_owned());
    build_probe(path, port, "HTTPS", period_seconds, failures, timeout_seconds)
}

/// A probe of a numbered port.
pub fn probe_of(
    path: &str,
    port: i32,
    scheme: &str,
    period_seconds: i32,
    failures: i32,
    timeout_seconds: i32,
) -> Probe {
    let port = IntOrString::Int(port);
    build_probe(path, port, scheme, period_seconds, failures, timeout_seconds)
}

fn build_probe(
    path: &str,
    port: IntOrString,
    scheme: &str,
    period_seconds: i32,
    failures: i32,
    timeout_seconds: i32,
) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port,
            scheme: Some(scheme.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}

/// Chosen files of a Secret, below a directory of the Secret's name.
pub fn secret_files(secret: &str, files: &[&str]) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(
                files
                    .iter()
                    .map(|file| KeyToPath {
                        key: (*file).to_owned(),
                        path: format!("{secret}/{file}"),
                        mode: None,
                    })
                    .collect(),
            ),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

/// A projected volume that the group alone may read.
pub fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(0o440),
            sources: Some(sources),
        }),
        ..named(name)
    }
}

/// A volume of which only the name is set.
pub fn named(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        ..Volume::default()
    }
}

/// Mounts a volume as a whole.
pub fn mount(volume: &str, path: &str, is_read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: is_read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// An environment variable with a plain value.
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

/// The path of a key or certificate in the container.
pub fn key_path(secret: &str, file: &str) -> String {
    format!("{PKI}/{secret}/{file}")
}
