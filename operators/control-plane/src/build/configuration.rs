//! kube-apiserver's configuration files: who may come without credentials, what is audited, what is limited.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use super::labels::build_metadata;
use crate::validate::{Program, Tenant};

/// Where the files are mounted.
pub const DIRECTORY: &str = "/etc/kubernetes/config";
/// The file for `--authentication-config`.
pub const AUTHENTICATION: &str = "authentication.yaml";
/// The file for `--audit-policy-file`.
pub const AUDIT: &str = "audit-policy.yaml";
/// The file for `--admission-control-config-file`.
pub const ADMISSION: &str = "admission.yaml";

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
    ConfigMap {
        metadata: build_metadata(tenant, name, name),
        data: Some(
            [
                (AUTHENTICATION, AUTHENTICATION_TEXT),
                (AUDIT, AUDIT_TEXT),
                (ADMISSION, ADMISSION_TEXT),
            ]
            .map(|(file, text)| (file.to_owned(), text.to_owned()))
            .into(),
        ),
        ..ConfigMap::default()
    }
}

/// The annotation over the files that are read once; a hash of constants of this program and of nothing else.
pub fn build_checksum() -> BTreeMap<String, String> {
    let mut hash = Sha256::new();
    for text in [AUTHENTICATION_TEXT, AUDIT_TEXT, ADMISSION_TEXT] {
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
