//! The address of a tenant's apiservers inside the cell.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::konnectivity;
use super::labels::{build_metadata, build_selector_labels};
use crate::validate::{Program, Tenant};

/// The port that kube-apiserver listens on.
pub const API_PORT: i32 = 6443;

/// The host name of the Service in the cell.
pub fn service_host(tenant: &Tenant) -> String {
    format!("{}.{}.svc", Program::ApiServer.name(), tenant.namespace())
}

/// Builds the Service `kube-apiserver`.
pub fn build_service(tenant: &Tenant) -> Service {
    let name = Program::ApiServer.name();
    Service {
        metadata: build_metadata(tenant, name, name),
        spec: Some(ServiceSpec {
            selector: Some(build_selector_labels(tenant, name)),
            ports: Some(build_ports(tenant)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn build_ports(tenant: &Tenant) -> Vec<ServicePort> {
    let port = |name: &str, port: i32| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let mut ports = vec![port("https", API_PORT)];
    if tenant.konnectivity.is_some() {
        // The gateway goes by this name.
        ports.push(port(konnectivity::NAME, konnectivity::AGENT_PORT));
    }
    ports
}
