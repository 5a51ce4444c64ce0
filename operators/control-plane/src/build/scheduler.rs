//! kube-scheduler with leader election.

use k8s_openapi::api::apps::v1::Deployment;

use super::flags::Flags;
use super::workload::{Probes, Workload, build_deployment as build, key_path, probe, secret_files};
use crate::secrets::{
    AUTHORITY, CERTIFICATE, CLUSTER_CA, FRONT_PROXY_CA, KUBECONFIG, PRIVATE_KEY, SCHEDULER_KUBECONFIG,
};
use crate::validate::{Program, Tenant};

/// The port of metrics and health checks.
const PORT: i32 = 10259;
/// Time to end; the lease is released on the way.
const GRACE_SECONDS: i64 = 15;

/// Builds the Deployment `kube-scheduler`.
pub fn build_deployment(tenant: &Tenant) -> Deployment {
    let component = &tenant.scheduler;
    build(
        tenant,
        Workload {
            program: Program::Scheduler,
            component,
            replicas: component.replicas,
            flags: build_flags(tenant),
            annotations: [].into(),
            environment: Vec::new(),
            port: PORT,
            probes: Probes {
                startup: probe("/livez", 1, 300, 5),
                readiness: None,
                liveness: probe("/livez", 10, 8, 15),
            },
            keys: vec![
                secret_files(CLUSTER_CA, &[CERTIFICATE]),
                secret_files(FRONT_PROXY_CA, &[CERTIFICATE]),
                secret_files(
                    SCHEDULER_KUBECONFIG,
                    &[KUBECONFIG, CERTIFICATE, PRIVATE_KEY, AUTHORITY],
                ),
            ],
            volumes: Vec::new(),
            sidecars: Vec::new(),
            grace_seconds: GRACE_SECONDS,
        },
    )
}

/// The flags of a tenant's kube-scheduler.
pub fn build_flags(tenant: &Tenant) -> Flags {
    let kubeconfig = key_path(SCHEDULER_KUBECONFIG, KUBECONFIG);
    Flags::common()
        .set("authentication-kubeconfig", kubeconfig.as_str())
        .set("authorization-kubeconfig", kubeconfig.as_str())
        .set("bind-address", "0.0.0.0")
        .set("client-ca-file", key_path(CLUSTER_CA, CERTIFICATE))
        .set("kubeconfig", kubeconfig)
        .set("leader-elect", "true")
        .set(
            "requestheader-client-ca-file",
            key_path(FRONT_PROXY_CA, CERTIFICATE),
        )
        .set("secure-port", PORT.to_string())
        .with(&tenant.scheduler.arguments)
}
