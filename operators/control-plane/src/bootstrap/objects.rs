//! What a tenant holds from birth: the platform's roles, and what plain `kubeadm join` reads.
//!
//! Names, groups and keys are kubeadm's own (`cmd/kubeadm/app/constants`), so that any kubeadm of a supported
//! version can join a node.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::TENANT_ADMINS;
use crate::build::labels::MANAGED_BY;
use crate::material::KUBELET_CLIENT;
use crate::validate::Tenant;

/// The gateway's port, as nodes reach it.
const GATEWAY_PORT: u16 = 443;
/// Whoever holds a bootstrap token of kubeadm's.
const BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Every node that has joined.
const NODES: &str = "system:nodes";
const RBAC: &str = "rbac.authorization.k8s.io";

/// One object and its kind, ready to be applied.
pub struct Bootstrapped {
    /// The object.
    pub object: DynamicObject,
    /// Its kind.
    pub kind: ApiResource,
}

/// Everything that a tenant holds from birth. `authorities` is what nodes trust, PEM: the cluster's CA, and the
/// one by which its apiserver is known to kubelets.
///
/// # Errors
/// Never for objects of this module; the type of the conversion says otherwise.
pub fn build_objects(tenant: &Tenant, authorities: &str) -> Result<Vec<Bootstrapped>, serde_json::Error> {
    let mut objects = build_platform_roles();
    objects.extend(build_join_data(tenant, authorities)?);
    objects.extend(build_join_roles());
    objects.extend(build_node_guard(tenant));
    objects.into_iter().map(bootstrapped).collect()
}

fn bootstrapped(mut value: Value) -> Result<Bootstrapped, serde_json::Error> {
    value["metadata"]["labels"] = json!({skep_core::labels::APP_MANAGED_BY: MANAGED_BY});
    let object: DynamicObject = serde_json::from_value(value)?;
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types
        .api_version
        .split_once('/')
        .unwrap_or(("", &types.api_version));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    Ok(Bootstrapped { object, kind })
}

/// The roles that the platform hands out inside a tenant.
fn build_platform_roles() -> Vec<Value> {
    vec![
        cluster_binding("skep:tenant-admins", "cluster-admin", &[group(TENANT_ADMINS)]),
        cluster_binding(
            "skep:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            &[user(KUBELET_CLIENT)],
        ),
    ]
}

/// Where the cluster is, what it is, and how its kubelets are configured.
fn build_join_data(tenant: &Tenant, authorities: &str) -> Result<[Value; 3], serde_json::Error> {
    let server = format!("https://{}:{GATEWAY_PORT}", tenant.endpoint.node);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {
            "server": server,
            "certificate-authority-data": data_encoding::BASE64.encode(authorities.as_bytes()),
        }}],
        "contexts": [], "users": [], "current-context": "",
    });
    let cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": tenant.cpid,
        "controlPlaneEndpoint": format!("{}:{GATEWAY_PORT}", tenant.endpoint.node),
        "kubernetesVersion": format!("v{}", tenant.version),
        "networking": {
            "dnsDomain": "cluster.local",
            "podSubnet": tenant.network.pods,
            "serviceSubnet": tenant.network.services,
        },
    });
    let map = |namespace: &str, name: &str, key: &str, content: &Value| -> Result<Value, serde_json::Error> {
        // JSON is YAML.
        let text = serde_json::to_string_pretty(content)?;
        Ok(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": namespace, "name": name}, "data": {key: text}}))
    };
    Ok([
        map("kube-public", "cluster-info", "kubeconfig", &kubeconfig)?,
        map("kube-system", "kubeadm-config", "ClusterConfiguration", &cluster)?,
        map(
            "kube-system",
            "kubelet-config",
            "kubelet",
            &build_kubelet_configuration(tenant),
        )?,
    ])
}

/// What is the same for all kubelets of a tenant; what a machine is made of, its own patch says.
fn build_kubelet_configuration(tenant: &Tenant) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": tenant.network.cluster_dns().map(|address| vec![address]).unwrap_or_default(),
        "clusterDomain": "cluster.local",
        "rotateCertificates": true,
        "serverTLSBootstrap": true,
        "staticPodPath": "/etc/kubernetes/manifests",
    })
}

/// What a node that joins may read and ask for.
fn build_join_roles() -> Vec<Value> {
    let joining = [group(BOOTSTRAPPERS), group(NODES)];
    let mut roles = vec![
        cluster_binding(
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            &[group(BOOTSTRAPPERS)],
        ),
        cluster_binding(
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            &[group(BOOTSTRAPPERS)],
        ),
        cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            &[group(NODES)],
        ),
        // A joining node looks whether its name is taken.
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
            "metadata": {"name": "kubeadm:get-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]}),
        cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &[group(BOOTSTRAPPERS)]),
    ];
    roles.extend(reading(
        "kube-public",
        "kubeadm:bootstrap-signer-clusterinfo",
        "cluster-info",
        &[user("system:anonymous")],
    ));
    roles.extend(reading(
        "kube-system",
        "kubeadm:nodes-kubeadm-config",
        "kubeadm-config",
        &joining,
    ));
    roles.extend(reading(
        "kube-system",
        "kubeadm:kubelet-config",
        "kubelet-config",
        &joining,
    ));
    roles
}

/// The oldest kubelet that an apiserver works with, in minors below its own (the version skew policy of Kubernetes).
const KUBELET_SKEW: u64 = 3;

/// Refuses nodes whose kubelet is newer than the apiserver, or too old for it. Only new nodes are judged: one that was
/// there before an upgrade must go on telling its state.
fn build_node_guard(tenant: &Tenant) -> [Value; 2] {
    let name = "skep-node-version";
    let minor = u64::from(tenant.version.minor);
    let oldest = minor.saturating_sub(KUBELET_SKEW);
    let version = "object.status.nodeInfo.kubeletVersion";
    let range = format!("between 1.{oldest} and 1.{minor}");
    let api = "admissionregistration.k8s.io/v1";
    [
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nodes"],
            }]},
            "matchConditions": [{"name": "tells-its-version", "expression": format!(
                "has(object.status) && has(object.status.nodeInfo) && {version} != ''"
            )}],
            "validations": [{
                "expression": format!(
                    "{version}.matches('^v1[.][0-9]+[.]') && int({version}.split('.')[1]) >= {oldest} \
                     && int({version}.split('.')[1]) <= {minor}"
                ),
                "messageExpression": format!(
                    "'status.nodeInfo.kubeletVersion: ' + {version} + \
                     ' cannot join this cluster of {}; the kubelet must be {range}'",
                    tenant.version
                ),
                "reason": "Invalid",
            }],
        }}),
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}}),
    ]
}

/// A role that reads one `ConfigMap`, and its binding.
fn reading(namespace: &str, name: &str, map: &str, subjects: &[Value]) -> [Value; 2] {
    let metadata = json!({"namespace": namespace, "name": name});
    [
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [map], "verbs": ["get"]}]}),
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}, "subjects": subjects}),
    ]
}

fn cluster_binding(name: &str, role: &str, subjects: &[Value]) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": subjects})
}

fn group(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "Group", "name": name})
}

fn user(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "User", "name": name})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;

    #[test]
    fn golden() {
        let objects = build_objects(&tenant(), "-----BEGIN CERTIFICATE-----\n").unwrap();
        let objects: Vec<_> = objects
            .into_iter()
            .map(|bootstrapped| bootstrapped.object)
            .collect();
        insta::assert_snapshot!(serde_json::to_string_pretty(&objects).unwrap());
    }
}
