//! The server of the way back (`apiserver-network-proxy`): a container beside each kube-apiserver.
//!
//! The apiserver speaks to it through a socket in the pod; agents on the tenant's nodes dial it through the gateway.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, Lifecycle, LifecycleHandler,
    ObjectFieldSelector, SleepAction, Volume, VolumeMount, VolumeProjection,
};
use skep_api::control_plane::SidecarTemplate;

use super::workload::{
    PKI, build_resources, build_security, key_path, mount, named, probe_of, secret_files, variable,
};
use crate::secrets::{
    AUTHORITY, CERTIFICATE, KONNECTIVITY_KUBECONFIG, KONNECTIVITY_SERVER, KUBECONFIG, PRIVATE_KEY,
};
use crate::validate::Tenant;

/// The name of the container, and of the port of agents in the Service.
pub const NAME: &str = "konnectivity";
/// The port that agents dial, through the gateway.
pub const AGENT_PORT: i32 = 8132;
/// The port of health checks.
const HEALTH_PORT: i32 = 8134;
/// The socket between apiserver and server.
pub const SOCKET: &str = "/run/konnectivity/server.sock";
const DIRECTORY: &str = "/run/konnectivity";
/// A stopping apiserver still serves for so many seconds, and its requests need the way back.
const STOP_DELAY_SECONDS: i64 = 10;

/// The volume of the socket, and where both containers mount it.
pub fn build_volume() -> (Volume, VolumeMount) {
    let volume = Volume {
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..named(NAME)
    };
    (volume, mount(NAME, DIRECTORY, false))
}

/// Keys that the server needs beside those of the apiserver.
pub fn build_keys() -> Vec<VolumeProjection> {
    vec![
        secret_files(KONNECTIVITY_SERVER, &[CERTIFICATE, PRIVATE_KEY]),
        secret_files(
            KONNECTIVITY_KUBECONFIG,
            &[KUBECONFIG, CERTIFICATE, PRIVATE_KEY, AUTHORITY],
        ),
    ]
}

/// Builds the container.
pub fn build_container(tenant: &Tenant, template: &SidecarTemplate) -> Container {
    let mut environment = vec![EnvVar {
        name: "POD_NAME".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "metadata.name".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }];
    if let Some(limit) = &template.resources.go_memory_limit {
        environment.push(variable("GOMEMLIMIT", limit));
    }
    Container {
        name: NAME.to_owned(),
        image: Some(template.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["proxy-server".to_owned()]),
        args: Some(build_arguments(tenant)),
        env: Some(environment),
        ports: Some(vec![ContainerPort {
            name: Some(NAME.to_owned()),
            container_port: AGENT_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(probe_of("/healthz", HEALTH_PORT, "HTTP", 10, 6, 15)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: STOP_DELAY_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(build_resources(&template.resources)),
        security_context: Some(build_security()),
        volume_mounts: Some(vec![mount("pki", PKI, true), build_volume().1]),
        ..Container::default()
    }
}

fn build_arguments(tenant: &Tenant) -> Vec<String> {
    // An agent dials until it has met so many servers.
    let servers = tenant.api_server.replicas.max(1).to_string();
    let agent_port = AGENT_PORT.to_string();
    let health_port = HEALTH_PORT.to_string();
    let (certificate, key) = (
        key_path(KONNECTIVITY_SERVER, CERTIFICATE),
        key_path(KONNECTIVITY_SERVER, PRIVATE_KEY),
    );
    let kubeconfig = key_path(KONNECTIVITY_KUBECONFIG, KUBECONFIG);
    [
        ("logtostderr", "true"),
        ("v", "1"),
        ("mode", "grpc"),
        ("server-id", "$(POD_NAME)"),
        ("server-count", &servers),
        ("uds-name", SOCKET),
        ("delete-existing-uds-file", "true"),
        ("server-port", "0"),
        ("agent-port", &agent_port),
        ("admin-bind-address", "127.0.0.1"),
        ("health-port", &health_port),
        ("cluster-cert", &certificate),
        ("cluster-key", &key),
        ("agent-namespace", "kube-system"),
        ("agent-service-account", "konnectivity-agent"),
        ("authentication-audience", "system:konnectivity-server"),
        ("kubeconfig", &kubeconfig),
        ("proxy-strategies", "destHost,default"),
        ("keepalive-time", "30s"),
        ("frontend-keepalive-time", "30s"),
    ]
    .map(|(name, value)| format!("--{name}={value}"))
    .to_vec()
}
