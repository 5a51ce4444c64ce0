//! kube-apiserver's configuration files: who may come without credentials, what is audited, what is limited.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use super::labels::build_metadata;
use crate::validate::{Program, Tenant, WayBack};

/// Where the files are mounted.
pub const DIRECTORY: &str = "/etc/kubernetes/config";
/// The file for `--authentication-config`.
pub const AUTHENTICATION: &str = "authentication.yaml";
/// The file for `--audit-policy-file`.
pub const AUDIT: &str = "audit-policy.yaml";
/// The file for `--admission-control-config-file`.
pub const ADMISSION: &str = "admission.yaml";
/// The file for `--egress-selector-config-file`.
pub const EGRESS: &str = "egress.yaml";

/// The annotation that replaces pods when a file changes that the apiserver reads only once.
pub const CHECKSUM: &str = "skep.dev/configuration-checksum";

/// Beside health, what `kubeadm join` reads before it trusts anybody.
const AUTHENTICATION_TEXT: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
  - path: /api/v1/namespaces/kube-public/configmaps/cluster-info
";

const ADMISSION_TEXT: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: EventRateLimit
  configuration:
    apiVersion: eventratelimit.admission.k8s.io/v1alpha1
    kind: Configuration
    limits:
    - type: Server
      qps: 200
      burst: 1000
    - type: Namespace
      qps: 50
      burst: 200
      cacheSize: 500
";

/// The way back. Kubelets, pods and Services (`cluster`) are reached through an agent in the tenant's network, or by
/// the pod's own interface in it; webhooks that a tenant names by URL (`controlplane`) always through an agent. So no
/// URL leads into the cell; what an apiserver with an interface dials itself, its provider keeps out of the cell.
fn egress_text(way_back: WayBack) -> String {
    let by_agent = |name: &str| {
        format!(
            "\
- name: {name}
  connection:
    proxyProtocol: GRPC
    transport:
      uds:
        udsName: {}
",
            super::konnectivity::SOCKET
        )
    };
    let cluster = match way_back {
        WayBack::Konnectivity => by_agent("cluster"),
        WayBack::Interface => "\
- name: cluster
  connection:
    proxyProtocol: Direct
"
        .to_owned(),
    };
    format!(
        "\
apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
{}{}",
        cluster,
        by_agent("controlplane")
    )
}

/// Who read a Secret or a token and who changed anything, never the content; noise is left out.
const AUDIT_TEXT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: [/livez*, /readyz*, /healthz*, /version, /openapi*]
- level: None
  resources:
  - group: coordination.k8s.io
    resources: [leases]
  - group: ''
    resources: [events]
  - group: events.k8s.io
    resources: [events]
- level: Metadata
  resources:
  - group: ''
    resources: [secrets, configmaps, serviceaccounts/token, pods/exec, pods/attach, pods/portforward, pods/proxy, services/proxy, nodes/proxy]
  - group: authentication.k8s.io
    resources: [tokenreviews]
- level: None
  userGroups: ['system:nodes', 'system:serviceaccounts:kube-system', 'system:authenticated']
  verbs: [get, list, watch]
- level: Metadata
";

/// Builds the `ConfigMap` named `kube-apiserver`.
pub fn build_config_map(tenant: &Tenant) -> ConfigMap {
    let name = Program::ApiServer.name();
    let files = files_of(tenant).into_iter();
    ConfigMap {
        metadata: build_metadata(tenant, name, name),
        data: Some(files.map(|(file, text)| (file.to_owned(), text)).collect()),
        ..ConfigMap::default()
    }
}

fn files_of(tenant: &Tenant) -> Vec<(&'static str, String)> {
    let mut files = vec![
        (AUTHENTICATION, AUTHENTICATION_TEXT.to_owned()),
        (AUDIT, AUDIT_TEXT.to_owned()),
        (ADMISSION, ADMISSION_TEXT.to_owned()),
    ];
    if tenant.konnectivity.is_some() {
        files.push((EGRESS, egress_text(tenant.way_back)));
    }
    files
}

/// The annotation over the files that are read once; a hash of constants of this program and of nothing else.
pub fn build_checksum(tenant: &Tenant) -> BTreeMap<String, String> {
    let mut hash = Sha256::new();
    for (_, text) in files_of(tenant) {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let text = digest
        .iter()
        .take(8)
        .fold(String::with_capacity(16), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
    [(CHECKSUM.to_owned(), text)].into()
}
