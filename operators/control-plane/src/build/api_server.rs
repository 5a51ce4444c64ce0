//! kube-apiserver: active-active, one per zone, hardened as the CIS benchmark asks.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use skep_core::labels;

use super::configuration;
use super::etcd;
use super::flags::Flags;
use super::konnectivity;
use super::service::API_PORT;
use super::workload::{
    Probes, Workload, build_deployment as build, key_path, mount, named, probe, secret_files,
};
use crate::secrets::{
    API_SERVER, API_SERVER_KUBELET_CLIENT, AT_REST, AUTHORITY, CERTIFICATE, CLUSTER_CA, ENCRYPTION,
    FRONT_PROXY_CA, FRONT_PROXY_CLIENT, PRIVATE_KEY, SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE,
    SERVICE_ACCOUNT_PUBLIC,
};
use crate::validate::{Program, Tenant, WayBack};

const AUDIT_DIRECTORY: &str = "/var/log/kubernetes";
/// Eleven files of 100 MiB and some room: the log is capped by its own rotation, the volume by this.
const AUDIT_VOLUME_SIZE: &str = "1200Mi";
/// Time in which a stopping apiserver still serves, so that endpoints and gateway forget it first.
const SHUTDOWN_DELAY: &str = "5s";
/// The delay above, and time for requests under way.
const GRACE_SECONDS: i64 = 40;

/// Builds the Deployment `kube-apiserver`.
pub fn build_deployment(tenant: &Tenant, replicas: i32) -> Deployment {
    let component = &tenant.api_server;
    let pod_ip = EnvVar {
        name: "POD_IP".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "status.podIP".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    };
    build(
        tenant,
        Workload {
            program: Program::ApiServer,
            component,
            replicas,
            flags: build_flags(tenant),
            annotations: build_annotations(tenant),
            environment: vec![pod_ip],
            port: API_PORT,
            probes: Probes {
                startup: probe("/livez", 1, 300, 5),
                readiness: Some(probe("/readyz", 2, 3, 5)),
                // Without etcd's own check: an outage of the datastore must not restart every apiserver.
                liveness: probe("/livez?exclude=etcd", 10, 8, 15),
            },
            keys: build_keys(tenant),
            volumes: build_volumes(tenant),
            sidecars: tenant
                .konnectivity
                .iter()
                .map(|template| konnectivity::build_container(tenant, template))
                .collect(),
            grace_seconds: GRACE_SECONDS,
        },
    )
}

fn build_annotations(tenant: &Tenant) -> BTreeMap<String, String> {
    let mut annotations = configuration::build_checksum(tenant);
    if tenant.way_back == WayBack::Interface {
        annotations.insert(labels::TENANT_INTERFACE.to_owned(), tenant.cpid.to_string());
    }
    annotations
}

fn build_keys(tenant: &Tenant) -> Vec<VolumeProjection> {
    let mut keys = vec![
        secret_files(CLUSTER_CA, &[CERTIFICATE]),
        secret_files(FRONT_PROXY_CA, &[CERTIFICATE]),
        secret_files(
            SERVICE_ACCOUNT,
            &[SERVICE_ACCOUNT_PRIVATE, SERVICE_ACCOUNT_PUBLIC],
        ),
        secret_files(API_SERVER, &[CERTIFICATE, PRIVATE_KEY]),
        secret_files(API_SERVER_KUBELET_CLIENT, &[CERTIFICATE, PRIVATE_KEY]),
        secret_files(FRONT_PROXY_CLIENT, &[CERTIFICATE, PRIVATE_KEY]),
        secret_files(etcd::CLIENT_SECRET, &[CERTIFICATE, PRIVATE_KEY, AUTHORITY]),
        secret_files(AT_REST, &[ENCRYPTION]),
    ];
    if tenant.konnectivity.is_some() {
        keys.extend(konnectivity::build_keys());
    }
    keys
}

