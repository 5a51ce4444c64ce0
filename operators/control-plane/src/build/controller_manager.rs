//! kube-controller-manager with leader election; it holds the cluster CA's key to sign nodes' requests.

use k8s_openapi::api::apps::v1::Deployment;
use skep_core::TenantNetwork;

use super::flags::Flags;
use super::workload::{Probes, Workload, build_deployment as build, key_path, probe, secret_files};
use crate::secrets::{
    AUTHORITY, CERTIFICATE, CLUSTER_CA, CONTROLLER_MANAGER_KUBECONFIG, FRONT_PROXY_CA, KUBECONFIG,
    PRIVATE_KEY, SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE,
};
use crate::validate::{Program, Tenant};

/// The port of metrics and health checks.
const PORT: i32 = 10257;
/// Time to end; the lease is released on the way.
const GRACE_SECONDS: i64 = 15;

/// Builds the Deployment `kube-controller-manager`.
pub fn build_deployment(tenant: &Tenant) -> Deployment {
    let component = &tenant.controller_manager;
    build(
        tenant,
        Workload {
            program: Program::ControllerManager,
            component,
            replicas: component.replicas,
            flags: build_flags(tenant),
            annotations: [].into(),
            environment: Vec::new(),
            port: PORT,
            probes: Probes {
                startup: probe("/healthz", 1, 300, 5),
                readiness: None,
                liveness: probe("/healthz", 10, 8, 15),
            },
            keys: vec![
                secret_files(CLUSTER_CA, &[CERTIFICATE, PRIVATE_KEY]),
                secret_files(FRONT_PROXY_CA, &[CERTIFICATE]),
                secret_files(SERVICE_ACCOUNT, &[SERVICE_ACCOUNT_PRIVATE]),
                secret_files(
                    CONTROLLER_MANAGER_KUBECONFIG,
                    &[KUBECONFIG, CERTIFICATE, PRIVATE_KEY, AUTHORITY],
                ),
            ],
            volumes: Vec::new(),
            sidecars: Vec::new(),
            grace_seconds: GRACE_SECONDS,
        },
    )
}

/// The flags of a tenant's kube-controller-manager.
pub fn build_flags(tenant: &Tenant) -> Flags {
    let kubeconfig = key_path(CONTROLLER_MANAGER_KUBECONFIG, KUBECONFIG);
    let authority = key_path(CLUSTER_CA, CERTIFICATE);
    Flags::common()
        .set("allocate-node-cidrs", "true")
        .set("authentication-kubeconfig", kubeconfig.as_str())
        .set("authorization-kubeconfig", kubeconfig.as_str())
        .set("bind-address", "0.0.0.0")
        .set("client-ca-file", authority.as_str())
        .set("cluster-cidr", tenant.network.pods.to_string())
        .set("cluster-name", tenant.cpid.as_str())
        .set("cluster-signing-cert-file", authority.as_str())
        .set("cluster-signing-key-file", key_path(CLUSTER_CA, PRIVATE_KEY))
        .set("controllers", "*,bootstrapsigner,tokencleaner")
        .set("kubeconfig", kubeconfig)
        .set("leader-elect", "true")
        .set("node-cidr-mask-size", node_mask(&tenant.network).to_string())
        .set(
            "requestheader-client-ca-file",
            key_path(FRONT_PROXY_CA, CERTIFICATE),
        )
        .set("root-ca-file", authority)
        .set("secure-port", PORT.to_string())
        .set(
            "service-account-private-key-file",
            key_path(SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE),
        )
        .set("service-cluster-ip-range", tenant.network.services.to_string())
        .set("terminated-pod-gc-threshold", "1000")
        .set("use-service-account-credentials", "true")
        .with(&tenant.controller_manager.arguments)
}

/// The prefix length of each node's share of the pods' range: /24, and smaller where the range is small, so
/// that at least sixteen nodes fit (no smaller than /28).
fn node_mask(network: &TenantNetwork) -> u8 {
    (network.pods.prefix_len() + 4).clamp(24, 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_nodes_fit_wherever_they_can() {
        for (pods, mask) in [
            ("10.0.0.0/8", 24),
            ("198.19.0.0/17", 24),
            ("198.19.0.0/22", 26),
            ("198.19.0.0/24", 28),
        ] {
            let network = TenantNetwork::parse(pods, "172.16.0.0/20", &[]).unwrap();
            assert_eq!(node_mask(&network), mask, "{pods}");
        }
    }
}