fn build_volumes(tenant: &Tenant) -> Vec<(Volume, VolumeMount)> {
    let configuration = Volume {
        config_map: Some(ConfigMapVolumeSource {
            name: Program::ApiServer.name().to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..named("configuration")
    };
    let audit = Volume {
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(AUDIT_VOLUME_SIZE.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..named("audit")
    };
    let mut volumes = vec![
        (
            configuration,
            mount("configuration", configuration::DIRECTORY, true),
        ),
        (audit, mount("audit", AUDIT_DIRECTORY, false)),
    ];
    if tenant.konnectivity.is_some() {
        volumes.push(konnectivity::build_volume());
    }
    volumes
}

/// The flags of a tenant's kube-apiserver.
pub fn build_flags(tenant: &Tenant) -> Flags {
    let flags = Flags::common()
        // The reconciler of endpoints is off: the address behind the Service `kubernetes` is the nodes' own
        // Envoy. The pod's address is given so that none is guessed from a default route.
        .set("advertise-address", "$(POD_IP)")
        .set("allow-privileged", "true")
        .set("bind-address", "0.0.0.0")
        .set("endpoint-reconciler-type", "none")
        .set("event-ttl", "1h")
        .set("goaway-chance", "0.001")
        .set("secure-port", API_PORT.to_string())
        .set("service-cluster-ip-range", tenant.network.services.to_string())
        .set("shutdown-delay-duration", SHUTDOWN_DELAY)
        .set("shutdown-send-retry-after", "true");
    let flags = add_datastore(flags, tenant);
    let flags = add_authentication(flags);
    let flags = add_way_back(flags, tenant);
    let flags = add_service_accounts(flags, tenant);
    add_admission_and_audit(flags).with(&tenant.api_server.arguments)
}

fn add_datastore(flags: Flags, tenant: &Tenant) -> Flags {
    flags
        .set("encryption-provider-config", key_path(AT_REST, ENCRYPTION))
        .set("encryption-provider-config-automatic-reload", "true")
        .set("etcd-cafile", key_path(etcd::CLIENT_SECRET, AUTHORITY))
        .set("etcd-certfile", key_path(etcd::CLIENT_SECRET, CERTIFICATE))
        .set("etcd-keyfile", key_path(etcd::CLIENT_SECRET, PRIVATE_KEY))
        .set("etcd-servers", etcd::client_url(tenant))
}

fn add_authentication(flags: Flags) -> Flags {
    let configuration = |file: &str| format!("{}/{file}", configuration::DIRECTORY);
    flags
        .set(
            "authentication-config",
            configuration(configuration::AUTHENTICATION),
        )
        .set("authorization-mode", "Node,RBAC")
        .set("client-ca-file", key_path(CLUSTER_CA, CERTIFICATE))
        .set("enable-bootstrap-token-auth", "true")
        // Kubelets' serving certificates are requested of the cluster and approved by this operator.
        .set("kubelet-certificate-authority", key_path(CLUSTER_CA, CERTIFICATE))
        .set(
            "kubelet-client-certificate",
            key_path(API_SERVER_KUBELET_CLIENT, CERTIFICATE),
        )
        .set(
            "kubelet-client-key",
            key_path(API_SERVER_KUBELET_CLIENT, PRIVATE_KEY),
        )
        .set(
            "kubelet-preferred-address-types",
            "InternalIP,ExternalIP,Hostname",
        )
        .set(
            "proxy-client-cert-file",
            key_path(FRONT_PROXY_CLIENT, CERTIFICATE),
        )
        .set("proxy-client-key-file", key_path(FRONT_PROXY_CLIENT, PRIVATE_KEY))
        .set("requestheader-allowed-names", "front-proxy-client")
        .set(
            "requestheader-client-ca-file",
            key_path(FRONT_PROXY_CA, CERTIFICATE),
        )
        .set("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .set("requestheader-group-headers", "X-Remote-Group")
        .set("requestheader-username-headers", "X-Remote-User")
        .set("tls-cert-file", key_path(API_SERVER, CERTIFICATE))
        .set("tls-private-key-file", key_path(API_SERVER, PRIVATE_KEY))
}

fn add_way_back(flags: Flags, tenant: &Tenant) -> Flags {
    // Webhooks and aggregated APIs are dialled at their pods: a Service's own address is known to nodes alone, and to
    // each of them a moment later than its endpoints are to us.
    let flags = flags.set("enable-aggregator-routing", "true");
    match tenant.konnectivity {
        Some(_) => flags.set(
            "egress-selector-config-file",
            format!("{}/{}", configuration::DIRECTORY, configuration::EGRESS),
        ),
        None => flags,
    }
}

fn add_service_accounts(flags: Flags, tenant: &Tenant) -> Flags {
    let issuer = format!("https://{}", tenant.endpoint.api);
    flags
        .set("api-audiences", issuer.as_str())
        .set("service-account-extend-token-expiration", "false")
        .set("service-account-jwks-uri", format!("{issuer}/openid/v1/jwks"))
        .set("service-account-issuer", issuer)
        .set(
            "service-account-key-file",
            key_path(SERVICE_ACCOUNT, SERVICE_ACCOUNT_PUBLIC),
        )
        .set("service-account-max-token-expiration", "24h")
        .set(
            "service-account-signing-key-file",
            key_path(SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE),
        )
}

fn add_admission_and_audit(flags: Flags) -> Flags {
    let configuration = |file: &str| format!("{}/{file}", configuration::DIRECTORY);
    flags
        .set(
            "admission-control-config-file",
            configuration(configuration::ADMISSION),
        )
        .set("audit-log-maxage", "30")
        .set("audit-log-maxbackup", "10")
        .set("audit-log-maxsize", "100")
        .set("audit-log-path", format!("{AUDIT_DIRECTORY}/audit.log"))
        .set("audit-policy-file", configuration(configuration::AUDIT))
        .set(
            "enable-admission-plugins",
            "NodeRestriction,EventRateLimit,DenyServiceExternalIPs",
        )
}
